//! Algorithms on the dependency graph of steps.

/// Find a cycle in `depends_on` (for each step the steps it depends on). Returns the steps of one cycle, in order.
pub fn find_cycle(depends_on: &[Vec<usize>]) -> Option<Vec<usize>> {
    let order = topological_order(depends_on);
    if order.len() == depends_on.len() {
        return None;
    }
    // Every remaining step depends on another remaining one, so following dependencies must return to a visited step.
    let left: Vec<bool> = (0..depends_on.len()).map(|step| !order.contains(&step)).collect();
    let mut walk = vec![left.iter().position(|left| *left)?];
    loop {
        let here = walk[walk.len() - 1];
        let next = depends_on[here].iter().copied().find(|step| left[*step])?;
        if let Some(start) = walk.iter().position(|step| *step == next) {
            return Some(walk.split_off(start));
        }
        walk.push(next);
    }
}

/// Return the steps in topological order, ties in the given order. Steps on a cycle are left out.
pub fn topological_order(depends_on: &[Vec<usize>]) -> Vec<usize> {
    let mut dependents = vec![Vec::new(); depends_on.len()];
    let mut open: Vec<usize> = vec![0; depends_on.len()];
    for (step, waits_for) in depends_on.iter().enumerate() {
        open[step] = waits_for.len();
        for other in waits_for {
            dependents[*other].push(step);
        }
    }
    let mut ready: std::collections::BTreeSet<usize> = (0..open.len()).filter(|step| open[*step] == 0).collect();
    let mut order = Vec::with_capacity(open.len());
    while let Some(step) = ready.pop_first() {
        order.push(step);
        for dependent in &dependents[step] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.insert(*dependent);
            }
        }
    }
    order
}

/// Return all direct and indirect dependencies of each step. `depends_on` must not contain a cycle.
pub fn ancestors(depends_on: &[Vec<usize>]) -> Vec<std::collections::BTreeSet<usize>> {
    let mut all = vec![std::collections::BTreeSet::new(); depends_on.len()];
    for step in topological_order(depends_on) {
        let mut before: std::collections::BTreeSet<usize> = depends_on[step].iter().copied().collect();
        for other in &depends_on[step] {
            before.extend(&all[*other]);
        }
        all[step] = before;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cycle_is_walked_in_order() {
        let found = find_cycle(&[vec![], vec![0, 3], vec![1], vec![2]]).unwrap();
        assert_eq!(found.len(), 3);
        assert!(!found.contains(&0), "the way into a cycle is no part of it");
        assert_eq!(find_cycle(&[vec![0]]), Some(vec![0]), "a step that waits for itself");
    }

    proptest! {
        #[test]
        fn an_order_respects_every_dependency(edges in prop::collection::vec((0usize..20, 0usize..20), 0..60)) {
            let mut graph = vec![Vec::new(); 20];
            for (a, b) in edges {
                // Later steps wait for earlier ones only: no cycle.
                if a < b && !graph[b].contains(&a) {
                    graph[b].push(a);
                }
            }
            let order = topological_order(&graph);
            prop_assert_eq!(order.len(), 20);
            prop_assert_eq!(find_cycle(&graph), None);
            let place = |step: usize| order.iter().position(|other| *other == step).unwrap();
            for (step, before) in ancestors(&graph).iter().enumerate() {
                for other in before {
                    prop_assert!(place(*other) < place(step));
                }
            }
        }

        #[test]
        fn a_found_cycle_is_one(edges in prop::collection::vec((0usize..8, 0usize..8), 0..30)) {
            let mut graph = vec![Vec::new(); 8];
            for (a, b) in edges {
                if !graph[b].contains(&a) {
                    graph[b].push(a);
                }
            }
            if let Some(found) = find_cycle(&graph) {
                for (at, step) in found.iter().enumerate() {
                    prop_assert!(graph[*step].contains(&found[(at + 1) % found.len()]));
                }
            } else {
                prop_assert_eq!(topological_order(&graph).len(), 8);
            }
        }
    }
}
