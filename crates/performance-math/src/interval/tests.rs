use proptest::prelude::*;

use super::*;

fn near(found: f64, wanted: f64, within: f64) -> bool {
    (found - wanted).abs() <= within
}

#[test]
fn shares_have_wilsons_interval() {
    // R: prop.test(8, 10, correct = FALSE), prop.test(0, 10, correct = FALSE).
    let found = wilson_interval(0.8, 10.0).unwrap();
    assert!(near(found.low, 0.4901625, 1e-6) && near(found.high, 0.9433178, 1e-6), "{found:?}");
    let none = wilson_interval(0.0, 10.0).unwrap();
    assert!(none.low == 0.0 && near(none.high, 0.2775328, 1e-6), "{none:?}");
    assert_eq!(wilson_interval(1.0, 0.0), None);
    assert_eq!(wilson_interval(f64::NAN, 3.0), None);
}

#[test]
fn weights_count_as_kish_says() {
    assert!(near(effective_count(&[1.0; 7]), 7.0, 1e-12));
    assert!(near(effective_count(&[3.0, 1.0]), 1.6, 1e-12));
    assert_eq!(effective_count(&[]), 0.0);
    assert_eq!(weighted_mean(&[(1.0, 3.0), (0.0, 1.0)]), Some(0.75));
    assert_eq!(weighted_mean(&[]), None);
}

#[test]
fn students_quantiles_are_those_of_the_tables() {
    for (freedom, wanted) in
        [(1.0, 12.7062), (2.0, 4.30265), (4.0, 2.77645), (9.0, 2.26216), (30.0, 2.04227), (1000.0, 1.96234)]
    {
        assert!(near(student_quantile(freedom), wanted, 1e-3), "{freedom}: {}", student_quantile(freedom));
    }
    let found = mean_interval(5.0, 2.0, 16).unwrap();
    assert!(near(found.high - 5.0, 2.13145 * 0.5, 1e-4), "{found:?}");
    assert_eq!(mean_interval(5.0, 2.0, 1), None);
    let same = welch_difference((1.0, 1.0, 10), (1.0, 1.0, 10)).unwrap();
    assert!(same.low < 0.0 && near(same.low, -same.high, 1e-12) && near(same.high, 2.10092 * (0.2f64).sqrt(), 1e-4));
}

#[test]
fn mcnemars_test_is_exact() {
    assert!(near(mcnemar_exact(0, 5), 0.0625, 1e-12));
    assert!(near(mcnemar_exact(1, 9), 0.021_484_375, 1e-12));
    assert_eq!((mcnemar_exact(0, 0), mcnemar_exact(4, 4)), (1.0, 1.0));
    assert!(mcnemar_exact(400, 600) < 1e-9, "large numbers have no underflow");
}

#[test]
fn a_bootstrap_covers_the_mean_as_often_as_it_says() {
    let (mut random, mut covered) = (SmallRng::seed_from_u64(7), 0);
    for _ in 0..200 {
        let sample: Vec<(f64, f64)> = (0..30).map(|_| (random.random_range(0.0..1.0), 1.0)).collect();
        let found = bootstrap_mean(&sample).unwrap();
        covered += usize::from(found.low <= 0.5 && 0.5 <= found.high);
    }
    assert!((180..=200).contains(&covered), "{covered} of 200");
    let same = [(0.5, 1.0); 9];
    assert_eq!((bootstrap_mean(&same), bootstrap_mean(&[])), (None, None));
}

proptest! {
    #[test]
    fn an_interval_has_its_share_inside(share in 0.0f64..=1.0, trials in 0.1f64..1e6) {
        let found = wilson_interval(share, trials).unwrap();
        prop_assert!(0.0 <= found.low && found.low <= share + 1e-12 && share <= found.high + 1e-12 && found.high <= 1.0);
    }
}
