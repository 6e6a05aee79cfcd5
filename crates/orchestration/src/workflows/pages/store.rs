//! Queries for pages of workflows.

use serde_json::value::RawValue;

use super::super::{
    model::{Workflow, WorkflowFilter},
    store::{ListedWorkflowRow, WorkflowRow},
};
use crate::error::Result;
use am_db::{
    Connection, Database,
    foreign_rows::log_unreadable,
    kept_list::{ListPage, ListedTable, PageReader, filled_parts},
    owner::PrincipalName,
    page::PageRequest,
    principal::Principal,
    row::{ListedRow, PackedColumns as _},
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

/// Whose counters are those of everybody's workflows.
const ALL_OWNERS: &str = "*";
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
        self.owner_cells().fold(query.bind(self.all_public), |query, (owner, public)| query.bind(owner).bind(public))
    }

    /// The same for a statement that names the only part alone.
    fn bind_only(&self, query: Query) -> Query {
        let query = query.bind_some(self.all_public);
        self.owner_cells().fold(query, |query, (owner, public)| query.bind_some(owner).bind_some(public))
    }

    fn owner_cells(&self) -> impl Iterator<Item = (Option<&String>, Option<bool>)> {
        (0..MAX_OWNER_PARTS).map(|at| self.owners.get(at).map(|(owner, public)| (owner, *public)).unzip())
    }

    /// Keys of the counters of these parts, as JSON: owner and kind.
    fn counters(&self) -> String {
        let own = self.owners.iter().map(|(owner, public)| [owner.as_str(), counted_kind(*public)]);
        let all = self.all_public.map(|public| [ALL_OWNERS, counted_kind(public)]);
        serde_json::json!(own.chain(all).collect::<Vec<_>>()).to_string()
    }

    /// Leave out the parts without rows, where the page is deep.
    async fn leave_out_empty(&mut self, conn: &mut Connection, page: &PageRequest) -> Result<()> {
        let owners = self.owners.iter().map(|(owner, _)| owner.as_str()).chain(self.all_public.map(|_| ALL_OWNERS));
        let Some(filled) = filled_parts(conn, ListedTable::Workflows, page, owners).await? else { return Ok(()) };
        let has = |owner: &str, public| filled.iter().any(|(one, kind)| one == owner && kind == counted_kind(public));
        self.owners.retain(|(owner, public)| has(owner, *public));
        self.all_public = self.all_public.filter(|public| has(ALL_OWNERS, *public));
        Ok(())
    }
}

/// Kind of a counter: of public workflows, or of private ones.
fn counted_kind(public: bool) -> &'static str {
    if public { "1" } else { "0" }
}

const TAGGED: &str = " [AND NOT EXISTS (SELECT 1 FROM {records $10 ours:text pythons:text} AS tag
    WHERE NOT ({contains l.tags tag.ours} OR {contains l.tags tag.pythons}))] ";
/// When a workflow was made, and where in the list a page begins.
const MADE: &str = " {span l. $11} ";
const POSITION: &str =
    " [AND (l.created_at, l.id) < (coalesce((SELECT created_at FROM am_workflow_list WHERE id = $14), $13), $14)]
    [AND (l.created_at, l.id) > (coalesce((SELECT created_at FROM am_workflow_list WHERE id = $16), $15), $16)] ";
const NEWS: &str = "{news ai_agent_workflows am_workflow_list $20}, ";
/// The rows of a page in one value: before their columns, and behind the parts of the list.
const ROWS_FROM: &str = "(SELECT {arrays {array page.listed_id, page.listed_at, w.created_at = page.listed_at, ";
const ROWS_END: &str = " ORDER BY listed_at [?17 DESC], listed_id [?17 DESC] LIMIT $18 OFFSET $19) AS page
    LEFT JOIN ai_agent_workflows w ON w.id = page.listed_id)";
/// The parts of the list, the first behind the columns.
const PARTS: [&str; 1 + MAX_OWNER_PARTS] = [
    "}} FROM (SELECT l.id AS listed_id, l.created_at AS listed_at FROM am_workflow_list l WHERE l.is_public = $1 ",
    " UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $2 AND l.is_public = $3 ",
    " UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $4 AND l.is_public = $5 ",
    " UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $6 AND l.is_public = $7 ",
    " UNION ALL SELECT l.id, l.created_at FROM am_workflow_list l WHERE l.owner_id = $8 AND l.is_public = $9 ",
];

/// The part of one owner where it is the only one; that of all public workflows is the first of [`PARTS`] then, too.
const OWNER_PART: &str = "}} FROM (SELECT l.id AS listed_id, l.created_at AS listed_at FROM am_workflow_list l WHERE l.owner_id = $2 AND l.is_public = $3 ";
/// The total by counters.
const COUNTED: &str =
    "(SELECT CAST(coalesce(sum(c.entries), 0) AS BIGINT) FROM {records $21 owner:text kind:text} AS part
         JOIN am_list_counts c ON c.list = 'workflows' AND c.owner_id = part.owner AND c.kind = part.kind), ";

/// The statement of a page: pieces for the total, and parts of the list; where none are named, all of them.
macro_rules! page_statement {
    ($($total:expr),+; $($part:expr),+) => {
        sql!("SELECT ", NEWS, $($total,)+ ROWS_FROM, WorkflowRow::LISTED, $($part, TAGGED, MADE, POSITION,)+ ROWS_END)
    };
    ($($total:expr),+) => { page_statement!($($total),+; PARTS[0], PARTS[1], PARTS[2], PARTS[3], PARTS[4]) };
}

/// Read a page, newest first, by the list of workflows; `None`: it can't be used yet.
async fn list_kept(
    db: &Database,
    conn: &mut Connection,
    reader: &Principal,
    filter: &WorkflowFilter,
) -> Result<Option<ListPage<Workflow>>> {
    let Some(mut parts) = PageParts::new(reader, filter) else { return Ok(None) };
    let tags = tags_as_json(filter)?;
    let is_counted = tags.is_none() && filter.page.created.is_unbounded();
    if is_counted {
        parts.leave_out_empty(conn, &filter.page).await?;
    }
    let counters = parts.counters();
    let statement = |page: &PageRequest, place: i64| {
        let query = match (is_counted, parts.all_public, &*parts.owners) {
            (true, Some(_), []) => parts.bind_only(page_statement!(COUNTED; PARTS[0])),
            (true, None, [_]) => parts.bind_only(page_statement!(COUNTED; OWNER_PART)),
            (true, ..) => parts.bind(page_statement!(COUNTED)),
            (false, ..) => parts.bind(page_statement!(
                "(SELECT count(*) FROM am_workflow_list l WHERE (l.is_public = $1 OR (l.owner_id = $2 AND l.is_public = $3)
                     OR (l.owner_id = $4 AND l.is_public = $5) OR (l.owner_id = $6 AND l.is_public = $7)
                     OR (l.owner_id = $8 AND l.is_public = $9))",
                TAGGED,
                MADE,
                "), "
            )),
        };
        let query = query.bind_some(tags.as_deref()).bind_span(page.created).bind_positions(page);
        let query = query.bind_flag(!page.oldest_first).bind(i64::from(page.limit)).bind(i64::from(page.offset));
        let query = query.bind(place);
        if is_counted { query.bind(counters.as_str()) } else { query }
    };
    let matches = |workflow: &Workflow| {
        (workflow.is_public || reader.owns(&workflow.owner_id))
            && filter.is_public.is_none_or(|public| public == workflow.is_public)
            && filter.owner.as_ref().is_none_or(|forms| forms.iter().any(|form| *form == *workflow.owner_id))
    };
    let reader = PageReader { page: &filter.page, by_state: false, statement: &statement, matches: &matches };
    Ok(db.read_list_page(conn, ListedTable::Workflows, &reader).await?)
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
) -> Result<(i64, Vec<(String, Result<ListedRow<Workflow>>)>)> {
    let tags = tags_as_json(filter)?;
    let query = sql!(
        "SELECT (SELECT count(*)",
        MATCHING,
        " {span $9}), {arrays ",
        WorkflowRow::LISTED,
        "} FROM (SELECT ",
        WorkflowRow::COLUMNS,
        MATCHING,
        " {page $5 ai_agent_workflows}) AS w",
    )
    .bind_all(reader.aliases.iter())
    .bind_all_some(filter.owner.as_deref())
    .bind_some(filter.is_public)
    .bind_some(tags)
    .bind_page(page);
    let (total, json): (i64, String) = query.fetch_one(conn).await?;
    let rows: Vec<&RawValue> = serde_json::from_str(&json)?;
    Ok((total, rows.iter().map(|row| ListedWorkflowRow::read(row.get())).collect()))
}
