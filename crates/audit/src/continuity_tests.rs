//! Heads are signed over what continues the last head, and over nothing else: after changes, restores and other keys.

use std::os::unix::fs::PermissionsExt as _;

use super::{
    tests::{AuditTestLog, UNLOCK, open, signer},
    *,
};

fn other_signer() -> Signer {
    Signer::from_hex(&"18".repeat(32)).unwrap()
}

impl AuditTestLog {
    /// A log on `db` with the parts of this one and a key of its own.
    fn signed_by_another(&self, db: &Database, signer: Signer) -> AuditLog {
        let settings = AuditSettings { origin: "test/log".into(), every: Duration::from_secs(3600) };
        let inner = &self.audit.0;
        AuditLog::new(db.clone(), inner.clock.clone(), inner.ids.clone(), inner.webhooks.clone(), signer, settings)
    }

    /// Another process on the same files, with the file of the last head.
    async fn reopened(
        &mut self,
        signer: Signer,
        previous: Option<Signer>,
        new_key: bool,
    ) -> std::result::Result<(), CustodyError> {
        let audit = self.signed_by_another(&self.db, signer);
        let last_head = Some(self.dir.path().join("audit-last-head.txt"));
        self.audit = audit.with_custody(KeyCustody { previous, last_head, accept_new_key: new_key }).await?;
        Ok(())
    }

    /// Nothing is signed any more, and the log says why.
    async fn refuses(&self, why: &str) {
        self.append(1).await;
        let heads = self.audit.heads(0, 100).await.unwrap();
        self.audit.seal().await.unwrap();
        assert_eq!(self.audit.heads(0, 100).await.unwrap().len(), heads.len(), "no head is signed");
        let refusal = self.audit.refusal().unwrap();
        assert!(refusal.contains(why), "{refusal}");
    }

    /// The database without everything after entry `size`.
    async fn rolled_back(&self, size: u64) {
        self.run(format!(
            "{UNLOCK} DELETE FROM agent_audit_logs WHERE id IN (SELECT audit_id FROM am_audit_entries WHERE seq > {size});
             DELETE FROM am_audit_entries WHERE seq > {size}; DELETE FROM am_audit_heads WHERE size > {size}"
        ))
        .await;
    }

    async fn verified(&self, keys: &[Signer], kept: &[String]) -> AuditVerificationReport {
        let keys: Vec<_> = keys.iter().map(|key| key.public_key().clone()).collect();
        verify_export(self.export().await.as_bytes(), &keys, kept, &[]).unwrap()
    }
}

const LEAF: &str = "UPDATE am_audit_entries SET leaf_hash = '0707070707070707070707070707070707070707070707070707070707070707' WHERE seq = 2";

#[tokio::test]
async fn nothing_is_signed_over_a_changed_leaf() {
    let log = open().await;
    log.sealed(3).await;
    log.run(format!("{UNLOCK} {LEAF}")).await;
    log.refuses("first 3 entries").await;
    let root = log.audit.head().await.unwrap().unwrap().0.root;
    log.run(format!("UPDATE am_audit_heads SET root = '{root}'")).await;
    log.refuses("first 3 entries").await;
}

#[tokio::test]
async fn nothing_is_signed_after_a_truncation_or_in_another_database() {
    for (size, restarted) in [(3, false), (3, true), (0, false), (0, true)] {
        let mut log = open().await;
        log.reopened(signer(), None, false).await.unwrap();
        log.sealed(3).await;
        log.sealed(2).await;
        let mode = std::fs::metadata(log.dir.path().join("audit-last-head.txt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        log.rolled_back(size).await;
        if restarted {
            log.reopened(signer(), None, false).await.unwrap();
        }
        log.refuses("a head over 5 entries was signed").await;
        // Longer than it was, and all the same another log.
        log.append(5).await;
        log.refuses("a head over 5 entries was signed").await;
    }
}

#[tokio::test]
async fn nothing_is_signed_over_a_history_that_was_written_anew() {
    let mut log = open().await;
    log.reopened(signer(), None, false).await.unwrap();
    log.sealed(4).await;
    log.rolled_back(0).await;
    // Somebody who has the key signs another history that is long enough.
    let mut forger = open().await;
    std::mem::swap(&mut forger.db, &mut log.db);
    forger.audit = log.signed_by_another(&forger.db, signer());
    forger.sealed(6).await;
    std::mem::swap(&mut forger.db, &mut log.db);
    log.refuses("first 4 entries").await;
    log.reopened(signer(), None, false).await.unwrap();
    log.refuses("first 4 entries").await;
}

#[tokio::test]
async fn a_restore_is_an_entry_and_verification_shows_it() {
    let mut log = open().await;
    log.reopened(signer(), None, false).await.unwrap();
    let before = log.sealed(3).await;
    let lost = log.sealed(2).await;
    assert!(matches!(log.audit.accept_restore("no need").await, Err(CustodyError::NothingRestored)));
    log.rolled_back(3).await;
    log.reopened(signer(), None, false).await.unwrap();
    log.refuses("a head over 5 entries").await;
    // Another process, which still knows the lost head.
    let running = log.audit.clone();
    log.reopened(signer(), None, false).await.unwrap();
    log.audit.accept_restore("disk failure").await.unwrap();
    assert_eq!(log.audit.refusal(), None);
    log.append(4).await;
    running.seal().await.unwrap();
    assert_eq!(running.refusal(), None, "it follows the head of the next epoch");
    let report = log.verified(&[signer()], &[before.clone(), lost.clone()]).await;
    assert!(report.valid, "{report:?}");
    assert_eq!((report.lost_checkpoints, report.restores.len()), (1, 1));
    let restore = &report.restores[0];
    assert_eq!((restore.restored_from, restore.lost_until, restore.epoch), (3, 5, 2));
    assert_eq!(restore.reason, "disk failure");
    // Only what the entry says was lost may be missing.
    log.rolled_back(3).await;
    let report = log.verified(&[signer()], &[lost]).await;
    assert!(!report.valid, "{report:?}");
}

#[tokio::test]
async fn a_change_of_keys_is_signed_by_both_and_everything_verifies() {
    let mut log = open().await;
    log.reopened(signer(), None, false).await.unwrap();
    let kept = log.sealed(3).await;
    assert!(matches!(log.reopened(other_signer(), None, false).await, Err(CustodyError::MissingKey(3))));
    log.reopened(other_signer(), Some(signer()), false).await.unwrap();
    log.audit.seal().await.unwrap();
    log.sealed(2).await;
    let keys = log.audit.keys().await.unwrap();
    let shown: Vec<_> = keys.iter().map(|key| (key.first_size, key.public_key.clone(), key.change.as_str())).collect();
    let [first, second] = [signer().public_key_hex(), other_signer().public_key_hex()];
    assert_eq!(shown, [(1, first, "first"), (4, second, "rotated")]);
    log.reopened(other_signer(), None, false).await.unwrap();
    log.sealed(1).await;
    for keys in [vec![signer()], vec![other_signer()], vec![other_signer(), signer()]] {
        let report = log.verified(&keys, std::slice::from_ref(&kept)).await;
        assert!(report.valid, "{report:?}");
        assert_eq!((report.key_changes.len(), report.key_changes[0].seq), (1, 4));
    }
    let stranger = Signer::from_hex(&"19".repeat(32)).unwrap();
    assert!(!log.verified(&[stranger], &[]).await.valid);
    // The old key may sign nothing any more.
    let (head, _) = log.audit.head().await.unwrap().unwrap();
    let forged = LogCheckpoint::parse(&head.checkpoint).unwrap().sign([&signer()]);
    let export = log.export().await;
    let line = serde_json::to_string(&head.checkpoint).unwrap();
    let export = export.replace(&line, &serde_json::to_string(&forged).unwrap());
    let report = verify_export(export.as_bytes(), &[signer().public_key().clone()], &[], &[]).unwrap();
    assert!(report.first_fault.unwrap().what.contains("not signed by this key"));
}

#[tokio::test]
async fn a_lost_key_is_replaced_only_when_that_is_said() {
    let mut log = open().await;
    log.sealed(3).await;
    assert!(matches!(log.reopened(other_signer(), None, false).await, Err(CustodyError::MissingKey(3))));
    log.reopened(other_signer(), None, true).await.unwrap();
    log.sealed(1).await;
    let both = log.verified(&[signer(), other_signer()], &[]).await;
    assert!(both.valid, "{both:?}");
    assert_eq!(both.key_changes[0].from, None);
    for key in [signer(), other_signer()] {
        assert!(!log.verified(&[key], &[]).await.valid, "nothing connects the keys");
    }
}

#[tokio::test]
async fn an_entry_in_this_services_name_is_not_covered_as_its_own() {
    let log = open().await;
    log.sealed(2).await;
    log.append(2).await;
    let copy = "INSERT INTO agent_audit_logs SELECT 'audit_forged', event_type, timestamp, workflow_id, execution_id, step_id, user_id, security_level, ip_address, user_agent, event_data, previous_state, new_state, risk_score, requires_investigation, investigation_notes, cryptographic_hash, signature_valid, created_at FROM agent_audit_logs WHERE execution_id = 'exec_0' LIMIT 1;
        INSERT INTO am_audit_entries (audit_id, leaf_hash, source, event_type, security_level, risk_score, requires_investigation, mac)
        SELECT 'audit_forged', leaf_hash, 'service', event_type, security_level, risk_score, requires_investigation, mac FROM am_audit_entries ORDER BY seq DESC LIMIT 1";
    log.run(copy).await;
    log.audit.seal().await.unwrap();
    let sources: Vec<_> = ["audit_forged"].into_iter().map(AuditId::from).collect();
    assert_eq!(log.audit.get(&sources[0]).await.unwrap().source, EntrySource::Coordinator);
    let report = log.verified(&[signer()], &[]).await;
    assert_eq!((report.valid, report.entries, report.by_coordinator), (true, 5, 1), "{report:?}");
}

#[tokio::test]
async fn a_row_that_was_changed_after_its_head_is_found_again() {
    let log = open().await;
    log.sealed(600).await;
    let pages = async || {
        let mut registry = prometheus_client::registry::Registry::default();
        log.audit.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        page.contains("\naudit_entry_changed 1\n")
    };
    assert!(!pages().await);
    log.run("UPDATE agent_audit_logs SET event_data = '{}' WHERE execution_id = 'exec_7'").await;
    log.audit.seal().await.unwrap();
    assert!(pages().await);
}
