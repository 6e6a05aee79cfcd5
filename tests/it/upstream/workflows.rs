//! Workflows as present command lines send them.

use serde_json::json;

use crate::{
    harness::{OTHER_ADMIN, TestApp},
    kit::{JsonDocument, get_as, jq, locations},
};

const WORKFLOWS: &str = "/api/v1/agent/workflows";

#[tokio::test]
async fn steps_may_be_a_list_that_names_them() {
    let server = TestApp::start().await;
    let step = |program: &str, more: serde_json::Value| {
        let mut step = jq(program);
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let steps = json!([
        step(".x * 2", json!({"name": "double"})),
        step(".", json!({"step_id": "last", "name": "The last one", "depends_on": ["double"]})),
    ]);
    let body = json!({"name": "list", "description": "", "steps": steps, "created_by": "cli"});
    let made = server.post(WORKFLOWS, body).await.is(200);
    assert_eq!(made["steps"].as_object().unwrap().keys().collect::<Vec<_>>(), ["double", "last"]);
    assert_eq!(made["steps"]["last"]["name"], "The last one");
    let id = made.text("id");
    let path = format!("{WORKFLOWS}/{id}");
    server.get(&format!("{path}/status")).await.is(404);
    let first = server.post(&format!("{path}/execute?wait=20"), json!({"input_parameters": {"x": 21}})).await.is(200);
    assert_eq!((&first["status"], &first["inputs"]), (&json!("completed"), &json!({"x": 21})), "{first}");
    assert_eq!(first["final_result"]["step_results"]["double"], 42);
    let second = server.post(&format!("{path}/execute?wait=20"), json!({"inputs": {"x": 1}})).await.is(200);
    let newest = server.get(&format!("{path}/status")).await.is(200);
    assert_eq!((&newest["id"], &newest["workflow_id"]), (&second["id"], &json!(id)));
    assert_eq!((&newest["status"], &newest["progress"]), (&json!("completed"), &json!(100.0)));
    let run = server.get(&format!("{WORKFLOWS}/{}/status", first.text("id"))).await.is(200);
    assert_eq!(run["id"], first["id"], "the id may be a run's");
    get_as(&server, OTHER_ADMIN, &format!("{path}/status")).await.is(404);
    // A list replaces steps too.
    let changed = server.put(&path, json!({"steps": [step("1", json!({"step_id": "only"}))]})).await.is(200);
    assert_eq!(changed["steps"].as_object().unwrap().len(), 1);
    let kept = server.put(&path, json!({"name": "kept", "steps": null})).await.is(200);
    assert_eq!(kept["steps"], changed["steps"]);
    for steps in [json!([{"step_type": "custom"}]), json!([{"name": "a"}, {"step_id": "a"}]), json!(["a"]), json!(1)] {
        let refused = server.post(WORKFLOWS, json!({"name": "bad", "steps": steps})).await.is(422);
        let place = &locations(&refused)[0];
        assert_eq!((&place[0], &place[1]), (&json!("body"), &json!("steps")), "{refused}");
    }
    let nobody = json!([step("1", json!({"name": "a", "depends_on": ["b"]}))]);
    server.post(WORKFLOWS, json!({"name": "bad", "steps": nobody})).await.is(422);
}
