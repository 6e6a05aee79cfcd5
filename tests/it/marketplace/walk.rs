//! Random walks through the states of requests, over the API: no unit is lost or made on any way.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::*;
use crate::harness::TestApp;

/// Steps of a walk.
const STEPS: usize = 150;

#[tokio::test]
async fn random_walks_keep_the_books() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let mut requests: Vec<Value> = Vec::new();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..STEPS {
        let verbs = ["create", "accept", "complete", "settle", "cancel", "reject", "dispute", "decide", "rating"];
        let verb = *verbs.choose(&mut random).unwrap();
        if verb == "create" || requests.is_empty() {
            let budget = f64::from(random.random_range(200_u32..600)) / 100.0;
            let answer = post_as(&server, CLIENT, &format!("{MARKET}/requests"), request_for(&service, budget)).await;
            if answer.status == 201 {
                requests.push(answer.body);
            } else {
                assert_eq!(answer.body["code"], "insufficient_funds", "seed {seed}: {}", answer.text);
            }
        } else {
            let made = requests.choose(&mut random).unwrap();
            let key = match verb {
                "accept" | "complete" | "reject" => OTHER_ADMIN,
                "decide" => ADMIN,
                _ => CLIENT,
            };
            let answer = act(&server, key, made, verb, body_of(verb)).await;
            match answer.status.as_u16() {
                200 | 201 => done += 1,
                409 => refused += 1,
                other => panic!("seed {seed}: {verb} was answered {other}: {}", answer.text),
            }
        }
        check_books(&server).await;
    }
    assert!(done > 10 && refused > 10, "seed {seed}: {done} steps were taken, {refused} refused");
    // The history of each request adds up to what it says of itself.
    for made in &requests {
        let now = now(&server, made).await;
        let history = get(&server, CLIENT, &format!("/requests/{}/history", made.text("id"))).await.ok();
        let sum = |member: &str| history.as_array().unwrap().iter().map(|event| units(event, member)).sum::<i64>();
        assert_eq!(
            (sum("refunded"), sum("paid")),
            (units(&now, "refunded"), units(&now, "paid")),
            "seed {seed}: {now}"
        );
    }
}
