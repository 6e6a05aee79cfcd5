//! Services as clients see them, and how they are searched.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    ids::{AgentId, MarketGuildId, MarketServiceId, PrincipalId, WorkflowId},
    money::{Money, StatedAmount},
    validation::{FieldPath, Violation, Violations, has_length},
};
use am_db::codec::Timestamp;

use crate::{
    category::ServiceCategory,
    rules::{BASE_PRICE_UNITS, DESCRIPTION_LEN, SERVICE_NAME_LEN},
};

/// Tags that a service may have.
const MAX_TAGS: usize = 20;
/// Characters that a tag may have.
const MAX_TAG_LEN: usize = 50;
/// Words that a search may have.
const MAX_SEARCH_WORDS: usize = 16;
/// Characters that a search may have.
const MAX_SEARCH_LEN: usize = 200;

am_db::stored_enum! {
    /// State of a service.
    #[schema(as = MarketServiceState)]
    pub enum ServiceState {
        /// It is offered.
        Active = "ACTIVE" / "active",
        /// It is not offered at present; requests that were made go on.
        Paused = "PAUSED" / "paused",
        /// It is not offered any more.
        Retired = "RETIRED" / "retired",
    }
}

am_db::stored_enum! {
    /// Order of services.
    #[schema(as = MarketServiceOrder)]
    pub enum ServiceOrder {
        /// The best mean rating first; services without one last.
        Rating = "rating" / "rating",
        /// The lowest base price first.
        Price = "price" / "price",
        /// The most paid requests first.
        Jobs = "jobs" / "jobs",
        /// The newest first.
        Newest = "newest" / "newest",
        /// The best match of the text first: all words in the name, then in name and tags, then elsewhere; without a text, by rating.
        Relevance = "relevance" / "relevance",
    }
}

/// A service that an agent offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MarketService {
    /// Id of the service.
    pub id: MarketServiceId,
    /// Agent that offers it.
    pub agent_id: AgentId,
    /// Principal that owned the agent when the service was listed, who is paid.
    pub owner_id: PrincipalId,
    /// Guild whose members may do the work too; null: the agent alone.
    pub guild_id: Option<MarketGuildId>,
    /// Name of the service.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Category of the service.
    pub category: ServiceCategory,
    /// Words by which it is found.
    pub tags: Vec<String>,
    /// Base price in AIT; what is paid follows from reputation, experience and rating.
    #[serde(with = "am_core::money::exact")]
    pub base_price: Money,
    /// Workflow that does the work; null: the agent reports results itself.
    pub workflow_id: Option<WorkflowId>,
    /// State of the service.
    pub state: ServiceState,
    /// Requests for it that were paid.
    pub jobs: i64,
    /// Number of its ratings.
    pub rating_count: i64,
    /// Sum of its ratings, 1 to 5 each.
    pub rating_sum: i64,
    /// Mean rating, 1 to 5; null without one.
    pub rating: Option<f64>,
    /// When it was listed.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// Service to list.
#[derive(Clone, Debug)]
pub struct ServiceDraft {
    /// Agent that offers it.
    pub agent_id: AgentId,
    /// Guild whose members may do the work; `None`: the agent alone.
    pub guild_id: Option<MarketGuildId>,
    /// Name of the service.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Category of the service.
    pub category: ServiceCategory,
    /// Words by which it is found.
    pub tags: Vec<String>,
    /// Base price in AIT.
    pub base_price: StatedAmount,
    /// Workflow that does the work.
    pub workflow_id: Option<WorkflowId>,
}

/// What is to be changed of a service; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ServiceChange {
    /// Name of the service.
    pub name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Words by which it is found.
    pub tags: Option<Vec<String>>,
    /// Base price of later requests.
    pub base_price: Option<StatedAmount>,
    /// State of the service.
    pub state: Option<ServiceState>,
}

/// Which services are looked for. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct ServiceFilter {
    /// Words of name, tags or description, all of which must be there; one that ends in `*` is a beginning.
    pub text: Option<String>,
    /// Category of the services.
    pub category: Option<ServiceCategory>,
    /// Lowest base price.
    pub min_price: Option<Money>,
    /// Highest base price.
    pub max_price: Option<Money>,
    /// Lowest mean rating.
    pub min_rating: Option<f64>,
    /// Agent that offers them.
    pub agent_id: Option<AgentId>,
    /// Guild that they belong to.
    pub guild_id: Option<MarketGuildId>,
    /// State of the services; default active. Others are found by agent or guild only.
    pub state: Option<ServiceState>,
    /// Tags, all of which they have.
    pub tags: Vec<String>,
    /// Order of the services; default the best match with a text, else the best rating.
    pub order: Option<ServiceOrder>,
}

impl ServiceFilter {
    /// Whether it asks for more than words and tags.
    pub(super) fn is_narrowed(&self) -> bool {
        self.category.is_some()
            || self.min_price.is_some()
            || self.max_price.is_some()
            || self.min_rating.is_some()
            || self.agent_id.is_some()
            || self.guild_id.is_some()
            || self.state.is_some()
    }
}

/// Check the texts of a service.
pub(super) fn check_texts(name: Option<&str>, description: Option<&str>, tags: Option<&[String]>) -> Violations {
    let mut violations = Violations::default();
    let plain = |text: &str| !text.contains('\0');
    if let Some(name) = name {
        let holds = has_length(name.trim(), &SERVICE_NAME_LEN) && plain(name);
        violations.require(holds, "name", "must have 1 to 100 characters");
    }
    if let Some(description) = description {
        let holds = has_length(description.trim(), &DESCRIPTION_LEN) && plain(description);
        violations.require(holds, "description", "must have 10 to 5000 characters");
    }
    let tags = tags.unwrap_or_default();
    violations.require(tags.len() <= MAX_TAGS, "tags", format!("at most {MAX_TAGS} tags"));
    for (at, tag) in tags.iter().enumerate() {
        let holds = has_length(tag.trim(), &(1..=MAX_TAG_LEN)) && plain(tag);
        let path = FieldPath::from([at]).within(["tags"]);
        violations.require(holds, path, format!("must have 1 to {MAX_TAG_LEN} characters"));
    }
    violations
}

/// A base price that may be asked for.
pub(super) fn check_price(price: StatedAmount) -> Result<Money, Violation> {
    let fault = match price.get() {
        Ok(price) if BASE_PRICE_UNITS.contains(&price.units()) => return Ok(price),
        Ok(_) => "must be from 0.001 to 1000 AIT".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Violation::new("base_price", fault))
}

/// The query of the index of texts for these words and tags; `None`: nothing is asked for.
pub(super) fn text_query(filter: &ServiceFilter) -> Result<Option<String>, Violation> {
    let text = filter.text.as_deref().unwrap_or_default();
    if text.chars().count() > MAX_SEARCH_LEN {
        return Err(Violation::new("q", format!("at most {MAX_SEARCH_LEN} characters")));
    }
    let mut terms = quoted_words(text);
    if filter.text.is_some() && terms.is_empty() {
        return Err(Violation::new("q", "has no word to search for"));
    }
    for tag in &filter.tags {
        let words = quoted_words(tag);
        if words.is_empty() {
            return Err(Violation::new("tags", "each must have a word to search for"));
        }
        terms.extend(words);
    }
    if terms.len() > MAX_SEARCH_WORDS {
        return Err(Violation::new("q", format!("at most {MAX_SEARCH_WORDS} words with those of `tags`")));
    }
    Ok((!terms.is_empty()).then(|| terms.join(" ")))
}

/// The words of a text, each in quotation marks, so that nothing in it is an operator.
fn quoted_words(text: &str) -> Vec<String> {
    let words =
        text.split(|c: char| !(c.is_alphanumeric() || c == '*')).filter(|word| word.contains(char::is_alphanumeric));
    let quoted = words.map(|word| {
        let plain: String = word.chars().filter(|c| *c != '*').collect();
        if word.ends_with('*') { format!("\"{plain}\"*") } else { format!("\"{plain}\"") }
    });
    quoted.collect()
}

#[cfg(test)]
mod tests {
    use am_core::validation::join;

    use super::*;

    #[test]
    fn a_search_is_words_and_no_expression() {
        let query = |text: &str| text_query(&ServiceFilter { text: Some(text.into()), ..Default::default() });
        assert_eq!(query("fast OR \"x\" NEAR(a) pri*").unwrap().unwrap(), r#""fast" "OR" "x" "NEAR" "a" "pri"*"#);
        assert!(query("* -- \"").is_err(), "no word at all");
        let tags = ServiceFilter { tags: vec!["gpu-fast".into()], ..Default::default() };
        assert_eq!(text_query(&tags).unwrap().unwrap(), r#""gpu" "fast""#);
        let wordless = ServiceFilter { tags: vec!["fast".into(), "--".into()], ..Default::default() };
        assert!(text_query(&wordless).is_err(), "it would be left out of the search");
        assert_eq!(text_query(&ServiceFilter::default()).unwrap(), None);
        assert!(query(&"a ".repeat(17)).is_err());
    }

    #[test]
    fn texts_and_prices_are_bounded() {
        let found = check_texts(Some(""), Some("too short"), Some(&["x".repeat(51)])).finish().unwrap_err();
        let text = join(&found);
        assert!(text.contains("name: ") && text.contains("description: ") && text.contains("tags.0: "), "{text}");
        assert!(check_texts(Some("n"), Some("ten chars!"), Some(&[])).finish().is_ok());
        for (price, fits) in [(0.0009, false), (0.001, true), (1000.0, true), (1_000.000_000_01, false)] {
            assert_eq!(check_price(Money::from_f64(price).into()).is_ok(), fits, "{price}");
        }
    }
}
