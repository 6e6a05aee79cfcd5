//! Weighted edges by their targets, each source's weights normalised.

/// An edge from one node's number to another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FlowEdge {
    pub(super) source: usize,
    pub(super) target: usize,
    /// Weight, more than nothing.
    pub(super) weight: f64,
}

/// Edges in compressed rows, one row for each target. A source's shares sum to 1 unless it has no edge.
#[derive(Clone, Debug)]
pub(super) struct IncomingEdges {
    /// Index of each target's first edge, and the number of all edges at the end.
    starts: Vec<usize>,
    sources: Vec<usize>,
    shares: Vec<f64>,
}

impl IncomingEdges {
    /// Edges between `sources` and `targets` nodes. In the same order they give the same bits.
    pub(super) fn new(sources: usize, targets: usize, edges: &[FlowEdge]) -> Self {
        let mut totals = vec![0.0; sources];
        let mut starts = vec![0; targets + 1];
        for edge in edges {
            totals[edge.source] += edge.weight;
            starts[edge.target + 1] += 1;
        }
        for target in 0..targets {
            starts[target + 1] += starts[target];
        }
        let mut next = starts.clone();
        let mut incoming = Self { starts, sources: vec![0; edges.len()], shares: vec![0.0; edges.len()] };
        for edge in edges {
            let place = next[edge.target];
            next[edge.target] += 1;
            incoming.sources[place] = edge.source;
            incoming.shares[place] = edge.weight / totals[edge.source];
        }
        incoming
    }

    /// The sources of a target's edges, with the share of what each has to give.
    pub(super) fn of(&self, target: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.starts[target]..self.starts[target + 1];
        self.sources[range.clone()].iter().copied().zip(self.shares[range].iter().copied())
    }

    /// What arrives at a target when each source gives all of its `amounts`.
    pub(super) fn arriving(&self, amounts: &[f64], target: usize) -> f64 {
        self.of(target).map(|(source, share)| amounts[source] * share).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_give_all_they_have() {
        let edge = |source, target, weight| FlowEdge { source, target, weight };
        let edges = IncomingEdges::new(3, 2, &[edge(0, 0, 1.0), edge(0, 1, 3.0), edge(2, 1, 5.0)]);
        assert_eq!(edges.of(1).collect::<Vec<_>>(), [(0, 0.75), (2, 1.0)]);
        let amounts = [0.4, 0.5, 0.1];
        // The second source trusts nobody.
        let arrived = [edges.arriving(&amounts, 0), edges.arriving(&amounts, 1)];
        assert!((arrived[0] - 0.1).abs() < 1e-15 && (arrived[1] - 0.4).abs() < 1e-15, "{arrived:?}");
    }
}
