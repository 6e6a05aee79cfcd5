//! Tables `am_agent_contacts`, `am_agent_blocks` and `am_agent_authorizations`.

use super::{Authorization, Known};
use crate::db::{Connection, Db, Result};

/// What is known of two agents, in one trip.
pub(super) async fn known(conn: &mut Connection, sender: &str, recipient: &str) -> Result<Known> {
    let row: (Option<Authorization>, Option<Authorization>, bool, bool, bool) = sqlx::query_as::<Db, _>(
        "SELECT (SELECT state FROM am_agent_authorizations WHERE agent_id = ?1),
             (SELECT state FROM am_agent_authorizations WHERE agent_id = ?2),
             EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = ?2 AND blocked_id = ?1),
             EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = ?1 AND blocked_id = ?2),
             EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = ?1 AND contact_id = ?2)
                 OR EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = ?2 AND contact_id = ?1)",
    )
    .bind(sender)
    .bind(recipient)
    .fetch_one(conn)
    .await?;
    let (sender, recipient, blocked_by_recipient, blocked_by_sender, contacts) = row;
    Ok(Known { sender, recipient, blocked_by_recipient, blocked_by_sender, contacts })
}
