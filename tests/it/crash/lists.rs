//! A process dies while it makes the lists beside the coordinator's tables.

use serde_json::json;

use crate::{
    agents::kept_lists::{built, coordinator_rows, lists_agree},
    harness::Server,
    kit::{JsonDocument as _, jq, sql},
};

#[tokio::test]
async fn half_made_lists_are_finished_by_the_next_start() {
    let server = Server::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}");
    let principal = server.get(&path).await.body.text("owner_id").to_owned();
    let (mut server, key) = (server, "the-coordinator-s-own-key");
    for (number, (point, times)) in
        [("lists.before_batch", 0), ("lists.before_batch", 2), ("lists.after_batch", 1), ("lists.after_batch", 5)]
            .into_iter()
            .enumerate()
    {
        built(&server.database()).await;
        server.kill();
        let from = u32::try_from(number).unwrap() * 1200;
        let forgotten = "DELETE FROM am_execution_list; DELETE FROM am_workflow_list; DELETE FROM am_list_progress;";
        let rows = coordinator_rows(key, &principal, from, from + 1200);
        sql(&server.database(), &format!("{forgotten}{rows}")).await;
        let doomed = server.again().env("FAILPOINTS", format!("{point}={times}*off->return"));
        let again = match doomed.try_start() {
            Ok(mut died) => {
                assert_eq!(std::os::unix::process::ExitStatusExt::signal(&died.wait()), Some(9), "{point}");
                died.again()
            }
            Err(builder) => builder,
        };
        server = again.env("FAILPOINTS", "").start().await;
        built(&server.database()).await;
        lists_agree(&server.database()).await;
    }
}
