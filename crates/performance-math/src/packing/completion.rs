//! A complete search for a packing of one resource into a number of equal bins: bin completion (after Martello and Toth, 1990, and Korf,
//! 2002). The largest item that is left begins a bin; what completes it may waste no more than the bins have too much in all.

/// Items by their sizes, and what is chosen of them.
struct CompletionSearch {
    /// Different sizes, the largest first.
    sizes: Vec<u64>,
    /// How many of each are left.
    counts: Vec<usize>,
    left: usize,
    capacity: u64,
    bins: usize,
    /// Number of a size, and the bin that one item of it is in.
    chosen: Vec<(usize, usize)>,
    nodes: usize,
}

impl CompletionSearch {
    fn take(&mut self, size: usize, bin: usize) {
        self.counts[size] -= 1;
        self.left -= 1;
        self.chosen.push((size, bin));
    }

    fn put_back(&mut self) {
        if let Some((size, _)) = self.chosen.pop() {
            self.counts[size] += 1;
            self.left += 1;
        }
    }

    /// Pack what is left into bin `bin` and those behind it, wasting no more than `waste`.
    fn begin_bin(&mut self, bin: usize, waste: u64) -> bool {
        let Some(largest) = self.counts.iter().position(|count| *count > 0) else { return true };
        if bin == self.bins {
            return false;
        }
        self.take(largest, bin);
        if self.complete(largest, self.capacity - self.sizes[largest], bin, waste) {
            return true;
        }
        self.put_back();
        false
    }

    /// Complete a bin that has `room` left with items of size number `from` and smaller ones.
    fn complete(&mut self, from: usize, room: u64, bin: usize, waste: u64) -> bool {
        if self.nodes == 0 {
            return false;
        }
        self.nodes -= 1;
        let smallest = self.counts.iter().rposition(|count| *count > 0).map_or(u64::MAX, |at| self.sizes[at]);
        let first = self.sizes.partition_point(|size| *size > room).max(from);
        for size in first..self.sizes.len() {
            if self.counts[size] == 0 {
                continue;
            }
            let rest = room - self.sizes[size];
            // Nothing more would fit, and too much would be wasted.
            if rest > waste && rest < smallest {
                continue;
            }
            self.take(size, bin);
            if self.complete(size, rest, bin, waste) {
                return true;
            }
            self.put_back();
            if self.nodes == 0 {
                return false;
            }
        }
        // A bin that has room for an item is no better without it.
        room <= waste && smallest > room && self.begin_bin(bin + 1, waste - room)
    }
}

/// The bin of each item, where all fit into `bins` bins and that is found with at most `nodes` nodes.
pub(super) fn complete_bins(sizes: &[u64], capacity: u64, bins: usize, nodes: usize) -> Option<Vec<usize>> {
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let waste = (bins as u128 * u128::from(capacity)).checked_sub(total)?;
    if sizes.iter().any(|size| *size > capacity) {
        return None;
    }
    let mut distinct = sizes.to_vec();
    distinct.sort_unstable_by(|a, b| b.cmp(a));
    distinct.dedup();
    let number = |size: u64| distinct.partition_point(|other| *other > size);
    let mut counts = vec![0; distinct.len()];
    for size in sizes {
        counts[number(*size)] += 1;
    }
    let mut items_of = vec![Vec::new(); distinct.len()];
    for (item, size) in sizes.iter().enumerate() {
        items_of[number(*size)].push(item);
    }
    let left = sizes.len();
    let mut search = CompletionSearch { sizes: distinct, counts, left, capacity, bins, chosen: Vec::new(), nodes };
    if !search.begin_bin(0, u64::try_from(waste).unwrap_or(u64::MAX)) {
        return None;
    }
    let mut places = vec![0; sizes.len()];
    for (size, bin) in search.chosen {
        places[items_of[size].pop()?] = bin;
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_filled_to_the_last_unit_where_they_can_be() {
        let sizes = [490, 260, 250, 400, 350, 250, 380, 360, 260];
        let places = complete_bins(&sizes, 1000, 3, 10_000).unwrap();
        for bin in 0..3 {
            let sum: u64 = sizes.iter().zip(&places).filter(|(_, place)| **place == bin).map(|(size, _)| size).sum();
            assert_eq!(sum, 1000, "{places:?}");
        }
        assert_eq!(complete_bins(&[51, 51, 51], 100, 2, 10_000), None);
        assert_eq!(complete_bins(&[101], 100, 2, 10_000), None);
        assert_eq!(complete_bins(&[60, 60, 60], 100, 1, 10_000), None, "the sum is more");
        assert_eq!(complete_bins(&[60, 50, 40, 30], 100, 2, 10_000).map(|places| places.len()), Some(4));
        assert_eq!(complete_bins(&[], 100, 0, 10), Some(Vec::new()));
        assert_eq!(complete_bins(&sizes, 1000, 3, 2), None, "too few nodes");
    }
}
