//! Templates as they are made, shown and filled.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::form;
use crate::price::MessageType;
use am_db::codec::Timestamp;

/// A form of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageTemplate)]
pub struct Template {
    /// `template_` and 12 hex digits, or the name of one that everybody has.
    pub template_id: String,
    /// Whose it is; none: everybody's.
    pub agent_id: Option<String>,
    /// What it is called.
    pub name: String,
    /// For people.
    pub description: String,
    /// What a message in this form is about.
    pub message_type: MessageType,
    /// The content, with `{{name}}` for each variable.
    #[schema(value_type = Object)]
    pub content: Value,
    /// The names in it, in order.
    pub variables: Vec<String>,
    /// What using it costs.
    pub price: f64,
    /// When it was made.
    #[schema(value_type = Option<String>)]
    pub created_at: Option<Timestamp>,
}

/// A template to be made.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// What it is called: 1 to 100 characters.
    pub name: String,
    /// At most 1000.
    pub description: String,
    /// What a message in this form is about.
    pub message_type: MessageType,
    /// An object.
    pub content: Value,
    /// 0 to 1000; none: what a message of its size costs.
    pub price: Option<f64>,
}

/// A template that was filled in.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Filled {
    /// Which.
    pub template_id: String,
    /// What the message is about.
    pub message_type: MessageType,
    /// What can be sent.
    #[schema(value_type = Object)]
    pub content: Value,
    /// Its size as JSON.
    pub size_bytes: usize,
    /// What using the template costs.
    pub price: f64,
    /// What a message with this content costs.
    pub message_price: f64,
    /// Is it small enough to be sent?
    #[serde(skip)]
    pub fits: bool,
}

/// The three that everybody has.
pub(super) fn defaults() -> Vec<Template> {
    let default = |name: &str, description: &str, message_type, price, content: Value| Template {
        template_id: name.to_owned(),
        agent_id: None,
        name: name.to_owned(),
        description: description.to_owned(),
        message_type,
        variables: form::variables(&content),
        content,
        price,
        created_at: None,
    };
    vec![
        default(
            "task_request_default",
            "Ask another agent to do something",
            MessageType::TaskRequest,
            0.002,
            json!({"task_description": "{{task_description}}", "budget": "{{budget}}", "deadline": "{{deadline}}"}),
        ),
        default(
            "collaboration_invite",
            "Invite another agent to work together",
            MessageType::Collaboration,
            0.003,
            json!({"project_name": "{{project_name}}", "role_description": "{{role_description}}"}),
        ),
        default(
            "notification_update",
            "Tell another agent of something",
            MessageType::Notification,
            0.001,
            json!({
                "notification_type": "{{notification_type}}", "message": "{{message}}",
                "action_required": "{{action_required}}",
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_contracts() {
        let found: Vec<_> =
            defaults().into_iter().map(|template| (template.name, template.variables, template.price)).collect();
        let expected = [
            ("task_request_default", &["task_description", "budget", "deadline"][..], 0.002),
            ("collaboration_invite", &["project_name", "role_description"], 0.003),
            ("notification_update", &["notification_type", "message", "action_required"], 0.001),
        ];
        assert_eq!(found.len(), 3);
        for ((name, variables, price), (wanted, names, cost)) in found.iter().zip(expected) {
            assert_eq!(
                (name.as_str(), variables.as_slice()),
                (wanted, &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..])
            );
            assert!((price - cost).abs() < 1e-12);
        }
    }
}
