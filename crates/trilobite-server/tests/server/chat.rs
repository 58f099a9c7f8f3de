use std::ops::ControlFlow;

use serde_json::{Value, json};
use trilobite_runtime::{
    ChatTemplate, Generation, Limits, Message, Sampler, Sampling, SamplingChoice, Session, end_ids,
    generate,
};

use crate::client::post;
use crate::fixture::{Running, model, options, session};

const PATH: &str = "/v1/chat/completions";

/// The generation of `trilobite run`.
fn run(text: &str, seed: u64, max_tokens: usize, choice: SamplingChoice) -> Generation {
    let model = model("llama_bitnet_online");
    let (metadata, tokenizer) = (model.metadata(), model.tokenizer().unwrap());
    let template = ChatTemplate::from_metadata(metadata, tokenizer).unwrap().unwrap();
    let prompt = template.encode(&[Message::new("user", text)], tokenizer).unwrap();
    let sampling = Sampling { seed, ..choice.complete(metadata, true).unwrap() };
    let end_ids = end_ids(metadata, Some(tokenizer)).unwrap();
    let limits = Limits { max_tokens: Some(max_tokens), end_ids, stop: Vec::new() };
    let mut sampler = Sampler::new(sampling).unwrap();
    let mut session = Session::new(model.clone(), session()).unwrap();
    let go = |_: u32, _: &str| ControlFlow::Continue(());
    generate(&mut session, Some(tokenizer), &mut sampler, &prompt, &limits, go).unwrap()
}

fn ask(text: &str, seed: u64, more: Value) -> Value {
    let mut request = json!({
        "model": "llama_bitnet_online",
        "messages": [{"role": "user", "content": text}],
        "seed": seed,
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn an_answer_is_what_run_generates() {
    let server = Running::new(options());
    for (seed, text) in [(1, "Hello"), (2, "Who are you?"), (3, "")] {
        let request = ask(text, seed, json!({"max_completion_tokens": 24}));
        let answer = post(server.address, PATH, &request).ok();
        let generation = run(text, seed, 24, SamplingChoice::default());
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["model"], "llama_bitnet_online");
        let choice = &answer["choices"][0];
        let message = json!({"role": "assistant", "content": generation.text, "refusal": null});
        assert_eq!(choice["message"], message);
        let usage = &answer["usage"];
        assert_eq!(usage["prompt_tokens"], generation.prompt_tokens);
        assert_eq!(usage["completion_tokens"], generation.ids.len());
        assert_eq!(usage["total_tokens"], generation.prompt_tokens + generation.ids.len());
        let ended = generation.ids.len() < 24;
        assert_eq!(choice["finish_reason"], if ended { "stop" } else { "length" });
    }
}

#[test]
fn settings_of_the_request_come_first() {
    let server = Running::new(options());
    let settings = json!({"temperature": 1.5, "top_k": 7, "top_p": 0.8, "min_p": 0.02,
        "repetition_penalty": 1.1, "max_tokens": 40});
    let choice = SamplingChoice {
        temperature: Some(1.5),
        top_k: Some(7),
        top_p: Some(0.8),
        min_p: Some(0.02),
        repeat_penalty: Some(1.1),
        loop_penalty: None,
    };
    let answer = post(server.address, PATH, &ask("Hello", 5, settings)).ok();
    let generation = run("Hello", 5, 40, choice);
    assert_eq!(answer["choices"][0]["message"]["content"], generation.text);
}

#[test]
fn each_choice_has_the_seed_that_follows() {
    let server = Running::new(options());
    let three = ask("Hello", 7, json!({"n": 3, "max_tokens": 12}));
    let three = post(server.address, PATH, &three).ok();
    for index in 0..3 {
        let one = ask("Hello", 7 + index, json!({"max_tokens": 12}));
        let one = post(server.address, PATH, &one).ok();
        let choice = &three["choices"][index as usize];
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"], one["choices"][0]["message"]);
    }
}

#[test]
fn a_stream_tells_the_same_answer() {
    let server = Running::new(options());
    for n in [1, 2] {
        let more = json!({"max_tokens": 30, "n": n, "logprobs": true, "top_logprobs": 2});
        let whole = post(server.address, PATH, &ask("Hi", 3, more.clone())).ok();
        let mut request = ask("Hi", 3, more);
        request["stream"] = true.into();
        request["stream_options"] = json!({"include_usage": true});
        let events = post(server.address, PATH, &request).events();
        let (last, parts) = events.split_last().unwrap();
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
        let id = &parts[0]["id"];
        for choice in whole["choices"].as_array().unwrap() {
            let own: Vec<&Value> =
                parts.iter().filter(|p| p["choices"][0]["index"] == choice["index"]).collect();
            assert_eq!(own[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
            let (mut text, mut logprobs) = (String::new(), Vec::new());
            for part in &own {
                assert_eq!((&part["object"], &part["id"]), (&json!("chat.completion.chunk"), id));
                assert_eq!(part["usage"], Value::Null);
                text += part["choices"][0]["delta"]["content"].as_str().unwrap();
                let content = part["choices"][0]["logprobs"]["content"].as_array();
                logprobs.extend(content.into_iter().flatten().cloned());
            }
            assert_eq!(choice["message"]["content"], text);
            assert_eq!(choice["logprobs"]["content"], json!(logprobs));
            let reasons = own.iter().map(|part| &part["choices"][0]["finish_reason"]);
            let reasons: Vec<&Value> = reasons.filter(|reason| !reason.is_null()).collect();
            assert_eq!(reasons, [&choice["finish_reason"]]);
        }
    }
}

#[test]
fn usage_in_a_stream_is_told_only_if_wanted() {
    let server = Running::new(options());
    let events =
        post(server.address, PATH, &ask("Hi", 3, json!({"stream": true, "max_tokens": 2})));
    assert!(events.events().iter().all(|event| event["choices"].as_array().unwrap().len() == 1));
}

#[test]
fn tokens_have_bytes_and_the_likeliest_beside_them() {
    let server = Running::new(options());
    let more = json!({"max_tokens": 20, "temperature": 0, "logprobs": true, "top_logprobs": 3});
    let answer = post(server.address, PATH, &ask("Hello", 1, more)).ok();
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], tokens.len());
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the token is the likeliest.
        assert_eq!(top[0]["token"], token["token"]);
        assert_eq!(top[0]["logprob"], token["logprob"]);
    }
    // Tokens of one byte of "é" each are forced.
    let bias = json!({"198": 50, "172": 50});
    let more = json!({"max_tokens": 8, "logprobs": true, "logit_bias": bias, "temperature": 0,
        "frequency_penalty": 2});
    let answer = post(server.address, PATH, &ask("Hello", 1, more)).ok();
    for token in answer["choices"][0]["logprobs"]["content"].as_array().unwrap() {
        let byte = token["bytes"][0].as_u64().unwrap();
        assert!([0xc3, 0xa9].contains(&byte), "{byte:x}");
        assert_eq!(token["token"], format!("bytes:\\x{byte:02x}"));
    }
    // Without `logprobs` the answer has none.
    let answer = post(server.address, PATH, &ask("Hello", 1, json!({"max_tokens": 1}))).ok();
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn a_stop_text_ends_an_answer_and_is_no_part_of_it() {
    let server = Running::new(options());
    let whole = post(server.address, PATH, &ask("Hello", 11, json!({"max_tokens": 40}))).ok();
    let whole = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    // A text from the middle of the answer.
    let start = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[start..].chars().take(2).collect();
    for stops in [json!(stop), json!(["never said", stop])] {
        let request = ask("Hello", 11, json!({"max_tokens": 40, "stop": stops}));
        let cut = post(server.address, PATH, &request).ok();
        let expected = &whole[..whole.find(&stop).unwrap()];
        assert_eq!(cut["choices"][0]["message"]["content"], expected);
        assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    }
}

#[test]
fn a_content_can_be_a_list_of_texts() {
    let server = Running::new(options());
    let mut request = ask("", 1, json!({"max_tokens": 8}));
    request["messages"][0]["content"] =
        json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    let listed = post(server.address, PATH, &request).ok();
    let plain = post(server.address, PATH, &ask("one\ntwo", 1, json!({"max_tokens": 8}))).ok();
    assert_eq!(listed["choices"], plain["choices"]);
}

#[test]
fn a_bias_forbids_and_forces_tokens() {
    let server = Running::new(options());
    let more = json!({"max_tokens": 6, "temperature": 0, "logit_bias": {"65": 100}});
    let forced = post(server.address, PATH, &ask("Hello", 1, more)).ok();
    let text = forced["choices"][0]["message"]["content"].as_str().unwrap();
    let tokenizer = model("llama_bitnet_online");
    let one = tokenizer.tokenizer().unwrap().decode(&[65], true).unwrap();
    assert_eq!(text, one.repeat(6));
}
