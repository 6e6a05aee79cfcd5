//! Settings of creativity: the sentence encoder, and the language model that may write ideas.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use secrecy::SecretString;

use super::{
    endpoints::parse_webhook_url,
    group::settings,
    setting_reader::{SettingReader, boolean, number, optional_path, parsed, seconds, secret},
};

settings! {
    /// Settings of creativity.
    pub struct CreativityConfig {
        /// Directory with `model.safetensors` and `tokenizer.json` of the sentence encoder all-MiniLM-L6-v2. `None`: texts are
        /// compared by hashed n-grams.
        "TEXT_ENCODER_PATH" encoder_path: Option<PathBuf> = None, optional_path;
        /// Time without a text after which the encoder's memory is given back, default 600 s.
        "TEXT_ENCODER_IDLE_SECONDS" encoder_idle: Duration = Duration::from_secs(600), seconds(1..=86_400);
        /// Address of an OpenAI-compatible service that writes ideas, up to `/v1`. `None`: no language model writes them.
        "CREATIVITY_LLM_URL" llm_url: Option<Url> = None, llm_address;
        /// Key that is sent to it as a bearer token. `None`: none is sent.
        "CREATIVITY_LLM_KEY" llm_key: Option<SecretString> = None, secret;
        /// Model that is asked for, default `default`.
        "CREATIVITY_LLM_MODEL" llm_model: String = "default".to_owned(), parsed("1 to 200 visible characters", model_name);
        /// Time limit of a call, default 20 s.
        "CREATIVITY_LLM_SECONDS" llm_timeout: Duration = Duration::from_secs(20), seconds(1..=600);
        /// Largest answer in tokens that is asked for, default 1024.
        "CREATIVITY_LLM_TOKENS" llm_tokens: u32 = 1024, number(16..=32_768);
        /// Whether that address may use http and a host outside the public Internet, default false.
        "CREATIVITY_LLM_PRIVATE_ADDRESSES" llm_private_addresses: bool = false, boolean;
    }
}

fn llm_address(from: &mut SettingReader, key: &str, default: Option<Url>) -> Option<Url> {
    let Some(text) = from.plain_text(key).filter(|text| !text.is_empty()) else { return default };
    match parse_webhook_url(&text) {
        Ok(url) => Some(url),
        Err(message) => {
            from.reject(key, message);
            default
        }
    }
}

fn model_name(text: &str) -> Option<String> {
    let sound = (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| text.to_owned())
}
