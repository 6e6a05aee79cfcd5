//! Queries for pages of workflows.

use serde_json::value::RawValue;

use super::super::{
    model::{Workflow, WorkflowFilter},
    store::PackedWorkflow,
};
use crate::error::Result;
use am_db::{
    Connection, Database,
    foreign_rows::log_unreadable,
    kept_list::{ListPage, ListedTable, PageReader},
    owner::PrincipalName,
    page::PageRequest,
    principal::Principal,
    sql,
    statement::Query,
};

/// Parts of the list that a page is made of, each in its order: one of all public workflows, and four of single owners.
struct PageParts {
    /// True: all public ones.
    all_public: Option<bool>,
    /// Owners, each with whether its public or its private ones.
    owners: Vec<(String, bool)>,
}

/// Maximum number of parts of single owners.
const MAX_OWNER_PARTS: usize = 4;

impl PageParts {
    /// What `reader` sees of what `filter` asks for; `None`: it has too many parts.
    fn new(reader: &Principal, filter: &WorkflowFilter) -> Option<Self> {
        let wants = |public: bool| filter.is_public.is_none_or(|wanted| wanted == public);
        let mut owners = Vec::new();
        match &filter.owner {
            Some(forms) => {
                for form in forms {
                    let listed = String::from(PrincipalName::from_stored(form));
                    owners.extend((wants(false) && reader.owns(form)).then(|| (listed.clone(), false)));
                    owners.extend(wants(true).then_some((listed, true)));
                }
            }
            None if wants(false) => owners.extend(reader.listed_forms().into_iter().map(|form| (form, false))),
            None => {}
        }
        owners.sort();
        owners.dedup();
        let all_public = (filter.owner.is_none() && wants(true)).then_some(true);
        (owners.len() <= MAX_OWNER_PARTS).then_some(Self { all_public, owners })
    }

    /// `query`, whose first parameters are these parts; one that is missing matches nothing.
    fn bind(&self, query: Query) -> Query {
        (0..MAX_OWNER_PARTS).fold(query.bind(self.all_public), |query, at| {
            let (owner, public) = self.owners.get(at).map(|(owner, public)| (owner, *public)).unzip();
            query.bind(owner).bind(public)
        })
    }

    /// Keys of the counters of these parts, as JSON.
    fn counters(&self) -> String {
        let kind = |public: bool| if public { "1" } else { "0" };
        let mut keys: Vec<[&str; 2]> =
            self.owners.iter().map(|(owner, public)| [owner.as_str(), kind(*public)]).collect();
        keys.extend(self.all_public.map(|public| ["*", kind(public)]));
        serde_json::json!(keys).to_string()
    }
}

const TAGGED: &str = " [AND NOT EXISTS (SELECT 1 FROM {records $10 ours:text pythons:text} AS tag
    WHERE NOT ({contains l.tags tag.ours} OR {contains l.tags tag.pythons}))] ";
const AFTER: &str =
    " [AND (l.created_at, l.id) < (coalesce((SELECT created_at FROM am_workflow_list WHERE id = $12), $11), $12)] ";

/// Read a page, newest first, by the list of workflows; `None`: it can't be used yet.
async fn list_kept(
    db: &Database,
    conn: &mut Connection,
    reader: &Principal,
    filter: &WorkflowFilter,
) -> Result<Option<ListPage<Workflow>>> {
    let Some(parts) = PageParts::new(reader, filter) else { return Ok(None) };
    if !db.follow_list(conn, ListedTable::Workflows, false).await? {
        return Ok(None);
    }
    let tags = tags_as_json(filter)?;
    let ids = |page: &PageRequest| {
        let (at, id) = page.after.as_ref().map(|(at, id)| (*at, id)).unzip();
        let ids = sql!(
            "SELECT page.id, (SELECT {bytes w.description} + {bytes w.steps} + {bytes w.dependencies} + {bytes w.tags}
                 FROM ai_agent_workflows w WHERE w.id = page.id AND w.created_at = page.created_at)
             FROM (SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.is_public = $1 ",
            TAGGED,
            AFTER,
            "UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $2 AND l.is_public = $3 ",
            TAGGED,
            AFTER,
            "UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $4 AND l.is_public = $5 ",
            TAGGED,
            AFTER,
            "UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $6 AND l.is_public = $7 ",
            TAGGED,
            AFTER,
            "UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $8 AND l.is_public = $9 ",
            TAGGED,
            AFTER,
            "ORDER BY created_at DESC, id DESC LIMIT $13 OFFSET $14) AS page",
        );
        let ids = parts.bind(ids).bind_some(tags.as_deref()).bind_some(at).bind_some(id);
        ids.bind(i64::from(page.limit)).bind(i64::from(page.offset))
    };
    let rows = |ids: String| {
        sql!("SELECT ", PackedWorkflow::PACKED, " FROM ai_agent_workflows WHERE id IN {texts $1}").bind(ids)
    };
    let matches = |PackedWorkflow(workflow): &PackedWorkflow| {
        (workflow.is_public || reader.owns(&workflow.owner_id))
            && filter.is_public.is_none_or(|public| public == workflow.is_public)
            && filter.owner.as_ref().is_none_or(|forms| forms.iter().any(|form| *form == *workflow.owner_id))
    };
    let page = PageReader {
        page: &filter.page,
        ids: &ids,
        rows: &rows,
        id: |PackedWorkflow(workflow): &PackedWorkflow| &workflow.id,
        matches: &matches,
    };
    let (rows, is_cut) = db.read_list_page(conn, ListedTable::Workflows, &page).await?;
    let total = match &tags {
        None => sql!(
            "SELECT CAST(coalesce(sum(c.entries), 0) AS BIGINT) FROM {records $1 owner:text kind:text} AS part
                 JOIN am_list_counts c ON c.list = 'workflows' AND c.owner_id = part.owner AND c.kind = part.kind"
        )
        .bind(parts.counters()),
        Some(tags) => parts
            .bind(sql!(
                "SELECT count(*) FROM am_workflow_list l WHERE (l.is_public = $1 OR (l.owner_id = $2 AND l.is_public = $3)
                     OR (l.owner_id = $4 AND l.is_public = $5) OR (l.owner_id = $6 AND l.is_public = $7)
                     OR (l.owner_id = $8 AND l.is_public = $9))",
                TAGGED,
            ))
            .bind_some(Some(tags)),
    };
    let rows = rows.into_iter().map(|PackedWorkflow(workflow)| workflow).collect();
    Ok(Some(ListPage { rows, total: total.fetch_value(conn).await?, is_cut }))
}

/// Patterns of the tags that a workflow must have, as JSON; `None`: any.
fn tags_as_json(filter: &WorkflowFilter) -> Result<Option<String>> {
    let tags: Vec<[String; 2]> = filter.tag_patterns().collect();
    Ok((!tags.is_empty()).then(|| serde_json::to_string(&tags)).transpose()?)
}

/// Read a page, newest first, and the total number.
pub async fn list(db: &Database, reader: &Principal, filter: &WorkflowFilter) -> Result<ListPage<Workflow>> {
    let conn = &mut *db.read_list().await?;
    match list_kept(db, conn, reader, filter).await? {
        Some(page) => Ok(page),
        None => list_unkept(conn, reader, filter).await,
    }
}

const MATCHING: &str =
    " FROM ai_agent_workflows WHERE (is_public OR owner_id IN ($1)) [AND owner_id IN ($2)] [AND is_public = $3]
     [AND NOT EXISTS (SELECT 1 FROM {records $4 ours:text pythons:text} AS tag
         WHERE NOT ({contains tags tag.ours} OR {contains tags tag.pythons}))]";

/// Read a page from the table itself, all of which is read for it.
async fn list_unkept(conn: &mut Connection, reader: &Principal, filter: &WorkflowFilter) -> Result<ListPage<Workflow>> {
    let (mut found, mut page) = (Vec::new(), filter.page.clone());
    loop {
        let (total, rows) = read_packed(conn, reader, filter, &page).await?;
        let full = rows.len() == page.limit as usize;
        let last = rows.last().map(|(id, _)| id.clone());
        for (id, row) in rows {
            match row {
                Ok(workflow) => found.push(workflow),
                Err(error) => log_unreadable(&id, &error),
            }
        }
        match last {
            Some(last) if full && found.len() < filter.page.limit as usize => {
                page = filter.page.rest(found.len(), &last);
            }
            _ => return Ok(ListPage { rows: found, total, is_cut: false }),
        }
    }
}

/// Read the rows of a page, each with its id and what is wrong with it, and the total number.
async fn read_packed(
    conn: &mut Connection,
    reader: &Principal,
    filter: &WorkflowFilter,
    page: &PageRequest,
) -> Result<(i64, Vec<(String, Result<Workflow>)>)> {
    let tags = tags_as_json(filter)?;
    let query = sql!(
        "SELECT (SELECT count(*)",
        MATCHING,
        "), {arrays ",
        PackedWorkflow::PACKED,
        "} FROM (SELECT ",
        PackedWorkflow::FROM,
        MATCHING,
        " {page $5 ai_agent_workflows}) AS page",
    )
    .bind_all(reader.aliases.iter())
    .bind_all_some(filter.owner.as_deref())
    .bind_some(filter.is_public)
    .bind_some(tags)
    .bind_page(page);
    let (total, json): (i64, String) = query.fetch_one(conn).await?;
    let rows: Vec<&RawValue> = serde_json::from_str(&json)?;
    Ok((total, rows.iter().map(|row| PackedWorkflow::read(row.get())).collect()))
}
