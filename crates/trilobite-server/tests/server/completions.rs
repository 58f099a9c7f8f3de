use serde_json::{Value, json};
use trilobite_runtime::{Request, Scorer, Session};

use crate::client::post;
use crate::fixture::{Running, model, options, session};

const PATH: &str = "/v1/completions";

/// Sends the requests of lm-evaluation-harness, and compares the fields that it reads with
/// `trilobite score`.
#[test]
fn log_likelihoods_of_prompts_are_those_of_score() {
    let server = Running::new(options());
    let model = model("llama_bitnet_online");
    let mut scorer = Scorer::new(Session::new(model.clone(), session()).unwrap());
    let contexts: [&[u32]; 3] = [&[72, 101, 108, 108, 111], &[1, 2, 3], &[200; 40]];
    let continuations: [&[u32]; 3] = [&[32, 119], &[4], &[7, 8, 9, 10]];
    let prompts: Vec<Vec<u32>> =
        contexts.iter().zip(continuations).map(|(a, b)| [a, b].concat()).collect();
    let request = json!({"model": "llama_bitnet_online", "prompt": prompts, "temperature": 0,
        "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true});
    let answer = post(server.address, PATH, &request).ok();
    for (index, (context, continuation)) in contexts.iter().zip(continuations).enumerate() {
        let choice = &answer["choices"][index];
        assert_eq!(choice["index"], index);
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        // The prompt and exactly one token.
        assert_eq!(logprobs.len(), context.len() + continuation.len() + 1);
        assert_eq!(logprobs[0], Value::Null);
        let scored = &logprobs[context.len()..logprobs.len() - 1];
        let sum: f64 = scored.iter().map(|logprob| logprob.as_f64().unwrap()).sum();
        let tops = &choice["logprobs"]["top_logprobs"].as_array().unwrap()[context.len()..];
        let greedy = scored.iter().zip(tops).all(|(own, top)| {
            let top = top.as_object().unwrap().values().map(|value| value.as_f64().unwrap());
            own.as_f64().unwrap() == top.fold(f64::MIN, f64::max)
        });
        let request = Request { context: context.to_vec(), continuation: continuation.to_vec() };
        let score = scorer.score(&request).unwrap();
        assert_eq!((sum, greedy), (score.logprob, score.greedy));
    }
}

#[test]
fn a_prompt_is_echoed() {
    let server = Running::new(options());
    let ask = |prompt: Value, max_tokens: usize, logprobs: Value| {
        let request = json!({"prompt": prompt, "max_tokens": max_tokens, "echo": true, "seed": 3,
            "logprobs": logprobs});
        post(server.address, PATH, &request).ok()["choices"][0].take()
    };
    let nothing = ask(json!("Hello"), 0, Value::Null);
    assert_eq!(nothing["text"], "Hello");
    assert_eq!(nothing["finish_reason"], "length");
    assert_eq!(nothing["logprobs"], Value::Null);

    let known = ask(json!("Hello"), 0, json!(2));
    let logprobs = &known["logprobs"];
    let count = logprobs["tokens"].as_array().unwrap().len();
    for list in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), count, "{list}");
    }

    let plain = json!({"prompt": "Hello", "max_tokens": 5, "seed": 3});
    let plain = post(server.address, PATH, &plain).ok();
    let both = ask(json!("Hello"), 5, json!(1));
    let text = format!("Hello{}", plain["choices"][0]["text"].as_str().unwrap());
    assert_eq!(both["text"], text);
    // Tokens of whole characters are in the text at their offsets.
    let characters: Vec<char> = text.chars().collect();
    let (tokens, offsets) = (&both["logprobs"]["tokens"], &both["logprobs"]["text_offset"]);
    let offsets =
        offsets.as_array().unwrap().iter().map(|offset| offset.as_u64().unwrap() as usize);
    // All tokens except the beginning-of-text token and the space before a text.
    for (token, offset) in tokens.as_array().unwrap().iter().zip(offsets).skip(2) {
        let token = token.as_str().unwrap();
        if token.starts_with("bytes:") {
            break;
        }
        let rest: String = characters[offset..].iter().collect();
        assert!(rest.starts_with(token), "{token:?} at {offset} of {text:?}");
    }
}

/// Characters of several tokens count once, when they are complete.
#[test]
fn offsets_are_characters_of_the_text() {
    let server = Running::new(options());
    let text = "aé日本🦀 z";
    let request = json!({"prompt": text, "max_tokens": 0, "echo": true, "logprobs": 0});
    let answer = post(server.address, PATH, &request).ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], text);
    let characters: Vec<char> = text.chars().collect();
    let (tokens, offsets) = (&choice["logprobs"]["tokens"], &choice["logprobs"]["text_offset"]);
    let tokens: Vec<&str> =
        tokens.as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    let offsets: Vec<usize> = offsets
        .as_array()
        .unwrap()
        .iter()
        .map(|offset| offset.as_u64().unwrap() as usize)
        .collect();
    assert!(tokens.iter().any(|token| token.starts_with("bytes:")), "{tokens:?}");
    assert!(offsets.is_sorted(), "{offsets:?}");
    // All tokens except the beginning-of-text token and the space before a text.
    for (token, &offset) in tokens.iter().zip(&offsets).skip(2) {
        let rest: String = characters[offset..].iter().collect();
        if !token.starts_with("bytes:") {
            assert!(rest.starts_with(token), "{token:?} at {offset}");
        }
    }
}

#[test]
fn prompts_can_be_texts_or_tokens_one_or_several() {
    let server = Running::new(options());
    let model = model("llama_bitnet_online");
    let tokens = |text: &str| trilobite_runtime::encode(&model, text, true).unwrap();
    let ask = |prompt: Value, n: usize| {
        let request = json!({"prompt": prompt, "max_tokens": 9, "seed": 9, "n": n, "logprobs": 0});
        let answer = post(server.address, PATH, &request).ok();
        let choices = answer["choices"].as_array().unwrap().clone();
        let indices: Vec<u64> = choices.iter().map(|c| c["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, (0..choices.len() as u64).collect::<Vec<_>>());
        // The text is mostly bytes that are not characters.
        choices.iter().map(|choice| choice["logprobs"]["tokens"].clone()).collect::<Vec<_>>()
    };
    let (one, two) = (ask(json!("One"), 2), ask(json!("Two"), 2));
    assert_ne!(one[0], one[1]);
    assert_eq!(ask(json!(tokens("One")), 2), one);
    assert_eq!(ask(json!(["One", "Two"]), 2), [&one[..], &two].concat());
    assert_eq!(ask(json!([tokens("One"), tokens("Two")]), 2), [&one[..], &two].concat());
    assert_eq!(ask(json!(["Two"]), 1), two[..1]);
    // An empty prompt is continued from the beginning-of-text token, whether or not the tokenizer
    // adds it.
    let prefix = trilobite_runtime::prefix_token(&model).unwrap();
    assert_eq!(ask(json!(""), 1), ask(json!([prefix]), 1));
    let bare = json!({"prompt": "", "max_tokens": 1, "add_special_tokens": false});
    assert_eq!(post(server.address, PATH, &bare).ok()["usage"]["prompt_tokens"], 1);
}

#[test]
fn a_stream_tells_the_same_answers() {
    let server = Running::new(options());
    let mut request = json!({"prompt": ["One", "Two"], "max_tokens": 9, "seed": 9, "n": 2,
        "temperature": 1, "echo": true, "logprobs": 1});
    let whole = post(server.address, PATH, &request).ok();
    request["stream"] = true.into();
    let events = post(server.address, PATH, &request).events();
    for choice in whole["choices"].as_array().unwrap() {
        let own = events.iter().map(|event| &event["choices"][0]);
        let own: Vec<&Value> = own.filter(|part| part["index"] == choice["index"]).collect();
        let text: String = own.iter().map(|part| part["text"].as_str().unwrap()).collect();
        assert_eq!(choice["text"], text);
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let parts = own.iter().flat_map(|part| part["logprobs"][list].as_array());
            let joined: Vec<&Value> = parts.flatten().collect();
            assert_eq!(choice["logprobs"][list], json!(joined), "{list}");
        }
        assert_eq!(own.last().unwrap()["finish_reason"], choice["finish_reason"]);
    }
    assert!(events.iter().all(|event| event["usage"].is_null()));
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let server = Running::new(options());
    let prompt: Vec<u32> = (0..100).collect();
    let request = json!({"prompt": prompt, "max_tokens": 3, "temperature": 0});
    let first = post(server.address, PATH, &request).ok();
    let second = post(server.address, PATH, &request).ok();
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone();
    assert_eq!((cached(&first), cached(&second)), (json!(0), json!(99)));
    assert_eq!(first["choices"], second["choices"]);
    assert_eq!(server.metric("trilobite_cached_prompt_tokens_total"), 99.0);
}

/// Sixteen parallel clients with different requests, compared with each request alone.
#[test]
fn answers_are_the_same_whatever_else_is_asked() {
    let request = |index: usize| {
        json!({"prompt": [vec![index % 5; 30 + index]], "max_tokens": 10 + index, "seed": index,
            "temperature": 1, "n": 1 + index % 3, "logprobs": index % 4, "echo": index.is_multiple_of(2)})
    };
    let choices = |server: &Running, index| {
        post(server.address, PATH, &request(index)).ok()["choices"].take()
    };
    let alone: Vec<Value> = {
        let server = Running::new(options());
        (0..16).map(|index| choices(&server, index)).collect()
    };
    // With few pages, so that runs preempt each other.
    let server = Running::new(trilobite_server::Options { cache_bytes: Some(0), ..options() });
    let together: Vec<Value> = std::thread::scope(|scope| {
        let ask = |index| {
            scope.spawn({
                let server = &server;
                move || choices(server, index)
            })
        };
        let asked: Vec<_> = (0..16).map(ask).collect();
        asked.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
}

/// As those of `trilobite run`, and negative ones.
#[test]
fn seeds_have_64_bits() {
    let server = Running::new(options());
    let answer = |seed: Value| {
        let request = json!({"prompt": "One", "max_tokens": 9, "temperature": 1, "seed": seed});
        post(server.address, PATH, &request)
    };
    let text = |seed: Value| answer(seed).ok()["choices"][0]["text"].clone();
    assert_eq!(text(json!(u64::MAX)), text(json!(-1)));
    assert_ne!(text(json!(u64::MAX)), text(json!(i64::MAX)));
    for (seed, shown) in [("18446744073709551616", "1.8446744073709552e+19"), ("0.5", "0.5")] {
        let error = answer(serde_json::from_str(seed).unwrap()).error(400);
        assert_eq!(error["message"], format!("seed is {shown}, expected a whole number"));
    }
}
