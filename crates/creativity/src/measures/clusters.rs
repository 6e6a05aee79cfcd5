//! Groups of texts that are near each other.

use crate::judge::cosine;

/// The group of each vector: a vector joins the group whose first member it is nearest to, if their cosine is at least
/// `threshold`, and else begins a group of its own. Groups are numbered from 0 in the order of their first members.
pub fn clusters(vectors: &[Vec<f32>], threshold: f64) -> Vec<usize> {
    let mut leaders: Vec<&[f32]> = Vec::new();
    let mut found = Vec::with_capacity(vectors.len());
    for vector in vectors {
        let nearest = leaders.iter().map(|leader| cosine(leader, vector)).enumerate();
        // The first of equals, so that the order of the texts alone decides.
        let nearest = nearest.fold(None, |best: Option<(usize, f64)>, (at, near)| match best {
            Some((_, other)) if other >= near => best,
            _ => Some((at, near)),
        });
        match nearest {
            Some((at, near)) if near >= threshold => found.push(at),
            _ => {
                found.push(leaders.len());
                leaders.push(vector);
            }
        }
    }
    found
}

/// How many groups there are.
pub fn cluster_count(vectors: &[Vec<f32>], threshold: f64) -> usize {
    clusters(vectors, threshold).into_iter().max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_vectors_share_a_group() {
        let vectors = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.98, 0.199], vec![0.6, 0.8]];
        assert_eq!(clusters(&vectors, 0.9), [0, 1, 0, 2]);
        assert_eq!(clusters(&vectors, 0.7), [0, 1, 0, 1]);
        assert_eq!((cluster_count(&vectors, 0.9), cluster_count(&[], 0.9)), (3, 0));
    }
}
