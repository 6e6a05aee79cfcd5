//! Whole packings: what always holds of one, and the instances of the literature.

use proptest::prelude::*;

use super::{
    HostRoom, PackingEffort, PackingPlan, PackingProblem,
    instances::{TRIPLET_BIN, UNIFORM_BIN, triplets, uniform},
    martello_toth_l2, plan_packing,
};

/// Check a plan against its problem: no host has more than it can, and what is unplaced fits nowhere.
fn check<const N: usize>(problem: &PackingProblem<'_, N>, plan: &PackingPlan) {
    let mut rooms = problem.hosts.to_vec();
    for (item, place) in plan.places.iter().enumerate() {
        if let Some(host) = place {
            assert!(rooms[*host].fits(&problem.items[item]), "host {host} is overcommitted by item {item}");
            rooms[*host].take(&problem.items[item]);
        }
    }
    for (item, place) in plan.places.iter().enumerate() {
        let fits = rooms.iter().any(|room| room.fits(&problem.items[item]));
        assert!(place.is_some() || !fits, "item {item} fits and has no host");
    }
    let in_use = rooms.iter().filter(|room| room.is_used()).count();
    assert_eq!(in_use, plan.score.hosts_in_use);
    assert!(plan.score.compare(&plan.first_fit).is_le() || plan.score.hosts_in_use <= plan.first_fit.hosts_in_use);
    assert!((plan.score.unplaced, plan.score.hosts_in_use) <= (plan.begun.unplaced, plan.begun.hosts_in_use));
    if let (Some(bound), 0) = (plan.bound, plan.score.unplaced) {
        assert!(in_use >= bound.hosts_in_use, "{in_use} hosts, and the bound is {bound:?}");
    }
}

/// Pack items of one resource into equal bins.
fn pack(sizes: &[u64], bin: u64, effort: &PackingEffort) -> PackingPlan {
    let items: Vec<[u64; 1]> = sizes.iter().map(|size| [*size]).collect();
    let hosts = vec![HostRoom::empty([bin]); sizes.len()];
    let problem = PackingProblem { items: &items, hosts: &hosts };
    let plan = plan_packing(&problem, effort);
    check(&problem, &plan);
    plan
}

#[test]
fn triplets_are_packed_near_their_optimum() {
    for (bins, seed) in [(20, 1), (20, 2), (20, 3), (40, 1), (40, 2)] {
        let sizes = triplets(bins, seed);
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (bins * 3, bins as u64 * TRIPLET_BIN));
        assert!(sizes.iter().all(|size| (250..=500).contains(size)), "{sizes:?}");
        let plan = pack(&sizes, TRIPLET_BIN, &PackingEffort::default());
        assert_eq!(plan.bound.unwrap().hosts_in_use, bins, "the bound of triplets is their optimum");
        assert!(plan.score.hosts_in_use <= bins + 1, "seed {seed}: {} of {bins}", plan.score.hosts_in_use);
        assert!(plan.first_fit.hosts_in_use > bins + 1, "first fit is weak here, or this tests nothing");
    }
}

#[test]
fn uniform_items_are_packed_to_the_bound_or_one_more() {
    for (count, seed) in [(120, 1), (120, 2), (250, 1)] {
        let sizes = uniform(count, seed);
        let plan = pack(&sizes, UNIFORM_BIN, &PackingEffort::default());
        let bound = martello_toth_l2(&sizes, UNIFORM_BIN);
        assert_eq!(plan.bound.unwrap().hosts_in_use, bound);
        assert!(plan.score.hosts_in_use <= bound + 1, "seed {seed}: {} of {bound}", plan.score.hosts_in_use);
    }
}

#[test]
fn the_same_effort_gives_the_same_plan() {
    let sizes = triplets(20, 7);
    let effort = PackingEffort { seed: 3, ..PackingEffort::default() };
    assert_eq!(pack(&sizes, TRIPLET_BIN, &effort), pack(&sizes, TRIPLET_BIN, &effort));
}

#[test]
fn shapes_that_complete_each_other_share_a_host() {
    // First fit puts two of a kind together, after which nothing fits beside them.
    let items = [[6, 2], [2, 6], [6, 2], [2, 6], [4, 1], [1, 4]].map(|[cores, memory]| [cores * 100, memory * 100]);
    let hosts = [HostRoom::empty([1000, 1000]); 6];
    let problem = PackingProblem { items: &items, hosts: &hosts };
    let plan = plan_packing(&problem, &PackingEffort::default());
    check(&problem, &plan);
    assert_eq!((plan.score.unplaced, plan.score.hosts_in_use), (0, 3), "{plan:?}");
}

#[test]
fn what_fits_nowhere_is_left_and_the_rest_is_placed() {
    let hosts = [HostRoom { capacity: [10, 10], used: [5, 0] }, HostRoom::empty([4, 4])];
    let problem = PackingProblem { items: &[[6, 1], [5, 5], [4, 4]], hosts: &hosts };
    let plan = plan_packing(&problem, &PackingEffort::default());
    check(&problem, &plan);
    assert_eq!(plan.places, [None, Some(0), Some(1)], "{plan:?}");
    assert_eq!(plan.bound, None, "together they have 9 of the first resource, and 15 are asked for");
    let nothing = plan_packing(&PackingProblem { items: &[], hosts: &hosts }, &PackingEffort::default());
    assert_eq!((nothing.score.hosts_in_use, nothing.steps), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_plan_overcommits_a_host_or_leaves_what_fits(
        items in proptest::collection::vec(proptest::array::uniform3(0u64..40), 0..40),
        capacities in proptest::collection::vec(proptest::array::uniform3(0u64..100), 1..12),
        used in proptest::collection::vec(proptest::array::uniform3(0u64..60), 12),
        seed in any::<u64>(),
    ) {
        let hosts: Vec<HostRoom<3>> = capacities.iter().zip(&used).map(|(capacity, used)| HostRoom {
            capacity: *capacity,
            used: std::array::from_fn(|at| used[at].min(capacity[at])),
        }).collect();
        let problem = PackingProblem { items: &items, hosts: &hosts };
        let effort = PackingEffort { seed, steps: 40, nodes_per_host: 200, completions: 2, nodes_per_completion: 1000 };
        check(&problem, &plan_packing(&problem, &effort));
    }
}
