//! What a miner reads of a job: the service and its request, and beside them the members that miners look for at the top
//! level.

use serde_json::{Map, Value, json};

use super::model::JobService;

/// Members of a request that are an address of the input, under any of which a miner finds it as `url`.
const ADDRESS_MEMBERS: [&str; 4] = ["audio_url", "input_url", "blend_file_url", "image_url"];
/// Members of a request that keep their name.
const SHARED_MEMBERS: [&str; 3] = ["model", "prompt", "output_format"];

/// The column `payload` of a job for `service`.
pub(super) fn miner_payload(service: JobService, request: &Value) -> Value {
    let member = |name: &&str| request.get(*name).filter(|value| value.is_string()).cloned();
    let mut payload = Map::new();
    payload.insert("service_type".to_owned(), json!(service.name()));
    payload.insert("service_request".to_owned(), request.clone());
    payload.insert("type".to_owned(), json!(task_word(service, request)));
    for name in SHARED_MEMBERS {
        if let Some(value) = member(&name) {
            payload.insert(name.to_owned(), value);
        }
    }
    if let Some(address) = ADDRESS_MEMBERS.iter().find_map(member) {
        payload.insert("url".to_owned(), address);
    }
    Value::Object(payload)
}

/// The miners' word for a job. A translation has one of its own, so that a miner which only transcribes refuses it
/// instead of delivering something else.
fn task_word(service: JobService, request: &Value) -> &'static str {
    match service {
        JobService::LlmInference => "inference",
        JobService::Whisper if request.get("task").and_then(Value::as_str) == Some("translate") => "translate",
        JobService::Whisper => "transcribe",
        JobService::Ffmpeg => "reencode",
        JobService::StableDiffusion => "stable-diffusion",
        JobService::Blender => "render",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_miners_look_for_stand_beside_the_request() {
        let url = "https://example.com/a";
        for (service, request, more) in [
            (
                JobService::LlmInference,
                json!({"model": "llama-7b", "prompt": "hi", "top_k": 1}),
                json!({"type": "inference", "model": "llama-7b", "prompt": "hi"}),
            ),
            (
                JobService::Whisper,
                json!({"audio_url": url, "model": "base", "task": "transcribe"}),
                json!({"type": "transcribe", "model": "base", "url": url}),
            ),
            (
                JobService::Whisper,
                json!({"audio_url": url, "task": "translate"}),
                json!({"type": "translate", "url": url}),
            ),
            (
                JobService::Ffmpeg,
                json!({"input_url": url, "output_format": "mkv"}),
                json!({"type": "reencode", "url": url, "output_format": "mkv"}),
            ),
            (
                JobService::StableDiffusion,
                json!({"prompt": "a cat"}),
                json!({"type": "stable-diffusion", "prompt": "a cat"}),
            ),
            (JobService::Blender, json!({"blend_file_url": url}), json!({"type": "render", "url": url})),
        ] {
            let mut expected = json!({"service_type": service.name(), "service_request": request});
            for (name, value) in more.as_object().unwrap() {
                expected[name] = value.clone();
            }
            assert_eq!(miner_payload(service, &request), expected);
        }
    }
}
