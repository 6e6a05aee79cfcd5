//! Model of a template: request, template and filled form.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::template_parser;
use crate::price::MessageType;
use am_core::{
    ids::{AgentId, TemplateId},
    money::Money,
};
use am_db::codec::Timestamp;

/// A message template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MessageTemplate)]
pub struct MessageTemplate {
    /// Id: `template_` and 12 hex digits, or the name of a built-in template.
    pub template_id: TemplateId,
    /// Agent that created the template; null for a built-in one.
    pub agent_id: Option<AgentId>,
    /// Name of the template.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Type of the messages.
    pub message_type: MessageType,
    /// Content, with `{{name}}` for each variable.
    #[schema(value_type = Object)]
    pub content: Value,
    /// Names of the variables, in order.
    pub variables: Vec<String>,
    /// Price of using the template in the marketplace's currency, with up to 8 decimal places.
    pub price: Money,
    /// Time of creation; null for a built-in one.
    pub created_at: Option<Timestamp>,
}

/// Request to create a template.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// Name of 1 to 100 characters.
    pub name: String,
    /// Description of at most 1000 characters.
    pub description: String,
    /// Type of the messages.
    pub message_type: MessageType,
    /// Content, a JSON object.
    pub content: Value,
    /// Price of using the template in the marketplace's currency, 0 to 1000; `None`: the price of a message of its size.
    pub price: Option<Money>,
}

/// A filled template.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RenderedTemplate)]
pub struct FilledTemplate {
    /// Id of the template.
    pub template_id: TemplateId,
    /// Type of the message.
    pub message_type: MessageType,
    /// Content that can be sent.
    #[schema(value_type = Object)]
    pub content: Value,
    /// Size of the content in bytes of JSON.
    pub size_bytes: usize,
    /// Price of using the template in the marketplace's currency, with up to 8 decimal places.
    pub price: Money,
    /// Price of a message with this content in the marketplace's currency, with up to 8 decimal places.
    pub message_price: Money,
    /// Whether the content is small enough to be sent.
    #[serde(skip)]
    pub fits: bool,
}

/// The three built-in templates.
pub(super) fn built_in_templates() -> Vec<MessageTemplate> {
    let default = |name: &str, description: &str, message_type, price, content: Value| MessageTemplate {
        template_id: name.into(),
        agent_id: None,
        name: name.to_owned(),
        description: description.to_owned(),
        message_type,
        variables: template_parser::placeholder_names(&content),
        content,
        price: Money::from_f64(price),
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
        let found: Vec<_> = built_in_templates()
            .into_iter()
            .map(|template| (template.name, template.variables, template.price))
            .collect();
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
            assert_eq!(*price, Money::from_f64(cost));
        }
    }
}
