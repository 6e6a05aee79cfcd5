//! The prompts of the techniques, which stand in tables of text beside the source.

use std::sync::LazyLock;

use super::technique::IdeationTechnique;

/// A prompt with gaps for terms of the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TechniquePrompt {
    /// The principle of the technique.
    pub(super) principle: &'static str,
    /// The resource that carrying it out demands beyond the usual; empty if none.
    pub(super) demands: &'static str,
    /// The text with gaps: `{object}`, `{other}`, `{action}`, `{domain}`.
    pub(super) text: &'static str,
}

/// A strategy of an organism.
pub(super) struct OrganismStrategy {
    /// What the organism does.
    pub(super) does: &'static str,
    /// Words of problems that it fits.
    pub(super) words: Vec<&'static str>,
    /// Its prompt; the principle is the organism.
    pub(super) prompt: TechniquePrompt,
}

/// A parameter of a morphological box with its values.
pub(super) struct BoxParameter {
    pub(super) name: &'static str,
    pub(super) values: Vec<&'static str>,
}

fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('|').collect())
}

/// The 40 inventive principles; principle 1 stands first.
pub(super) static INVENTIVE_PRINCIPLES: LazyLock<Vec<TechniquePrompt>> = LazyLock::new(|| {
    let prompts = lines(include_str!("data/principles.txt"));
    prompts.filter_map(|cells| prompt(&cells)).collect()
});

/// Strategies of organisms for biomimicry.
pub(super) static ORGANISMS: LazyLock<Vec<OrganismStrategy>> = LazyLock::new(|| {
    let strategy = |cells: Vec<&'static str>| match cells[..] {
        [principle, does, words, text] => Some(OrganismStrategy {
            does,
            words: words.split(' ').collect(),
            prompt: TechniquePrompt { principle, demands: "", text },
        }),
        _ => None,
    };
    lines(include_str!("data/organisms.txt")).filter_map(strategy).collect()
});

/// The morphological box: five parameters with five values each.
pub(super) static BOX_PARAMETERS: LazyLock<Vec<BoxParameter>> = LazyLock::new(|| {
    let parameter = |cells: Vec<&'static str>| match cells[..] {
        [name, values] => Some(BoxParameter { name, values: values.split(';').collect() }),
        _ => None,
    };
    lines(include_str!("data/box.txt")).filter_map(parameter).collect()
});

static TECHNIQUE_PROMPTS: LazyLock<Vec<(&'static str, TechniquePrompt)>> = LazyLock::new(|| {
    let of_line = |cells: Vec<&'static str>| Some((*cells.first()?, prompt(cells.get(1..)?)?));
    lines(include_str!("data/techniques.txt")).filter_map(of_line).collect()
});

fn prompt(cells: &[&'static str]) -> Option<TechniquePrompt> {
    match *cells {
        [principle, demands, text] => Some(TechniquePrompt { principle, demands, text }),
        _ => None,
    }
}

/// The prompts of a technique that has a fixed list of them; none of the others.
pub(super) fn listed_prompts(technique: IdeationTechnique) -> Vec<&'static TechniquePrompt> {
    let of_technique = TECHNIQUE_PROMPTS.iter().filter(|(name, _)| *name == technique.name());
    of_technique.map(|(_, prompt)| prompt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read_whole() {
        assert_eq!((INVENTIVE_PRINCIPLES.len(), ORGANISMS.len(), BOX_PARAMETERS.len()), (40, 24, 5));
        assert_eq!(TECHNIQUE_PROMPTS.len(), 36);
        assert!(BOX_PARAMETERS.iter().all(|parameter| parameter.values.len() == 5));
        let prompts = INVENTIVE_PRINCIPLES.iter().chain(ORGANISMS.iter().map(|organism| &organism.prompt));
        for prompt in prompts.chain(TECHNIQUE_PROMPTS.iter().map(|(_, prompt)| prompt)) {
            assert!(prompt.text.contains('{') && prompt.text.ends_with('.'), "{prompt:?}");
        }
        assert_eq!(INVENTIVE_PRINCIPLES[39].principle, "composite materials");
    }
}
