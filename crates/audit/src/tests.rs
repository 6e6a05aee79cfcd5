//! The log against somebody who has the database file: whatever is changed shows, and where.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::*;
use am_db::{DatabaseError as DbError, DatabaseSettings as DbSettings, migrate, sql_value::SqlValue};

pub(super) struct AuditTestLog {
    pub(super) dir: tempfile::TempDir,
    pub(super) db: Database,
    pub(super) audit: AuditLog,
}

pub(super) fn signer() -> Signer {
    Signer::from_hex(&"17".repeat(32)).unwrap()
}

pub(super) async fn open() -> AuditTestLog {
    let dir = tempfile::tempdir().unwrap();
    let settings = DbSettings { readers: 2, busy_timeout: Duration::from_secs(5) };
    let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
    migrate(&db, &Clock::system()).await.unwrap();
    let settings = AuditSettings { origin: "test/log".into(), every: Duration::from_secs(3600) };
    let (clock, ids) = (Clock::system(), IdGenerator::seeded(7));
    let webhooks = WebhookService::new(db.clone(), clock.clone(), ids.clone(), &Default::default()).unwrap();
    let audit = AuditLog::new(db.clone(), clock, ids, webhooks, signer(), settings);
    AuditTestLog { dir, db, audit }
}

async fn read(mut export: AuditExport) -> String {
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        text.push_str(&lines);
    }
    text
}

impl AuditTestLog {
    fn entry(&self, number: usize) -> AuditEntry {
        let event = EventType::ALL[number % EventType::ALL.len()];
        AuditEntry::new(event, Timestamp(self.audit.0.clock.now()))
            .of("thing", "changed")
            .on_behalf_of("system")
            .execution(format!("exec_{number}"))
            .data("text", json!("ä \u{0} \u{1f600} ' \" \\ \n"))
            .data("number", json!(number))
            .change(Some(json!({"a": number})), None)
    }

    pub(super) async fn append(&self, count: usize) {
        let audit = self.audit.clone();
        let entries: Vec<AuditEntry> = (0..count).map(|number| self.entry(number)).collect();
        self.db.write(async move |tx: &mut Tx| audit.append(tx, entries).await).await.unwrap();
    }

    /// Execute statements as another process does.
    pub(super) async fn run(&self, sql: impl Into<String>) {
        let mut other = SqliteConnection::connect(self.dir.path().join("t.db").to_str().unwrap()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut other).await.unwrap();
    }

    pub(super) async fn export(&self) -> String {
        read(self.audit.export(1).await.unwrap()).await
    }

    pub(super) async fn verify(&self, kept: &[String]) -> AuditVerificationReport {
        verify_export(self.export().await.as_bytes(), &[signer().public_key().clone()], kept, &[]).unwrap()
    }

    pub(super) async fn sealed(&self, count: usize) -> String {
        self.append(count).await;
        self.audit.seal().await.unwrap();
        self.audit.head().await.unwrap().unwrap().0.checkpoint
    }
}

/// What a thief of the file can do: our triggers are no obstacle to it.
pub(super) const UNLOCK: &str =
    "DROP TRIGGER IF EXISTS am_audit_entries_kept; DROP TRIGGER IF EXISTS am_audit_entries_unchanged;";

#[tokio::test]
async fn a_log_that_nobody_touched_is_valid_and_its_proofs_hold() {
    let log = open().await;
    assert!(log.audit.head().await.unwrap().is_none());
    let first = log.sealed(5).await;
    log.sealed(700).await;
    log.append(3).await;
    let report = log.verify(&[first]).await;
    assert_eq!((report.valid, report.entries, report.sealed, report.heads), (true, 705, 705, 3), "{report:?}");
    let unsealed = log
        .audit
        .search(&AuditFilter::default(), &AuditPageRequest { after: None, oldest_first: false, limit: 1, offset: 0 })
        .await
        .unwrap();
    let last = &unsealed.entries[0];
    assert_eq!(last.log_sequence, Some(708));
    assert!(matches!(log.audit.inclusion(&last.id, None).await, Err(AuditError::NotSealed(_))));
    log.audit.seal().await.unwrap();
    for size in [None, Some(708)] {
        log.audit.inclusion(&last.id, size).await.unwrap().verify(&[signer().public_key().clone()]).unwrap();
    }
    for from in [5, 705, 708] {
        let proof = log.audit.consistency(from, None).await.unwrap();
        proof.verify(&[signer().public_key().clone()]).unwrap();
        assert_eq!(
            proof.verify(&[Signer::from_hex(&"18".repeat(32)).unwrap().public_key().clone()]).unwrap_err(),
            ProofError::Head(checkpoint::CheckpointError::MissingSignature)
        );
    }
    assert!(matches!(log.audit.consistency(6, None).await, Err(AuditError::HeadNotFound(6))));
    assert!(matches!(log.audit.inclusion(&"audit_none".into(), None).await, Err(AuditError::NotFound(_))));
}

#[tokio::test]
async fn an_export_ends_at_the_head_that_it_began_with() {
    let log = open().await;
    for already in [1, 500] {
        log.sealed(already).await;
        let export = log.audit.export(1).await.unwrap();
        log.sealed(2).await;
        let report = verify_export(read(export).await.as_bytes(), &[signer().public_key().clone()], &[], &[]).unwrap();
        assert!(report.valid && report.entries == report.sealed, "{report:?}");
    }
}

#[tokio::test]
async fn the_log_is_only_appended_to() {
    let log = open().await;
    log.append(2).await;
    for sql in ["DELETE FROM am_audit_entries", "UPDATE am_audit_entries SET leaf_hash = ''"] {
        let work =
            async move |tx: &mut Tx| Ok::<_, DbError>(sqlx::raw_sql(sql).execute(tx.conn().await?).await.map(drop)?);
        assert!(log.db.write(work).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn every_byte_of_every_column_counts() {
    let log = open().await;
    log.sealed(3).await;
    let row = sqlx::query("SELECT * FROM agent_audit_logs WHERE execution_id = 'exec_1'")
        .fetch_one(&mut *log.db.read().await.unwrap())
        .await
        .unwrap();
    let columns: Vec<SqlValue> =
        (0..leaf::LEAF_COLUMNS.len()).map(|at| SqlValue::from_row(&row, at).unwrap()).collect();
    let mut flips = 0;
    for (column, value) in leaf::LEAF_COLUMNS.iter().zip(&columns) {
        // Each byte with flipped bits, and other kinds of values.
        let mut changed: Vec<String> = vec!["x'00'".into(), "''".into(), "12345.5".into(), "4711".into()];
        match value {
            SqlValue::Text(text) => {
                for at in 0..text.len() {
                    for bit in [0, 5] {
                        let mut bytes = text.clone().into_bytes();
                        bytes[at] ^= 1 << bit;
                        changed.push(format!("CAST(x'{}' AS TEXT)", hex::encode(bytes)));
                    }
                }
                changed.push(format!("CAST(x'{}' AS TEXT)", hex::encode(format!("{text}\0more"))));
                changed.push(format!("x'{}'", hex::encode(text)));
            }
            SqlValue::Integer(number) => changed.push((number + 1).to_string()),
            SqlValue::Null => {}
            SqlValue::Unsupported { .. } => panic!("{column} is odd"),
        }
        for new in changed {
            flips += 1;
            let sql = format!("UPDATE agent_audit_logs SET {column} = {new} WHERE execution_id = 'exec_1'");
            log.tampered(&sql, 2, column).await;
        }
    }
    assert!(flips > 600, "{flips}");
    assert!(log.verify(&[]).await.valid, "everything was put back");
}

impl AuditTestLog {
    /// Does `sql` show at entry `seq`? It is undone.
    async fn tampered(&self, sql: &str, seq: u64, what: &str) {
        let (sql, key) = (AssertSqlSafe(sql.to_owned()), signer());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            sqlx::raw_sql(sql).execute(&mut *conn).await?;
            let (mut after, mut headed) = (0, 0);
            let mut text = String::new();
            while let Some(lines) = export::next_lines(conn, &mut after, &mut headed, 3).await? {
                text.push_str(&lines);
            }
            let report = verify_export(text.as_bytes(), &[key.public_key().clone()], &[], &[]).unwrap();
            // As an error, so that the change is undone.
            Err::<(), DbError>(DbError::SchemaMismatch(serde_json::to_string(&report).unwrap()))
        };
        let answer = self.db.write(work).await.unwrap_err();
        let report = match &answer {
            DbError::SchemaMismatch(report) => report,
            // The flip made the id of another row: SQLite itself forbids that.
            DbError::Duplicate(_) if what == "id" => return,
            _ => panic!("{what}: {answer}"),
        };
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        assert_eq!((&report["valid"], &report["first_fault"]["seq"]), (&json!(false), &json!(seq)), "{what}: {report}");
    }
}

#[tokio::test]
async fn swaps_drops_reinsertions_and_truncation_show() {
    let log = open().await;
    let kept = log.sealed(3).await;
    let (one, three) = ("execution_id = 'exec_0'", "execution_id = 'exec_2'");
    let swap = format!(
        "UPDATE agent_audit_logs SET event_data = '1' WHERE {one}; UPDATE agent_audit_logs SET event_data = (SELECT event_data FROM agent_audit_logs WHERE {three}) WHERE {one}"
    );
    log.tampered(&swap, 1, "the data of another").await;
    let ids = format!(
        "UPDATE agent_audit_logs SET id = 'x' WHERE {one}; UPDATE agent_audit_logs SET id = (SELECT audit_id FROM am_audit_entries WHERE seq = 1) WHERE {three};
         UPDATE agent_audit_logs SET id = (SELECT audit_id FROM am_audit_entries WHERE seq = 3) WHERE id = 'x'"
    );
    log.tampered(&ids, 1, "two rows with each other's ids").await;
    log.tampered(&format!("DELETE FROM agent_audit_logs WHERE {three}"), 3, "a row that is gone").await;
    let places = format!(
        "{UNLOCK} UPDATE am_audit_entries SET seq = 99 WHERE seq = 1; UPDATE am_audit_entries SET seq = 1 WHERE seq = 2; UPDATE am_audit_entries SET seq = 2 WHERE seq = 99"
    );
    log.tampered(&places, 1, "two entries in each other's places").await;
    let again = format!(
        "{UNLOCK} UPDATE am_audit_entries SET seq = 4 WHERE seq = 2; UPDATE am_audit_entries SET seq = seq - 1 WHERE seq > 2"
    );
    log.tampered(&again, 1, "one taken out and put in again at the end").await;
    let both =
        format!("{UNLOCK} DELETE FROM agent_audit_logs WHERE {three}; DELETE FROM am_audit_entries WHERE seq = 3");
    log.tampered(&both, 3, "the last with its leaf").await;
    // A row and its leaf, made to fit each other: the head tells, though not which of its entries it was.
    let leaf = hex::encode([7; 32]);
    log.tampered(&format!("{UNLOCK} UPDATE am_audit_entries SET leaf_hash = '{leaf}' WHERE seq = 2"), 1, "a leaf")
        .await;
    let head = "UPDATE am_audit_heads SET checkpoint = replace(checkpoint, 'test/log', 'test/other')";
    log.tampered(head, 1, "a head").await;

    // All of the end, heads too: only a head that was kept elsewhere can show that.
    log.sealed(2).await;
    log.run(format!("{UNLOCK} DELETE FROM agent_audit_logs; DELETE FROM am_audit_entries; DELETE FROM am_audit_heads; DELETE FROM am_audit_tiles")).await;
    assert!(log.verify(&[]).await.first_fault.unwrap().what.contains("empty"), "nothing is left that could contradict");
    let report = log.verify(&[kept]).await;
    assert_eq!(report.first_fault.unwrap().seq, 1);
    assert!(!report.valid);
}

#[tokio::test]
async fn an_export_shows_nothing_that_is_not_sealed() {
    let log = open().await;
    log.sealed(2).await;
    let export = log.export().await;
    let verify = |text: &str| verify_export(text.as_bytes(), &[signer().public_key().clone()], &[], &[]).unwrap();
    assert!(verify(&export).valid);
    for (first, second) in [
        ("{\"seq\":1,", "{\"note\":\"paid\",\"seq\":1,"),
        ("{\"seq\":1,", "{\"source\":\"coordinator\",\"seq\":1,"),
        ("{\"seq\":1,", "{\"columns\":[],\"seq\":1,"),
        ("{\"seq\":1,", "{\"checkpoint\":\"\",\"seq\":1,"),
        ("{\"checkpoint\":", "{\"note\":\"all good\",\"checkpoint\":"),
        ("{\"checkpoint\":", "{\"checkpoint\":\"\",\"checkpoint\":"),
    ] {
        let changed = export.replacen(first, second, 1);
        assert_ne!(changed, export);
        assert!(!verify(&changed).valid, "{second}");
    }
    for empty in ["", "\n", "\n\n", " "] {
        assert!(!verify(empty).valid, "{empty:?}");
    }
    // The same bytes in another guise.
    let text = log
        .audit
        .search(&AuditFilter::default(), &AuditPageRequest { after: None, oldest_first: false, limit: 1, offset: 0 })
        .await;
    let id = text.unwrap().entries[0].id.clone();
    for kind in ["text", "tale"] {
        let odd = json!({"kind": kind, "hex": hex::encode("thing")}).to_string();
        let column = SqlValue::Text(id.as_str().to_owned());
        assert!(column.is_canonical() && !serde_json::from_str::<SqlValue>(&odd).unwrap().is_canonical(), "{odd}");
    }
    assert!(serde_json::from_str::<SqlValue>(r#"{"kind": "blob", "hex": "00", "more": 1}"#).is_err());
}

#[tokio::test]
async fn a_proof_shows_nothing_that_it_does_not_prove() {
    let log = open().await;
    log.sealed(3).await;
    log.sealed(2).await;
    let keys = [signer().public_key().clone()];
    let filter = AuditFilter { execution_id: Some("exec_2".into()), ..AuditFilter::default() };
    let found = log
        .audit
        .search(&filter, &AuditPageRequest { after: None, oldest_first: false, limit: 1, offset: 0 })
        .await
        .unwrap();
    let inclusion = log.audit.inclusion(&found.entries[0].id, None).await.unwrap();
    inclusion.verify(&keys).unwrap();
    assert!(inclusion.columns.is_some());
    let inclusion = serde_json::to_value(inclusion).unwrap();
    for (member, value) in [
        ("/audit_id", json!("audit_other")),
        ("/source", json!("reported")),
        ("/columns/1", json!("OTHER")),
        ("/columns", json!([])),
        ("/leaf_index", json!(1)),
        ("/head/size", json!(6)),
        ("/head/root", json!("00")),
    ] {
        let mut changed = inclusion.clone();
        *changed.pointer_mut(member).unwrap() = value;
        let proof: InclusionProof = serde_json::from_value(changed).unwrap();
        assert!(proof.verify(&keys).is_err(), "{member}");
    }
    let consistency = serde_json::to_value(log.audit.consistency(3, None).await.unwrap()).unwrap();
    for (member, value) in [("/from/size", json!(2)), ("/to/size", json!(9)), ("/to/root", json!("00"))] {
        let mut changed = consistency.clone();
        *changed.pointer_mut(member).unwrap() = value;
        let proof: ConsistencyProof = serde_json::from_value(changed).unwrap();
        assert!(proof.verify(&keys).is_err(), "{member}");
    }
    for place in ["", "/head"] {
        let mut added = inclusion.clone();
        added.pointer_mut(place).unwrap()["note"] = json!("paid");
        assert!(serde_json::from_value::<InclusionProof>(added).is_err(), "{place}");
    }
}

#[tokio::test]
async fn what_the_coordinator_writes_is_sealed_and_marked() {
    let log = open().await;
    log.sealed(2).await;
    log.run(
        "INSERT INTO agent_audit_logs (id, event_type, timestamp, security_level, event_data, previous_state, new_state, risk_score, requires_investigation, signature_valid, created_at)
         VALUES ('audit_c1', 'ACCESS_DENIED', '2026-05-12 14:29:30.123456', 'INTERNAL', '{\"a\": NaN, \"signature\": \"00\", \"public_key\": \"00\"}', 'null', NULL, 84, 1, 1, '2026-05-12 14:29:30.123456')",
    )
    .await;
    log.append(1).await;
    let found = log.audit.get(&"audit_c1".into()).await.unwrap();
    assert_eq!((found.log_sequence, found.signature_valid), (None, Some(false)), "its own word for it counts nothing");
    log.audit.seal().await.unwrap();
    log.audit.seal().await.unwrap();
    let found = log.audit.get(&"audit_c1".into()).await.unwrap();
    assert_eq!((found.log_sequence, found.source), (Some(4), EntrySource::Coordinator));
    let report = log.verify(&[]).await;
    assert_eq!((report.valid, report.by_coordinator), (true, 1), "{report:?}");
    let counts = log.audit.counts().await.unwrap();
    assert_eq!((counts.total, counts.by_event_type["access_denied"]), (4, 1));
    // What is written beside the log later looks like the coordinator's, and never like ours.
    log.run("INSERT INTO agent_audit_logs SELECT 'audit_copy', event_type, timestamp, workflow_id, execution_id, step_id, user_id, security_level, ip_address, user_agent, event_data, previous_state, new_state, risk_score, requires_investigation, investigation_notes, cryptographic_hash, signature_valid, created_at FROM agent_audit_logs WHERE execution_id = 'exec_0' LIMIT 1").await;
    log.audit.seal().await.unwrap();
    assert_eq!(log.audit.get(&"audit_copy".into()).await.unwrap().source, EntrySource::Coordinator);
}

#[tokio::test]
async fn rows_are_looked_at_where_others_have_committed() {
    let log = open().await;
    log.sealed(2).await;
    let row = |id: &str| {
        format!(
            "INSERT INTO agent_audit_logs (id, event_type, timestamp, security_level, event_data, risk_score, requires_investigation, created_at)
             VALUES ('{id}', 'ACCESS_DENIED', '2026-05-12 14:29:30.123456', 'INTERNAL', '{{}}', 1, 0, '2026-05-12 14:29:30.123456')"
        )
    };
    let sealed = async |id: &str| {
        log.append(1).await;
        log.audit.seal().await.unwrap();
        log.audit.get(&id.into()).await.unwrap().log_sequence.is_some()
    };
    log.run(row("audit_of_another")).await;
    assert!(sealed("audit_of_another").await);
    // A row that this process writes without a leaf, as it never does: nobody looks for it.
    let own = AssertSqlSafe(row("audit_of_ours"));
    let work = async move |tx: &mut Tx| Ok::<_, DbError>(sqlx::query(own).execute(tx.conn().await?).await.map(drop)?);
    log.db.write(work).await.unwrap();
    assert!(!sealed("audit_of_ours").await);
    log.run(row("audit_after_ours")).await;
    assert!(sealed("audit_after_ours").await);
    assert!(!sealed("audit_of_ours").await);
}

#[tokio::test]
async fn every_filter_holds_and_pages_meet_nothing_twice() {
    let log = open().await;
    log.append(300).await;
    log.audit.seal().await.unwrap();
    let all = async |filter: AuditFilter, limit: u32| {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = log
                .audit
                .search(&filter, &AuditPageRequest { after, oldest_first: false, limit, offset: 0 })
                .await
                .unwrap();
            found.extend(page.entries);
            match page.next {
                Some((_, id)) => after = Some(id),
                None => return (found, page.total),
            }
        }
    };
    let (everything, total) = all(AuditFilter::default(), 7).await;
    assert_eq!((everything.len(), total), (300, Some(300)));
    assert!(everything.windows(2).all(|pair| pair[0].log_sequence > pair[1].log_sequence));
    let filters = [
        AuditFilter { event_type: Some(EventType::StepFailed), ..AuditFilter::default() },
        AuditFilter { execution_id: Some("exec_17".into()), ..AuditFilter::default() },
        AuditFilter { user: Some(vec!["system".into(), "other".into()]), risk_min: Some(80), ..AuditFilter::default() },
        AuditFilter { requires_investigation: Some(true), ..AuditFilter::default() },
        AuditFilter { requires_investigation: Some(false), risk_max: Some(3), ..AuditFilter::default() },
        AuditFilter {
            risk_min: Some(24),
            risk_max: Some(36),
            event_type: Some(EventType::ExecutionFailed),
            ..AuditFilter::default()
        },
        AuditFilter { security_level: Some(SecurityLevel::Restricted), ..AuditFilter::default() },
        AuditFilter { workflow_id: Some("none".into()), ..AuditFilter::default() },
    ];
    for filter in filters {
        let keeps = |record: &&AuditEntryView| {
            filter.event_type.is_none_or(|event| event == record.event_type)
                && filter.execution_id.as_ref().is_none_or(|id| Some(id) == record.execution_id.as_ref())
                && filter.workflow_id.as_ref().is_none_or(|id| Some(id) == record.workflow_id.as_ref())
                && filter.security_level.is_none_or(|level| level == record.security_level)
                && filter.requires_investigation.is_none_or(|wanted| wanted == record.requires_investigation)
                && filter.risk_min.is_none_or(|least| record.risk_score >= least)
                && filter.risk_max.is_none_or(|most| record.risk_score <= most)
        };
        let expected: Vec<&str> = everything.iter().filter(keeps).map(|record| record.id.as_str()).collect();
        let (found, total) = all(filter.clone(), 3).await;
        assert_eq!(found.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), expected, "{filter:?}");
        assert!(total.is_none_or(|total| total == expected.len() as u64), "{filter:?}: {total:?}");
    }
}

#[tokio::test]
async fn cosigned_heads_are_shown_exported_verified_and_kept() {
    use am_core::crypto::{NoteKey, NoteKeyKind};
    let log = open().await;
    let (witness, name) = (Signer::from_hex(&"19".repeat(32)).unwrap(), "witness.example/w1");
    let key = NoteKey::new(name, NoteKeyKind::Cosignature, witness.public_key().clone());
    let (mut sizes, mut lines) = (Vec::new(), Vec::new());
    for count in [3, 2] {
        let note = log.sealed(count).await;
        let line = cosign(&note, name, &witness, Clock::system().now()).unwrap();
        let (text, _) = checkpoint::split_note(&note).unwrap();
        let found = cosignature::verify_cosignatures(text, &line, &key).unwrap().remove(0);
        let size = log.audit.head().await.unwrap().unwrap().0.size;
        for _ in 0..2 {
            let again = found.clone();
            let work = async move |tx: &mut Tx| cosigned_heads::insert_cosignature(tx, size, &again).await;
            log.db.write(work).await.unwrap();
        }
        let (head, cosignatures) = log.audit.head().await.unwrap().unwrap();
        assert_eq!((head.checkpoint, cosignatures), (format!("{note}{line}"), vec![found.clone()]), "once");
        assert_eq!(cosigned_heads::last_cosigned(&mut log.db.read().await.unwrap(), &key).await.unwrap(), size);
        sizes.push(size);
        lines.push(found.line);
    }
    log.sealed(1).await;
    assert_eq!(sizes, [3, 5]);
    assert!(log.audit.heads(0, 10).await.unwrap().iter().take(2).all(|head| head.checkpoint.contains(name)));
    let report = |text: &str, witnesses: &[NoteKey]| {
        verify_export(text.as_bytes(), &[signer().public_key().clone()], &[], witnesses).unwrap()
    };
    let export = log.export().await;
    let good = report(&export, std::slice::from_ref(&key));
    let whole = WitnessedSize { witness: name.into(), size: Some(5) };
    assert_eq!((good.valid, good.cosignatures, good.cosigned), (true, 2, vec![whole]), "{:?}", good.first_fault);
    let stranger = NoteKey::new(name, NoteKeyKind::Cosignature, signer().public_key().clone());
    let bad = report(&export, &[key.clone(), stranger]);
    assert!(!bad.valid && bad.cosigned[0].size == Some(5) && bad.cosigned[1].size.is_none(), "{bad:?}");
    // The cosignature over the first head under the second one.
    let swapped = export.replace(&lines[1], &lines[0]);
    let bad = report(&swapped, std::slice::from_ref(&key));
    assert!(!bad.valid && bad.cosigned[0].size == Some(3), "{bad:?}");
    assert!(report(&swapped, &[]).valid, "nobody asked for the witness");
    for sql in ["DELETE FROM am_audit_cosignatures", "UPDATE am_audit_cosignatures SET line = ''"] {
        let work =
            async move |tx: &mut Tx| Ok::<_, DbError>(sqlx::raw_sql(sql).execute(tx.conn().await?).await.map(drop)?);
        assert!(log.db.write(work).await.is_err(), "{sql}");
    }
}
