use proptest::prelude::*;
use serde_json::json;

use super::*;
use am_core::validation::{FieldPath, PathSegment};

/// A good request of each service.
fn good(service: JobService) -> Value {
    match service {
        JobService::Whisper => json!({"audio_url": "https://example.com/a.wav"}),
        JobService::StableDiffusion => json!({"prompt": "a cat"}),
        JobService::LlmInference => json!({"model": "llama-7b", "prompt": "hello"}),
        JobService::Ffmpeg => json!({"input_url": "ipfs://bafyx/a.mkv"}),
        JobService::Blender => json!({"blend_file_url": "http://example.com/a.blend"}),
    }
}

fn faults(service: JobService, body: Value) -> Vec<(FieldPath, &'static str)> {
    match validate_request(service, RequestVariant::Plain, body, false) {
        Ok(_) => Vec::new(),
        Err(JobError::Invalid(faults)) => faults.into_iter().map(|fault| (fault.path, fault.kind)).collect(),
        Err(other) => panic!("{other}"),
    }
}

fn with(service: JobService, name: &str, value: Value) -> Value {
    let mut body = good(service);
    body[name] = value;
    body
}

/// The contract's document, and what its services call their requests.
fn contract(service: JobService) -> Value {
    let document: Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/contract/openapi.json")).unwrap();
    let name = match service {
        JobService::Whisper => "WhisperRequest",
        JobService::StableDiffusion => "StableDiffusionRequest",
        JobService::LlmInference => "LLMRequest",
        JobService::Ffmpeg => "FFmpegRequest",
        JobService::Blender => "BlenderRequest",
    };
    let resolved = |schema: &Value| match schema["$ref"].as_str() {
        Some(reference) => {
            let mut target = document.pointer(&reference[1..]).unwrap().clone();
            target["default"] = schema["default"].clone();
            target
        }
        None => schema.clone(),
    };
    let mut request = document["components"]["schemas"][name].clone();
    for (_, property) in request["properties"].as_object_mut().unwrap() {
        *property = resolved(property);
    }
    request
}

/// A keyword of a schema, or of the one of its alternatives that is not null.
fn keyword<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    schema.get(name).or_else(|| alternatives.filter_map(|one| one.get(name)).next()).filter(|value| !value.is_null())
}

#[test]
fn members_defaults_and_bounds_are_the_contracts() {
    for service in JobService::ALL {
        let (ours, theirs) = (service_schema(service), contract(service));
        assert_eq!(ours["required"], theirs["required"], "{service:?}");
        for (name, their) in theirs["properties"].as_object().unwrap() {
            let our = &ours["properties"][name];
            let place = format!("{service:?}.{name}: {our} and {their}");
            assert!(our.is_object(), "{place}");
            let number = |schema, word| keyword(schema, word).and_then(Value::as_f64);
            for bound in ["minimum", "maxLength", "minLength"] {
                assert!(
                    number(their, bound).is_none_or(|bound_| number(our, bound) == Some(bound_)),
                    "{bound} of {place}"
                );
            }
            // Blender's own last frame is a bound that the contract leaves out.
            assert!(number(their, "maximum").is_none_or(|most| number(our, "maximum") == Some(most)), "{place}");
            let words = |schema: &Value| -> Option<Vec<Value>> {
                // An enumeration with documented members is one of constants.
                let listed = schema["enum"].as_array().cloned();
                let constants = schema["oneOf"].as_array().map(|all| {
                    all.iter()
                        .flat_map(|one| match one.get("const") {
                            Some(word) => vec![word.clone()],
                            None => one["enum"].as_array().cloned().unwrap_or_default(),
                        })
                        .collect()
                });
                listed.or(constants)
            };
            if let Some(their) = words(their) {
                let (mut our, mut their) = (words(our).unwrap_or_else(|| panic!("{place}")), their);
                our.sort_by_key(Value::to_string);
                their.sort_by_key(Value::to_string);
                assert_eq!(our, their, "{place}");
            }
            match &their["default"] {
                Value::Null => {}
                Value::Number(default) => assert_eq!(our["default"].as_f64(), default.as_f64(), "{place}"),
                default => assert_eq!(&our["default"], default, "{place}"),
            }
        }
    }
}

#[test]
fn the_miner_gets_the_request_with_its_defaults() {
    let request =
        validate_request(JobService::LlmInference, RequestVariant::Plain, good(JobService::LlmInference), false)
            .unwrap();
    let expected = json!({
        "model": "llama-7b", "prompt": "hello", "max_tokens": 256, "temperature": 0.7, "top_p": 0.9, "top_k": 40,
        "repetition_penalty": 1.1, "stream": false,
    });
    assert_eq!(request, expected, "and no member that has no value");
    let forced = |service, variant| validate_request(service, variant, good(service), false).unwrap();
    assert_eq!(forced(JobService::Whisper, RequestVariant::Translate)["task"], "translate");
    assert_eq!(forced(JobService::StableDiffusion, RequestVariant::Img2img)["mode"], "img2img");
    assert_eq!(forced(JobService::LlmInference, RequestVariant::Stream)["stream"], true);
}

#[test]
fn every_fault_is_told_with_its_place() {
    let at = |path: &[&str]| path.iter().copied().collect::<FieldPath>();
    let table = [
        (JobService::LlmInference, json!({}), vec![(at(&["model"]), "missing"), (at(&["prompt"]), "missing")]),
        (JobService::LlmInference, json!(null), vec![(at(&[]), "dict_type")]),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "model", json!("gpt")),
            vec![(at(&["model"]), "enum")],
        ),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "prompt", json!("")),
            vec![(at(&["prompt"]), "string_too_short")],
        ),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "max_tokens", json!(0)),
            vec![(at(&["max_tokens"]), "greater_than_equal")],
        ),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "max_tokens", json!(4097)),
            vec![(at(&["max_tokens"]), "less_than_equal")],
        ),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "max_tokens", json!(1.5)),
            vec![(at(&["max_tokens"]), "int_type")],
        ),
        (
            JobService::LlmInference,
            with(JobService::LlmInference, "top_p", json!("x")),
            vec![(at(&["top_p"]), "float_type")],
        ),
        (
            JobService::Ffmpeg,
            with(JobService::Ffmpeg, "resolution", json!("12")),
            vec![(at(&["resolution"]), "string_pattern_mismatch")],
        ),
        (
            JobService::Ffmpeg,
            with(JobService::Ffmpeg, "input_url", json!("https://10.0.0.1/")),
            vec![(at(&["input_url"]), "value_error")],
        ),
        (
            JobService::Blender,
            with(JobService::Blender, "frame_start", json!(2)),
            vec![(at(&["frame_end"]), "value_error")],
        ),
        (
            JobService::Blender,
            with(JobService::Blender, "custom_args", json!(["-t", "4", "-P"])),
            vec![([PathSegment::from("custom_args"), 2usize.into()].into(), "value_error")],
        ),
    ];
    for (service, body, expected) in table {
        assert_eq!(faults(service, body.clone()), expected, "{service:?} {body}");
    }
    for (service, name, value) in [
        (JobService::LlmInference, "max_tokens", json!(5.0)),
        (JobService::LlmInference, "temperature", json!(1)),
        (JobService::LlmInference, "stop_sequences", json!(null)),
        (JobService::LlmInference, "something", json!({"else": [1.0, 2]})),
        (JobService::StableDiffusion, "seed", json!(-1)),
        (JobService::StableDiffusion, "seed", json!([1, 2.0])),
        (JobService::StableDiffusion, "lora", json!("org/name")),
        (JobService::Ffmpeg, "fps", json!(60)),
    ] {
        assert_eq!(faults(service, with(service, name, value.clone())), [], "{name} {value}");
    }
    for value in [json!("1"), json!([1, "x"]), json!(1e300), json!({})] {
        assert_ne!(
            faults(JobService::StableDiffusion, with(JobService::StableDiffusion, "seed", value.clone())),
            [],
            "{value}"
        );
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3i64..5000).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1.0f64..30.0).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9x.-]{0,12}".prop_map(Value::from),
        "(tiny|h264|cycles|png|512x512|sdxl-turbo|llama-7b|en|fast|1080|128k|https://example.com/a)"
            .prop_map(Value::from),
        proptest::collection::vec(any::<i32>(), 0..5).prop_map(Value::from),
        proptest::collection::vec("[a-z]{0,3}", 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    /// What the schema that is shown says is what is taken: but for the rules of addresses and arguments, and for the
    /// order of frames, which no schema can say.
    #[test]
    fn the_schema_and_the_reader_agree(
        service in proptest::sample::select(JobService::ALL.as_slice()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any_value()), 0..4),
        drop_one in any::<Option<proptest::sample::Index>>(),
    ) {
        let mut body = good(service);
        let names: Vec<String> = service_schema(service)["properties"].as_object().unwrap().keys().cloned().collect();
        for (name, value) in changes {
            body[name.get(&names)] = value;
        }
        if let Some(name) = drop_one {
            body.as_object_mut().unwrap().remove(name.get(&names));
        }
        let fits = jsonschema::is_valid(service_schema(service), &body);
        let beyond = |fault: &Violation| {
            let members = ["audio_url", "input_url", "blend_file_url", "image_url", "lora", "custom_args", "frame_end"];
            fault.kind == "value_error" && matches!(fault.path.segments().first(), Some(PathSegment::Member(name)) if members.contains(&name.as_str()))
        };
        match validate_request(service, RequestVariant::Plain, body.clone(), false) {
            Ok(request) => {
                prop_assert!(fits, "{body} was taken");
                prop_assert!(jsonschema::is_valid(service_schema(service), &request), "what is handed on fits too: {request}");
            }
            Err(JobError::Invalid(faults)) => prop_assert!(!fits || faults.iter().all(beyond), "{body} was refused: {faults:?}"),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
