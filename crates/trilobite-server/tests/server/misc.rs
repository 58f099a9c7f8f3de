use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{get, post};
use crate::fixture::{Running, model, options};

#[test]
fn models_are_listed_and_chosen() {
    let server = Running::with(&["llama_bitnet_online", "llama"], options());
    let list = get(server.address, "/v1/models").ok();
    assert_eq!(list["object"], "list");
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["llama_bitnet_online", "llama"]);
    assert_eq!(list["data"][0]["max_model_len"], 512);
    assert_eq!(get(server.address, "/v1/models/llama").ok(), list["data"][1]);

    let ask = |model: Value| {
        let request =
            json!({"model": model, "prompt": [1, 2, 3], "max_tokens": 8, "temperature": 0});
        post(server.address, "/v1/completions", &request)
    };
    let (one, two) = (ask(json!("llama_bitnet_online")).ok(), ask(json!("llama")).ok());
    assert_ne!(one["choices"], two["choices"]);
    // With two models a request must name one.
    assert_eq!(ask(Value::Null).error(400)["param"], "model");
    let unnamed = get(server.address, "/tokenizer_info").error(400);
    assert_eq!(unnamed["param"], "model");
    assert!(unnamed["message"].as_str().unwrap().contains("llama_bitnet_online, llama"));
    let info = |query: &str| get(server.address, &format!("/tokenizer_info?{query}"));
    assert_eq!(info("model=llama_bitnet_online").ok()["eos_token"], "</s>");
    assert_ne!(info("a=1&model=ll%61ma").ok(), info("model=llama_bitnet_online").ok());
    assert_eq!(info("model=llama+2").error(404)["code"], "model_not_found");
    assert_eq!(info("model=%ff").error(400)["param"], "model");
}

#[test]
fn texts_become_tokens_and_back() {
    let server = Running::new(options());
    let model = model("llama_bitnet_online");
    for special in [true, false] {
        let request = json!({"prompt": "Hello é", "add_special_tokens": special});
        let answer = post(server.address, "/tokenize", &request).ok();
        let tokens = trilobite_runtime::encode(&model, "Hello é", special).unwrap();
        let expected = json!({"tokens": tokens, "count": tokens.len(), "max_model_len": 512});
        assert_eq!(answer, expected);
        let text = model.tokenizer().unwrap().decode(&tokens, true).unwrap();
        let back = post(server.address, "/detokenize", &json!({"tokens": tokens})).ok();
        assert_eq!(back, json!({"prompt": text}));
    }
    assert_eq!(post(server.address, "/tokenize", &json!({})).error(400)["param"], "prompt");
    let wrong = post(server.address, "/detokenize", &json!({"tokens": [320]})).error(400);
    assert_eq!(wrong["param"], "tokens");
    let info = get(server.address, "/tokenizer_info").ok();
    assert_eq!(info["eos_token"], "</s>");
    assert!(info["chat_template"].as_str().unwrap().contains("Assistant: "));
}

#[test]
fn health_and_metrics_are_told() {
    let server = Running::new(options());
    assert_eq!(get(server.address, "/health").ok(), json!({"status": "ok"}));
    let request = json!({"prompt": [1, 2, 3, 4], "max_tokens": 5, "temperature": 0,
        "logit_bias": {"2": -100}});
    post(server.address, "/v1/completions", &request).ok();
    get(server.address, "/v1/nothing").error(404);
    let text = get(server.address, "/metrics").text().to_owned();
    for line in [
        "trilobite_requests_total{path=\"/v1/completions\",status=\"200\"} 1",
        "trilobite_requests_total{path=\"other\",status=\"404\"} 1",
        "trilobite_prompt_tokens_total{model=\"llama_bitnet_online\"} 4",
        "trilobite_generated_tokens_total{model=\"llama_bitnet_online\"} 5",
        "trilobite_queued_prompts{model=\"llama_bitnet_online\"} 0",
        "trilobite_time_to_first_token_seconds_count{model=\"llama_bitnet_online\"} 1",
        "trilobite_time_between_tokens_seconds_count{model=\"llama_bitnet_online\"} 4",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    for name in ["running_sequences", "cache_pages", "cache_pages_limit", "cached_sequences"] {
        assert!(text.contains(&format!("trilobite_{name}{{")), "{name} is not in\n{text}");
    }
}

#[test]
fn the_description_has_every_path() {
    let server = Running::new(options());
    let description = get(server.address, "/openapi.json").ok();
    let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{id}",
        "/tokenize",
        "/detokenize",
        "/tokenizer_info",
        "/health",
        "/metrics",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} is not among {paths:?}");
    }
    // Only known fields, and tokens of the model.
    let request = &description["components"]["schemas"]["CompletionRequest"];
    assert_eq!(request["additionalProperties"], json!({"type": "null"}));
    assert_eq!(request["required"], json!(["prompt"]));
    for field in ["prompt", "seed", "user", "logit_bias"] {
        assert!(request["properties"][field].is_object(), "{field}");
    }
    assert_eq!(description["components"]["schemas"]["TokenId"]["maximum"], 319);
    let ids = &request["properties"]["logit_bias"]["propertyNames"]["pattern"];
    let expected = "^(319|0|[1-9][0-9]{0,1}|[1-2][0-9]{2}|3[0-0][0-9]{1}|31[0-8][0-9]{0})$";
    assert_eq!(ids, expected);
    // All references can be resolved.
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer}");
    }
}

/// Each token of a model and each width of an embedding is within the described ranges.
#[test]
fn the_description_fits_every_model() {
    let models =
        ["llama_bitnet_norms", "llama_bitnet_online", "embeddings/gemma3", "embeddings/qwen3"];
    let server = Running::with(&models, options());
    let description = get(server.address, "/openapi.json").ok();
    let schemas = &description["components"]["schemas"];
    assert_eq!(schemas["TokenId"]["maximum"], 319);
    let dimensions = &schemas["EmbeddingRequest"]["properties"]["dimensions"];
    assert_eq!((&dimensions["minimum"], &dimensions["maximum"]), (&json!(48), &json!(64)));
}

#[test]
fn the_page_is_served_and_may_ask_only_this_server() {
    let server = Running::new(options());
    let page = get(server.address, "/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let policy = page.header("content-security-policy").unwrap();
    let directives: Vec<&str> = policy.split("; ").collect();
    for directive in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(directives.contains(&directive), "{directive} is not in {policy}");
    }
    // Inline scripts and styles are allowed by their hashes only.
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let texts: Vec<&str> = page.text().split(&open).skip(1).collect();
        let [text] = texts[..] else { panic!("the page has {} of {open}", texts.len()) };
        let (text, _) = text.split_once(&close).unwrap();
        let hash = STANDARD.encode(Sha256::digest(text));
        let expected = format!("{directive} 'sha256-{hash}'");
        assert!(directives.contains(&&*expected), "{expected} is not in {policy}");
    }
}
