//! Tests of constrained answers, tool calls and reasoning.

use serde_json::{Value, json};

use crate::client::post;
use crate::fixture::{Running, options};

const CHAT: &str = "/v1/chat/completions";
/// Templates: one with tools in Qwen's format, one without tools, and one that begins the
/// reasoning.
const TAGGED: &str = "{% if tools %}{{ tools | tojson }} Answer <tool_call></tool_call>. {% endif %}\
                      {% for m in messages %}{{ m.role }}: {{ m.content }}\
                      {% for call in m.tool_calls or [] %}{{ call.function.arguments.items() | list }}{% endfor %}\
                      {% endfor %}";
const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}";
const THINKING: &str = "{% for m in messages %}{{ m.content }} {% endfor %}<think>\n";

fn ask(text: &str, more: Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": text}], "max_tokens": 400});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "required": ["city"], "additionalProperties": false,
        "properties": {"city": {"enum": ["Rome", "Köln"]}}}}}])
}

/// The message and the end of each choice of a stream.
fn joined(events: &[Value]) -> Vec<(Value, Value)> {
    let mut all: Vec<(Value, Value)> = Vec::new();
    for choice in events.iter().flat_map(|event| event["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        all.resize(all.len().max(index + 1), (json!({}), Value::Null));
        for (key, value) in choice["delta"].as_object().unwrap() {
            let whole = &mut all[index].0[key];
            match value {
                Value::String(text) => {
                    *whole = (whole.as_str().unwrap_or("").to_owned() + text).into()
                }
                Value::Array(list) => {
                    let mut calls = whole.as_array().cloned().unwrap_or_default();
                    calls.extend(list.clone());
                    *whole = calls.into();
                }
                other => panic!("{other}"),
            }
        }
        if !choice["finish_reason"].is_null() {
            all[index].1 = choice["finish_reason"].clone();
        }
    }
    all
}

#[test]
fn answers_fit_their_schema() {
    let server = Running::new(options());
    let schema = json!({"type": "object", "required": ["name", "tags"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "maxLength": 12},
            "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["ä", "b"]}}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let mut whole = 0;
    for (seed, temperature) in [(1, 0.0), (2, 0.7), (3, 1.5), (4, 2.0)] {
        let more =
            json!({"response_format": format, "seed": seed, "temperature": temperature, "n": 2});
        let request = ask("Hi", more.clone());
        let answer = post(server.address, CHAT, &request).ok();
        let mut stream = request;
        stream["stream"] = true.into();
        let told = joined(&post(server.address, CHAT, &stream).events());
        for (choice, (message, finish)) in answer["choices"].as_array().unwrap().iter().zip(told) {
            let text = choice["message"]["content"].as_str().unwrap();
            assert_eq!((&message["content"], &finish), (&text.into(), &choice["finish_reason"]));
            if finish == "stop" {
                let value: Value = serde_json::from_str(text).unwrap();
                let fields: Vec<&String> = value.as_object().unwrap().keys().collect();
                assert_eq!(fields, ["name", "tags"], "{text}");
                assert!(value["name"].as_str().unwrap().chars().count() <= 12);
                let tags = value["tags"].as_array().unwrap();
                assert!(tags.len() <= 3 && tags.iter().all(|tag| tag == "ä" || tag == "b"));
                whole += 1;
            } else {
                assert_eq!(finish, "length");
            }
        }
    }
    assert!(whole >= 4, "{whole} of 8");
    // The answer ends with the grammar, or earlier at a limit.
    let request = |most: usize| ask("Hi", json!({"regex": "(ab){9}", "max_tokens": most}));
    let end = |most| post(server.address, CHAT, &request(most)).ok()["choices"][0].take();
    assert_eq!(end(60)["message"]["content"], "ab".repeat(9));
    assert_eq!(end(60)["finish_reason"], "stop");
    assert_eq!(end(2)["finish_reason"], "length");
    assert!("ab".repeat(9).starts_with(end(2)["message"]["content"].as_str().unwrap()));
}

#[test]
fn every_field_that_demands_a_form_is_followed() {
    let server = Running::new(options());
    for (form, fits) in [
        (json!({"regex": "x{3}y"}), "xxxy"),
        (json!({"guided_regex": "x{3}y"}), "xxxy"),
        (json!({"grammar": "start: \"a\" B\nB: /b{2}/"}), "abb"),
        (json!({"guided_grammar": "start: \"a\" B\nB: /b{2}/"}), "abb"),
        (json!({"guided_json": {"const": "ü"}}), "\"ü\""),
        (json!({"guided_json": "{\"const\": \"ü\"}"}), "\"ü\""),
    ] {
        let answer = post(server.address, CHAT, &ask("Hi", form.clone())).ok();
        assert_eq!(answer["choices"][0]["message"]["content"], fits, "{form}");
        let mut request = form;
        (request["prompt"], request["max_tokens"]) = ("Hi".into(), 30.into());
        let answer = post(server.address, "/v1/completions", &request).ok();
        let text = answer["choices"][0]["text"].as_str().unwrap();
        assert_eq!((text, &answer["choices"][0]["finish_reason"]), (fits, &json!("stop")));
    }
}

#[test]
fn demanded_calls_are_made() {
    for template in [TAGGED, PLAIN] {
        let server = Running::with_template(template);
        let named = json!({"type": "function", "function": {"name": "weather"}});
        for (seed, choice) in [(1, json!("required")), (2, named)] {
            let more = json!({"tools": weather(), "tool_choice": choice, "seed": seed,
                "temperature": 1.0, "parallel_tool_calls": false});
            let request = ask("Hi", more);
            let answer = post(server.address, CHAT, &request).ok();
            let choice = &answer["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
            assert_eq!(choice["message"]["content"], Value::Null);
            let call = &choice["message"]["tool_calls"][0];
            assert_eq!(
                (&call["type"], &call["function"]["name"]),
                (&json!("function"), &json!("weather"))
            );
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let city = serde_json::from_str::<Value>(arguments).unwrap()["city"].take();
            assert!(city == "Rome" || city == "Köln", "{arguments}");
            let mut stream = request;
            stream["stream"] = true.into();
            let (message, finish) = joined(&post(server.address, CHAT, &stream).events()).remove(0);
            assert_eq!((finish, &message["content"]), (json!("tool_calls"), &json!("")));
            assert_eq!(message["tool_calls"][0]["function"], call["function"]);
        }
    }
}

#[test]
fn models_are_shown_tools_unless_none_is_to_be_called() {
    for template in [TAGGED, PLAIN] {
        let server = Running::with_template(template);
        let tokens = |more: Value| {
            let mut request = ask("Hi", more);
            request["max_tokens"] = 1.into();
            post(server.address, CHAT, &request).ok()["usage"]["prompt_tokens"].as_u64().unwrap()
        };
        let without = tokens(json!({}));
        assert!(tokens(json!({"tools": weather()})) > without + 20);
        assert_eq!(tokens(json!({"tools": weather(), "tool_choice": "none"})), without);
        // Calls and their results become part of the conversation.
        let call = json!({"id": "1", "type": "function",
            "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}});
        let messages = json!([{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "sunny"}]);
        let more = json!({"tools": weather(), "messages": messages});
        assert!(tokens(more) > tokens(json!({"tools": weather()})) + 5);
    }
}

/// A template without tools would drop earlier calls, and a role that it does not know.
#[test]
fn earlier_calls_stay_in_a_conversation_without_tools() {
    let server = Running::with_template(PLAIN);
    let tokens = |messages: &Value, more: Value| {
        let mut request = ask("Hi", more);
        (request["messages"], request["max_tokens"]) = (messages.clone(), 1.into());
        post(server.address, CHAT, &request).ok()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let call = json!({"id": "1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}});
    let messages = json!([{"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"}]);
    let text = "{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}";
    let written = json!([{"role": "user", "content": "Hi"},
        {"role": "assistant", "content": text},
        {"role": "user", "content": "The result of the call: sunny"}]);
    let expected = tokens(&written, json!({}));
    assert_eq!(tokens(&messages, json!({})), expected);
    assert_eq!(tokens(&messages, json!({"tools": weather(), "tool_choice": "none"})), expected);
}

#[test]
fn reasoning_is_told_apart_and_bounded() {
    let server = Running::with_template(THINKING);
    let more = json!({"max_reasoning_tokens": 6, "regex": "yes|no", "temperature": 0.8, "seed": 5});
    let request = ask("Is it?", more);
    let answer = post(server.address, CHAT, &request).ok();
    let message = &answer["choices"][0]["message"];
    assert!(["yes", "no"].contains(&message["content"].as_str().unwrap()), "{answer}");
    let reasoning = message["reasoning_content"].as_str().unwrap_or_default();
    assert!(!reasoning.contains("think>") && reasoning.len() < 200, "{answer}");
    let mut stream = request;
    stream["stream"] = true.into();
    let (told, finish) = joined(&post(server.address, CHAT, &stream).events()).remove(0);
    assert_eq!((&told["content"], finish), (&message["content"], json!("stop")));
    assert_eq!(told.get("reasoning_content"), message.get("reasoning_content"));
    // If reasoning is cut off, there is no text.
    let mut cut = ask("Is it?", json!({"temperature": 0.8, "seed": 5}));
    cut["max_tokens"] = 4.into();
    let answer = post(server.address, CHAT, &cut).ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "");
}
