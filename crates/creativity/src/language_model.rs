//! The language model that may write ideas: a service with the chat completions of OpenAI's API.

use am_core::{
    config::CreativityConfig, error_text::error_with_causes, public_address::restrict_to_public,
    response_body::read_response_body,
};
use reqwest::{Client, ClientBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

/// Bytes that an answer may have.
const MAX_ANSWER: usize = 1 << 20;
/// Ideas that are read of one answer.
const MAX_IDEAS: usize = 40;
/// Bytes of one idea; what is behind them is not read.
const MAX_IDEA_BYTES: usize = 1000;

/// A configured language model.
pub(crate) struct LanguageModel {
    client: Client,
    url: Url,
    key: Option<SecretString>,
    pub(crate) model: String,
    tokens: u32,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct ChatAnswer {
    choices: Vec<ChatChoice>,
}

#[derive(Deserialize)]
struct ChatChoice {
    message: ChatMessage,
}

#[derive(Deserialize)]
struct ChatMessage {
    content: Option<String>,
}

impl LanguageModel {
    /// The model of the configuration; `None`: there is none.
    pub(crate) fn from_config(config: &CreativityConfig) -> Result<Option<Self>, reqwest::Error> {
        let Some(mut url) = config.llm_url.clone() else { return Ok(None) };
        url.set_path(&format!("{}/chat/completions", url.path().trim_end_matches('/')));
        let builder = ClientBuilder::new()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.llm_timeout)
            .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")));
        let builder = if config.llm_private_addresses { builder } else { restrict_to_public(builder) };
        let (key, model, tokens) = (config.llm_key.clone(), config.llm_model.clone(), config.llm_tokens);
        Ok(Some(Self { client: builder.build()?, url, key, model, tokens }))
    }

    /// Ask for ideas, one on a line. The error is a text for clients and the log, without the address and the key.
    pub(crate) async fn ideas(&self, prompt: &str, seed: u64) -> Result<Vec<String>, String> {
        let body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": "You write ideas. Answer with one idea on each line and nothing else."},
                {"role": "user", "content": prompt},
            ],
            "max_tokens": self.tokens,
            "seed": seed,
        });
        let request = self.client.post(self.url.clone()).json(&body);
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.expose_secret()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| match error.is_timeout() {
            true => "the language model did not answer in time".to_owned(),
            false => format!("the language model can't be asked: {}", error_with_causes(&error.without_url())),
        })?;
        if !answer.status().is_success() {
            return Err(format!("the language model answered {}", answer.status()));
        }
        let body = read_response_body(answer, MAX_ANSWER).await;
        let body = body.map_err(|error| format!("the language model's answer can't be read: {error}"))?;
        let answer: ChatAnswer = serde_json::from_slice(&body)
            .map_err(|error| format!("the language model's answer is no chat completion: {error}"))?;
        let content = answer.choices.into_iter().find_map(|choice| choice.message.content).unwrap_or_default();
        let ideas = read_ideas(&content);
        if ideas.is_empty() { Err("the language model's answer holds no idea".to_owned()) } else { Ok(ideas) }
    }
}

/// The ideas of a text, one on a line, without the marks of a list.
fn read_ideas(content: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in content.lines() {
        let bare = line.trim().trim_start_matches(['-', '*', '\u{2022}', '#', ' ']);
        let digits = bare.len() - bare.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let behind = &bare[digits..];
        let bare = match behind.strip_prefix(['.', ')', ':']) {
            Some(rest) if digits > 0 => rest.trim_start(),
            _ => bare,
        };
        let bare = bare.trim_matches(['*', '"', ' ']);
        let end = (0..=bare.len().min(MAX_IDEA_BYTES)).rev().find(|at| bare.is_char_boundary(*at)).unwrap_or(0);
        if bare.chars().any(char::is_alphabetic) && found.len() < MAX_IDEAS {
            found.push(bare[..end].to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_of_lists_are_no_part_of_ideas() {
        let content = "1. Rent it out\n2) **Melt it**\n- 3D print a mould\n\n---\n\u{2022} \"Sing to it\"\nPlain";
        assert_eq!(read_ideas(content), ["Rent it out", "Melt it", "3D print a mould", "Sing to it", "Plain"]);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(content in "(\\PC{0,60}\n){0,60}") {
            let ideas = read_ideas(&content);
            prop_assert!(ideas.len() <= MAX_IDEAS && ideas.iter().all(|idea| idea.len() <= MAX_IDEA_BYTES));
        }
    }
}
