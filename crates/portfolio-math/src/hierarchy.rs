//! Hierarchical risk parity (López de Prado, Building diversified portfolios that outperform out of sample, Journal of
//! Portfolio Management 42, 2016).

use crate::{
    allocation::{Allocation, AllocationLimits, AllocationProblem, SolveStatus},
    covariance::correlation_matrix,
    error::{MathError, Result, at_least, positive},
    matrix::{DenseMatrix, dot},
    moments::sample_covariance,
    returns::mean_historical_return,
};

/// How the distance of two clusters is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkageMethod {
    /// By their two nearest assets.
    #[default]
    Single,
    /// By their two farthest assets.
    Complete,
    /// By the mean over all pairs.
    Average,
}

/// Two clusters that were joined: below the number of assets an index is an asset, from there a merge.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ClusterMerge {
    left: usize,
    right: usize,
    distance: f64,
}

/// Weights by hierarchical risk parity: assets are ordered by a tree of their correlations, and each half of the order
/// gets a share in inverse proportion to its variance. Weights are above 0 and sum to 1; there are no limits. Fails
/// below two periods or assets, and if an asset does not vary.
pub fn hierarchical_risk_parity(
    returns: &DenseMatrix,
    linkage: LinkageMethod,
    periods_per_year: f64,
) -> Result<Allocation> {
    let assets = returns.columns();
    at_least("returns", 2, assets)?;
    positive("periods_per_year", periods_per_year)?;
    let mut distances = Vec::with_capacity(assets);
    for (at, row) in correlation_matrix(returns)?.into_iter().enumerate() {
        let Some(row) = row.into_iter().collect::<Option<Vec<f64>>>() else {
            return Err(MathError::invalid("returns", format!("an asset does not vary, at or after {at}")));
        };
        distances.push(row.iter().map(|value| ((1.0 - value) / 2.0).clamp(0.0, 1.0).sqrt()).collect::<Vec<f64>>());
    }
    let merges = match linkage {
        LinkageMethod::Single => nearest_neighbours(&distances),
        LinkageMethod::Complete => chains(distances, |one, other, _, _| one.max(other)),
        LinkageMethod::Average => {
            chains(distances, |one, other, sizes, total| (one * sizes.0 + other * sizes.1) / total)
        }
    };
    let covariance = sample_covariance(returns);
    let weights = bisect(&covariance, &leaves(&merges, assets));
    let yearly = covariance.map(|_, _, value| value * periods_per_year);
    let expected = mean_historical_return(returns, periods_per_year, false)?;
    let limits = AllocationLimits::long_only(assets);
    let problem = AllocationProblem {
        covariance: &yearly,
        expected_returns: Some(&expected),
        risk_free_rate: 0.0,
        limits: &limits,
    };
    Ok(problem.answer(weights, SolveStatus::Direct, 0, 0.0))
}

/// Single linkage by a minimum spanning tree (Prim 1957).
fn nearest_neighbours(distances: &[Vec<f64>]) -> Vec<ClusterMerge> {
    let assets = distances.len();
    let mut nearest = vec![f64::INFINITY; assets];
    let mut joined = vec![false; assets];
    let mut pairs = Vec::with_capacity(assets - 1);
    let mut last = 0;
    for _ in 1..assets {
        joined[last] = true;
        let (mut next, mut least) = (last, f64::INFINITY);
        for at in (0..assets).filter(|at| !joined[*at]) {
            nearest[at] = nearest[at].min(distances[last][at]);
            if nearest[at] < least {
                (next, least) = (at, nearest[at]);
            }
        }
        pairs.push(ClusterMerge { left: last, right: next, distance: least });
        last = next;
    }
    numbered(pairs, assets)
}

/// Linkages whose distance never falls below a nearest pair's, by chains of nearest neighbours (Murtagh 1983). `joined`
/// is the distance to a pair of clusters, from those to each, their sizes, and both together.
fn chains(mut distances: Vec<Vec<f64>>, joined: impl Fn(f64, f64, (f64, f64), f64) -> f64) -> Vec<ClusterMerge> {
    let assets = distances.len();
    let mut sizes = vec![1.0; assets];
    let mut chain: Vec<usize> = Vec::new();
    let mut pairs = Vec::with_capacity(assets - 1);
    while pairs.len() + 1 < assets {
        if chain.is_empty() {
            chain.extend((0..assets).find(|at| sizes[*at] > 0.0));
        }
        let Some(tip) = chain.last().copied() else { break };
        let before = chain.len().checked_sub(2).map(|at| chain[at]);
        let (mut next, mut least) = before.map_or((tip, f64::INFINITY), |at| (at, distances[tip][at]));
        for at in (0..assets).filter(|at| sizes[*at] > 0.0 && *at != tip) {
            if distances[tip][at] < least {
                (next, least) = (at, distances[tip][at]);
            }
        }
        if before != Some(next) {
            chain.push(next);
            continue;
        }
        chain.truncate(chain.len() - 2);
        let (left, right) = (tip.min(next), tip.max(next));
        pairs.push(ClusterMerge { left, right, distance: least });
        let pair = (sizes[left], sizes[right]);
        sizes[left] = 0.0;
        sizes[right] = pair.0 + pair.1;
        for at in (0..assets).filter(|at| sizes[*at] > 0.0 && *at != right) {
            let distance = joined(distances[at][left], distances[at][right], pair, pair.0 + pair.1);
            distances[at][right] = distance;
            distances[right][at] = distance;
        }
    }
    numbered(pairs, assets)
}

/// Pairs of assets as merges of clusters, nearest first: a cluster gets the number after all before it, and of two that
/// join the one with the lower number is left.
fn numbered(mut pairs: Vec<ClusterMerge>, assets: usize) -> Vec<ClusterMerge> {
    pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    let mut above: Vec<usize> = (0..2 * assets).collect();
    let mut merges = Vec::with_capacity(pairs.len());
    for (at, pair) in pairs.iter().enumerate() {
        let (one, other) = (root(&mut above, pair.left), root(&mut above, pair.right));
        merges.push(ClusterMerge { left: one.min(other), right: one.max(other), distance: pair.distance });
        above[one] = assets + at;
        above[other] = assets + at;
    }
    merges
}

/// The cluster that contains another one, with the way to it shortened.
fn root(above: &mut [usize], mut at: usize) -> usize {
    while above[at] != at {
        above[at] = above[above[at]];
        at = above[at];
    }
    at
}

/// The assets from left to right.
fn leaves(merges: &[ClusterMerge], assets: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(assets);
    let mut open = vec![assets + merges.len() - 1];
    while let Some(node) = open.pop() {
        match node.checked_sub(assets) {
            Some(at) => open.extend([merges[at].right, merges[at].left]),
            None => order.push(node),
        }
    }
    order
}

/// The variance of a cluster whose assets are weighted by inverse variance.
fn cluster_variance(covariance: &DenseMatrix, cluster: &[usize]) -> f64 {
    let inverse: Vec<f64> = cluster.iter().map(|asset| 1.0 / covariance.get(*asset, *asset)).collect();
    let total: f64 = inverse.iter().sum();
    let of_row = |row: usize| {
        let row = covariance.row(row);
        cluster.iter().zip(&inverse).map(|(asset, weight)| row[*asset] * weight).sum::<f64>()
    };
    let rows: Vec<f64> = cluster.iter().map(|asset| of_row(*asset)).collect();
    dot(&rows, &inverse) / (total * total)
}

fn bisect(covariance: &DenseMatrix, order: &[usize]) -> Vec<f64> {
    let mut weights = vec![1.0; order.len()];
    let mut open = vec![order];
    while let Some(cluster) = open.pop() {
        if cluster.len() < 2 {
            continue;
        }
        let (left, right) = cluster.split_at(cluster.len() / 2);
        let (one, other) = (cluster_variance(covariance, left), cluster_variance(covariance, right));
        let share = 1.0 - one / (one + other);
        for asset in left {
            weights[*asset] *= share;
        }
        for asset in right {
            weights[*asset] *= 1.0 - share;
        }
        open.extend([left, right]);
    }
    weights
}
