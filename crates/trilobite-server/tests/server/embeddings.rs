use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trilobite_runtime::Embedder;

use crate::client::{Reply, get, post};
use crate::fixture::{Running, model, options, session};

const MODEL: &str = "embeddings/qwen3";
const TEXTS: [&str; 3] = ["The river ran down from the hills.", "", "Où va l'eau?"];

fn ask(server: &Running, body: Value) -> Reply {
    post(server.address, "/v1/embeddings", &body)
}

/// The vectors of the runtime.
fn expected(prompt: Option<&str>) -> (Vec<Vec<f32>>, usize) {
    let model = model(MODEL);
    let prompt = model.prompt(prompt).unwrap();
    let ids: Vec<_> =
        TEXTS.iter().map(|text| model.encode_to_embed(prompt, text).unwrap()).collect();
    let mut embedder = Embedder::new(model.clone(), session(), None).unwrap();
    let vectors = embedder.embed_first(&ids).unwrap();
    let tokens = ids.iter().map(Vec::len).sum();
    (vectors.into_iter().map(|vector| vector.values).collect(), tokens)
}

fn floats(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().unwrap();
    data.iter().map(|one| serde_json::from_value(one["embedding"].clone()).unwrap()).collect()
}

#[test]
fn embeddings_are_those_of_the_runtime() {
    let server = Running::with(&[MODEL], options());
    let (vectors, tokens) = expected(None);
    let answer = ask(&server, json!({"model": MODEL, "input": TEXTS})).ok();
    assert_eq!(floats(&answer), vectors);
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["model"], MODEL);
    assert_eq!(answer["data"][2]["index"], 2);
    assert_eq!(answer["data"][2]["object"], "embedding");
    assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));

    let answer =
        ask(&server, json!({"input": TEXTS, "encoding_format": "base64", "user": "a"})).ok();
    for (one, vector) in answer["data"].as_array().unwrap().iter().zip(&vectors) {
        let bytes = STANDARD.decode(one["embedding"].as_str().unwrap()).unwrap();
        let values: Vec<f32> =
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        assert_eq!(values, *vector);
    }

    let model = model(MODEL);
    let ids = |text: &str| model.encode_to_embed("", text).unwrap();
    for input in [json!(TEXTS[0]), json!(ids(TEXTS[0])), json!([ids(TEXTS[0])])] {
        let answer = ask(&server, json!({"input": input, "dimensions": 64})).ok();
        assert_eq!(floats(&answer), vectors[..1]);
    }
    let answer = ask(&server, json!({"input": TEXTS, "prompt_name": "query"})).ok();
    assert_eq!(floats(&answer), expected(Some("query")).0);
}

#[test]
fn embeddings_do_not_depend_on_other_requests() {
    let server = Running::with(&[MODEL], options());
    let (vectors, _) = expected(None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = ask(&server, json!({"input": TEXTS})).ok();
                assert_eq!(floats(&answer), vectors);
            });
        }
    });
    let label = format!("{{model=\"{MODEL}\"}}");
    assert_eq!(server.metric(&format!("trilobite_queued_prompts{label}")), 0.0);
}

#[test]
fn wrong_requests_for_embeddings_are_refused() {
    let server = Running::with(&[MODEL], options());
    for (body, param) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": [[]]}), "input"),
        (json!({"input": {"text": "a"}}), "input"),
        (json!({"input": [280]}), "input"),
        (json!({"input": "a ".repeat(600)}), "input"),
        (json!({"input": "a", "dimensions": 32}), "dimensions"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        (json!({"input": "a", "prompt_name": "x"}), "prompt_name"),
        (json!({"input": "a", "other": 1}), "other"),
    ] {
        let error = ask(&server, body.clone()).error(400);
        assert_eq!(error["param"], param, "{body}: {error}");
    }
}

#[test]
fn a_model_gives_text_or_embeddings() {
    let server = Running::with(&[MODEL, "llama_bitnet_online"], options());
    let error = ask(&server, json!({"model": "llama_bitnet_online", "input": "a"})).error(404);
    assert_eq!(error["code"], "no_embeddings");
    ask(&server, json!({"model": "other", "input": "a"})).error(404);
    for (path, body) in [
        ("/v1/completions", json!({"model": MODEL, "prompt": "a"})),
        (
            "/v1/chat/completions",
            json!({"model": MODEL, "messages": [{"role": "user", "content": "a"}]}),
        ),
    ] {
        assert_eq!(post(server.address, path, &body).error(404)["code"], "no_text");
    }
    let models = get(server.address, "/v1/models").ok();
    assert_eq!(models["data"][0]["chat"], false);
    assert_eq!(models["data"][1]["chat"], true);
    let description = get(server.address, "/openapi.json").ok();
    let request = &description["components"]["schemas"]["EmbeddingRequest"];
    assert_eq!(request["required"], json!(["input"]));
    assert_eq!(request["properties"]["dimensions"]["maximum"], 64);
}
