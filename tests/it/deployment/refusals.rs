//! What is refused: each time with the member or the parameter that is at fault, and nothing is started or stored.

use serde_json::{Value, json};

use super::{builder, deploy, deployments, make};
use crate::{
    harness::{ApiClient, OTHER_ADMIN, Server, TestApp},
    kit::{AGENTS, JsonDocument, get_as, jq, locations, post_as},
};

async fn workflow(server: &ApiClient) -> String {
    server.workflow(json!({"a": jq("1")})).await
}

async fn count(server: &ApiClient) -> String {
    server.get(&deployments("configs?limit=1")).await.header("x-total-count").to_owned()
}

#[tokio::test]
async fn bad_configurations_name_their_members() {
    let server = TestApp::start().await;
    let workflow = workflow(&server).await;
    let path = deployments(&format!("config?workflow_id={workflow}&deployment_name=shop"));
    for (body, member) in [
        (json!({"port_range": [80, 90]}), json!(["body", "port_range"])),
        (json!({"port_range": "1000-30000"}), json!(["body", "port_range"])),
        (json!({"port_range": [30000, 30001]}), json!(["body", "port_range"])),
        (json!({"command": "/bin/sh"}), json!(["body", "command"])),
        (json!({"command": "agent --allow-root; id"}), json!(["body", "command"])),
        (json!({"min_instances": -1}), json!(["body", "min_instances"])),
        (json!({"min_instances": 4, "max_instances": 3}), json!(["body", "max_instances"])),
        (json!({"max_instances": 101}), json!(["body", "max_instances"])),
        (json!({"rollout_strategy": "hope"}), json!(["body", "rollout_strategy"])),
        (json!({"health_check_endpoint": "http://169.254.169.254/"}), json!(["body", "health_check_endpoint"])),
        (json!({"target_environments": ["a/b"]}), json!(["body", "target_environments", 0])),
        (json!({"scaling_policy": {"target_in_flight": 0}}), json!(["body", "scaling_policy", "target_in_flight"])),
    ] {
        let answer = server.post(&path, body.clone()).await.is(422);
        assert_eq!(locations(&answer), [member], "{body}");
    }
    let both = server.post(&path, json!({"command": "id", "port_range": [1, 2]})).await.is(422);
    assert_eq!(locations(&both).len(), 2, "all faults at once");
    assert_eq!(count(&server).await, "0");
}

#[tokio::test]
async fn a_port_range_in_use_is_refused() {
    let held: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = held.iter().map(|one| one.local_addr().unwrap().port()).collect();
    let (low, high) = (*ports.iter().min().unwrap(), *ports.iter().max().unwrap());
    let server = TestApp::builder().env("DEPLOYMENT_PORTS", format!("{low}-{low}")).start().await;
    let workflow = workflow(&server).await;
    let path = deployments(&format!("config?workflow_id={workflow}&deployment_name=shop"));
    let answer = server.post(&path, json!({"max_instances": 1})).await.is(422);
    // One port is too few for a rollout, and it is somebody else's.
    assert_eq!(locations(&answer), [json!(["body", "port_range"])]);
    drop(server);
    let range = format!("{low}-{}", low.saturating_add(1).max(if high == low + 1 { high } else { low + 1 }));
    let next = std::net::TcpListener::bind(("127.0.0.1", low + 1));
    let server = TestApp::builder().env("DEPLOYMENT_PORTS", range).start().await;
    let workflow = super::refusals::workflow(&server).await;
    let path = deployments(&format!("config?workflow_id={workflow}&deployment_name=shop"));
    let answer = server.post(&path, json!({"max_instances": 1})).await.is(422);
    assert_eq!(locations(&answer), [json!(["body", "port_range"])]);
    assert!(answer["detail"][0]["msg"].as_str().unwrap().contains("is in use"), "{answer}");
    drop((held, next));
}

#[tokio::test]
async fn workflows_that_are_gone_or_private_are_refused() {
    let server = builder().start().await;
    let private = workflow(&server).await;
    for (key, id) in [(OTHER_ADMIN, private.as_str()), (server.key(), "agent_00000000")] {
        let path = deployments(&format!("config?workflow_id={id}&deployment_name=shop"));
        let answer = post_as(&server, key, &path, json!({})).await.is(422);
        assert_eq!(locations(&answer), [json!(["query", "workflow_id"])]);
        let path = format!("{}/production/deploy?workflow_id={id}", super::INTEGRATION);
        let answer = post_as(&server, key, &path, json!({"deployment_config": {}})).await.is(422);
        assert_eq!(locations(&answer), [json!(["query", "workflow_id"])]);
    }
    let id = make(&server, &private, "shop", json!({})).await;
    server.delete(&format!("{AGENTS}/workflows/{private}")).await;
    let answer = server.post(&deployments(&format!("{id}/deploy")), json!({})).await.is(409);
    assert_eq!(answer["code"], "workflow_unavailable");
    assert!(answer.text("detail").contains(&private), "{answer}");
    assert_eq!(super::state(&server, &id).await["status"], "pending", "nothing was started");
}

#[tokio::test]
async fn names_and_numbers_are_checked_where_they_are_used() {
    let server = builder().start().await;
    let workflow = workflow(&server).await;
    let id = make(&server, &workflow, "shop", json!({"target_environments": ["staging"]})).await;
    let again = deployments(&format!("config?workflow_id={workflow}&deployment_name=shop"));
    assert_eq!(server.post(&again, json!({})).await.is(409)["code"], "name_taken");
    for name in ["", "..", "a/b", "a%20b"] {
        let path = deployments(&format!("config?workflow_id={workflow}&deployment_name={name}"));
        let answer = server.post(&path, json!({})).await.is(422);
        assert_eq!(locations(&answer), [json!(["query", "deployment_name"])], "{name}");
    }
    let faulty = |what: &str| deployments(&format!("{id}/{what}"));
    for (path, parameter) in [
        (faulty("deploy?target_environment=production"), "target_environment"),
        (faulty("deploy?target_environment=a/b"), "target_environment"),
        (faulty("scale?target_instances=9"), "target_instances"),
        (faulty("scale?target_instances=0"), "target_instances"),
    ] {
        let answer = server.post(&path, json!({})).await.is(422);
        assert_eq!(locations(&answer), [json!(["query", parameter])], "{path}");
    }
    for range in ["1x", "0h", "400d", "h"] {
        let path = format!("{}/metrics/deployments/{id}?time_range={range}", super::INTEGRATION);
        let answer = server.get(&path).await.is(422);
        assert_eq!(locations(&answer), [json!(["query", "time_range"])], "{range}");
    }
    assert_eq!(server.post(&faulty("scale?target_instances=2"), json!({})).await.is(409)["code"], "not_deployed");
    assert_eq!(server.post(&faulty("rollback"), json!({})).await.is(409)["code"], "no_previous_revision");
    assert_eq!(server.post(&faulty("invoke"), json!({})).await.is(409)["code"], "not_deployed");
    let nobody = get_as(&server, OTHER_ADMIN, &deployments(&format!("configs/{id}"))).await;
    assert_eq!(nobody.status, 404);
}

#[tokio::test]
async fn one_rollout_at_a_time() {
    let server = builder().start().await;
    let workflow = workflow(&server).await;
    let id = make(&server, &workflow, "shop", json!({})).await;
    deploy(&server, &id).await;
    let again = server.post(&deployments(&format!("{id}/deploy")), json!({})).await;
    // It may have ended already: then the second one is another rollout.
    if again.status == 409 {
        assert_eq!(again.body["code"], "rollout_under_way");
        let scaled = server.post(&deployments(&format!("{id}/scale?target_instances=2")), json!({})).await;
        assert!(scaled.status == 200 || scaled.body["code"] == "rollout_under_way", "{}", scaled.text);
    }
    let found = super::settled(&server, &id).await;
    assert_eq!(found["status"], "deployed");
}

#[tokio::test]
async fn root_is_refused_unless_it_is_allowed() {
    let server = TestApp::start().await;
    let workflow = workflow(&server).await;
    let id = make(&server, &workflow, "shop", json!({})).await;
    let answer = server.post(&deployments(&format!("{id}/deploy")), json!({})).await;
    let health: Value = server.get(&format!("{}/production/health", super::INTEGRATION)).await.ok();
    if health["can_start"] == true {
        assert_eq!(answer.status, 200, "nobody is root here");
        return;
    }
    assert_eq!((answer.status.as_u16(), answer.body["code"].as_str()), (409, Some("host_unsupported")));
    assert!(answer.body.text("detail").contains("root"), "{}", answer.text);
    assert!(health.text("reason").contains("DEPLOYMENT_USER"), "{health}");
}

#[test]
fn a_supervisor_that_is_not_there_keeps_the_service_from_starting() {
    let bus = "unix:path=/nonexistent/bus";
    let server = Server::builder().env("DEPLOYMENT_SUPERVISOR", "systemd").env("DEPLOYMENT_SYSTEMD_BUS", bus);
    let (status, log) = server.start_and_fail();
    assert!(!status.success(), "{log}");
    assert!(log.contains("DEPLOYMENT_SUPERVISOR=systemd: systemd can't be asked over D-Bus"), "{log}");
    let (status, log) = Server::builder().env("DEPLOYMENT_SUPERVISOR", "cron").start_and_fail();
    assert!(!status.success() && log.contains("should be process or systemd"), "{log}");
}
