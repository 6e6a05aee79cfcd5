//! The contradiction of a problem and the principles that resolved it, by Altshuller's matrix.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::{
    measures::words::{sentences, words},
    problem_terms::stem,
};

/// Parameters of each side that are looked up.
const MAX_SIDE: usize = 3;
/// Words behind which a problem says what must not get worse.
const TURNING_WORDS: [&str; 9] =
    ["although", "but", "despite", "however", "unless", "while", "whereas", "without", "yet"];

/// A parameter of the matrix, and the stems of the words that name it.
struct MatrixParameter {
    name: &'static str,
    stems: Vec<&'static str>,
}

static PARAMETERS: LazyLock<Vec<MatrixParameter>> = LazyLock::new(|| {
    let lines = include_str!("data/parameters.txt").lines().filter(|line| !line.starts_with('#'));
    let parameter = |(name, named_by): (&'static str, &'static str)| MatrixParameter {
        name,
        stems: named_by.split(' ').map(stem).collect(),
    };
    lines.filter_map(|line| line.split_once('|')).map(parameter).collect()
});

/// The cells: a row for what improves, a column for what gets worse; numbers of principles from 1.
static CELLS: LazyLock<Vec<Vec<Vec<usize>>>> = LazyLock::new(|| {
    let lines = include_str!("data/matrix.txt").lines().filter(|line| !line.starts_with('#'));
    let cell = |cell: &str| cell.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    lines.map(|line| line.split('|').map(cell).collect()).collect()
});

/// Principles that the matrix names for a problem, best first, each with the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PrincipleChoice {
    /// Number of the principle, from 1.
    pub(super) number: usize,
    /// The cells or the rows that name it.
    pub(super) basis: String,
}

/// Numbers of the parameters, from 0, that the words name, in the order of the words.
fn named_parameters(words: &[String]) -> Vec<usize> {
    let mut found = Vec::new();
    for word in words {
        let stem = stem(word);
        for (at, parameter) in PARAMETERS.iter().enumerate() {
            if parameter.stems.contains(&stem) && !found.contains(&at) {
                found.push(at);
            }
        }
    }
    found
}

/// What must improve, and what gets worse: parameters that are named before and behind a turning word of a sentence.
fn sides(problem: &str) -> (Vec<usize>, Vec<usize>) {
    let (mut better, mut worse) = (Vec::new(), Vec::new());
    for sentence in sentences(problem) {
        let words = words(sentence);
        let turn = words.iter().position(|word| TURNING_WORDS.contains(&word.as_str())).unwrap_or(words.len());
        better.extend_from_slice(&words[..turn]);
        worse.extend_from_slice(&words[turn..]);
    }
    let better = named_parameters(&better);
    let mut worse = named_parameters(&worse);
    worse.retain(|parameter| !better.contains(parameter));
    (better.into_iter().take(MAX_SIDE).collect(), worse.into_iter().take(MAX_SIDE).collect())
}

/// The principles for a problem. With a contradiction whose cells are filled: those of the cells. With parameters but no
/// contradiction: those that their rows name most often. Without parameters: none.
pub(super) fn principles_for(problem: &str) -> Vec<PrincipleChoice> {
    let (better, worse) = sides(problem);
    let mut found: BTreeMap<usize, (usize, Vec<String>)> = BTreeMap::new();
    for (row, column) in better.iter().flat_map(|row| worse.iter().map(move |column| (*row, *column))) {
        for (place, number) in CELLS[row][column].iter().enumerate() {
            let entry = found.entry(*number).or_default();
            // The first principle of a cell is the one that was found most often.
            entry.0 += 4usize.saturating_sub(place);
            entry.1.push(format!("cell {} x {}", PARAMETERS[row].name, PARAMETERS[column].name));
        }
    }
    if found.is_empty() {
        for row in &better {
            for number in CELLS[*row].iter().flatten() {
                let entry = found.entry(*number).or_default();
                entry.0 += 1;
                entry.1 = vec![format!("row {}", PARAMETERS[*row].name)];
            }
        }
    }
    let mut ranked: Vec<(usize, (usize, Vec<String>))> = found.into_iter().collect();
    ranked.sort_by(|(left, (left_weight, _)), (right, (right_weight, _))| {
        right_weight.cmp(left_weight).then(left.cmp(right))
    });
    let choice = |(number, (_, cells)): (usize, (usize, Vec<String>))| PrincipleChoice {
        number,
        basis: format!("contradiction matrix: {}", cells.join("; ")),
    };
    ranked.into_iter().map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_whole_and_has_the_published_cells() {
        assert_eq!((PARAMETERS.len(), CELLS.len()), (39, 39));
        assert!(CELLS.iter().all(|row| row.len() == 39));
        let all = || CELLS.iter().flatten().flatten();
        assert!(all().all(|number| (1..=40).contains(number)));
        assert_eq!(CELLS.iter().flatten().filter(|cell| !cell.is_empty()).count(), 1_171);
        assert!((0..39).all(|at| CELLS[at][at].is_empty()), "nothing contradicts itself");
        // Cells that are widely quoted, by the parameters' numbers from 1.
        let quoted: [((usize, usize), &[usize]); 9] = [
            ((1, 3), &[15, 8, 29, 34]),
            ((1, 14), &[28, 27, 18, 40]),
            ((1, 21), &[12, 36, 18, 31]),
            ((1, 39), &[35, 3, 24, 37]),
            ((2, 4), &[10, 1, 29, 35]),
            ((9, 27), &[11, 35, 27, 28]),
            ((10, 1), &[8, 1, 37, 18]),
            ((19, 9), &[8, 35]),
            ((39, 38), &[5, 12, 35, 26]),
        ];
        for ((row, column), principles) in quoted {
            assert_eq!(CELLS[row - 1][column - 1], principles, "{row} {column}");
        }
    }

    #[test]
    fn a_contradiction_names_the_principles_of_its_cell() {
        let found = principles_for("Make deliveries faster without becoming less reliable");
        let numbers: Vec<usize> = found.iter().map(|choice| choice.number).collect();
        assert_eq!(numbers, [11, 35, 27, 28]);
        assert_eq!(found[0].basis, "contradiction matrix: cell speed x reliability");
    }

    #[test]
    fn a_parameter_alone_names_the_principles_of_its_row_and_no_parameter_none() {
        let found = principles_for("The bridge must be stronger");
        assert!(found.len() > 10 && found[0].basis == "contradiction matrix: row strength", "{found:?}");
        assert!(principles_for("Please write a song for Anna").is_empty());
    }
}
