use std::io::Write;

use serde_json::{Value, json};
use trilobite_server::Options;

use crate::client::{JSON, get, open, post, receive, send};
use crate::fixture::{Running, options};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let server = Running::new(options());
    let message = json!([{"role": "user", "content": "Hi"}]);
    let chat = |more: Value| {
        let mut request = json!({"messages": message, "max_tokens": 1});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let wrong = |request: Value, param: &str, code: Value| {
        let path = if request.get("messages").is_some() { CHAT } else { COMPLETIONS };
        let error = post(server.address, path, &request).error(400);
        assert_eq!(error["type"], "invalid_request_error", "{request}");
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &code), "{request} {error}");
    };
    let none = || Value::Null;
    wrong(chat(json!({"messages": []})), "messages", none());
    wrong(chat(json!({"messages": "Hi"})), "messages", none());
    wrong(chat(json!({"messages": [{"role": "user"}]})), "messages[0].content", none());
    wrong(chat(json!({"messages": [{"role": "poet", "content": ""}]})), "messages[0].role", none());
    let image = json!([{"type": "image_url", "image_url": {"url": "data:,"}}]);
    let image = chat(json!({"messages": [{"role": "user", "content": image}]}));
    wrong(image, "messages[0].content[0]", json!("unsupported_content"));
    let function = |parameters: Value| json!({"type": "function", "function": {"name": "a", "parameters": parameters}});
    let (tool, unique) = (function(json!({})), function(json!({"uniqueItems": true})));
    let described =
        |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    let format =
        |format: Value| json!({"response_format": {"type": "json_schema", "json_schema": format}});
    let schema = |schema: Value| format(json!({"schema": schema}));
    for (more, param) in [
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": "warm"}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_tokens": 1e10}), "max_tokens"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logit_bias": {"a": 1}}), "logit_bias"),
        (json!({"logit_bias": {"320": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": []}), "stream_options"),
        (json!({"top_p": 1.00000000001}), "top_p"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function.name"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (described(json!({"name": "a", "strict": {}})), "tools[0].function.strict"),
        (described(json!({"name": "a", "description": 1})), "tools[0].function.description"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (
            json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "b"}}}),
            "tool_choice",
        ),
        (json!({"tools": [unique], "tool_choice": "required"}), "tools[0].function.parameters"),
        (
            json!({"tools": [tool], "response_format":
                {"type": "json_schema", "json_schema": {"schema": {"uniqueItems": true}}}}),
            "response_format",
        ),
        (json!({"regex": "a("}), "regex"),
        (json!({"grammar": "root ::= x"}), "grammar"),
        (json!({"regex": "a", "response_format": {"type": "json_object"}}), "regex"),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema"),
        (format(json!({"schema": {}, "strict": {}})), "response_format.json_schema.strict"),
        (format(json!({"schema": {}, "name": 1})), "response_format.json_schema.name"),
        (schema(json!({"type": "array", "uniqueItems": true})), "response_format"),
        (schema(json!(3)), "response_format"),
        (json!({"max_reasoning_tokens": -1}), "max_reasoning_tokens"),
    ] {
        wrong(chat(more), param, none());
    }
    for (more, param) in [
        (json!({"response_format": {"type": "structural_tag"}}), "response_format"),
        (json!({"tools": [tool], "tool_choice": "any"}), "tool_choice"),
        (json!({"tools": [tool], "regex": "a"}), "regex"),
        (json!({"reasoning_effort": "high"}), "reasoning_effort"),
    ] {
        wrong(chat(more), param, json!("unsupported_parameter"));
    }
    wrong(chat(json!({"temprature": 1})), "temprature", json!("unknown_parameter"));
    wrong(json!({"max_tokens": 1}), "prompt", none());
    for prompt in [json!([]), json!(7), json!([1, "a"]), json!([[]]), json!([320]), json!([-1])] {
        wrong(json!({"prompt": prompt}), "prompt", none());
    }
    wrong(json!({"prompt": "a", "best_of": 3}), "best_of", json!("unsupported_parameter"));
    wrong(json!({"prompt": vec![1; 513]}), "prompt", json!("context_length_exceeded"));
}

/// Errors name the value in JSON's words.
#[test]
fn values_of_another_type_are_told_what_is_expected() {
    let server = Running::new(options());
    for (field, value, expected) in [
        ("max_tokens", json!("many"), "max_tokens is \"many\", expected a whole number"),
        ("max_tokens", json!(-1), "max_tokens is -1, expected a whole number that is not negative"),
        ("top_k", json!(1.5), "top_k is 1.5, expected a whole number"),
        ("temperature", json!({"a": 1}), "temperature is {\"a\":1}, expected a number"),
        ("stream", json!("yes"), "stream is \"yes\", expected true or false"),
        ("stop", json!([1]), "stop is [1], expected a string or a list of strings"),
        ("logit_bias", json!([]), "logit_bias is [], expected an object of numbers"),
        ("stream_options", json!([]), "stream_options is [], expected an object"),
        (
            "stream_options",
            json!({"include_usage": 1}),
            "stream_options.include_usage is 1, expected true or false",
        ),
        ("model", json!(vec![7; 100]), "7..., expected a string"),
    ] {
        let mut request = json!({"prompt": "a", "max_tokens": 1});
        request[field] = value;
        let error = post(server.address, COMPLETIONS, &request).error(400);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(expected) && message.len() < 150, "{message}");
    }
}

#[test]
fn harmless_fields_are_ignored() {
    let server = Running::new(options());
    let request = json!({"messages": [{"role": "user", "content": "Hi", "name": "me"}],
        "max_tokens": 1, "user": "me", "metadata": {"a": "b"}, "store": false, "tools": null,
        "service_tier": "auto", "stream_options": null, "response_format": {"type": "text"},
        "parallel_tool_calls": true, "tool_choice": "none", "anything": null});
    post(server.address, CHAT, &request).ok();
    let request =
        json!({"prompt": "Hi", "max_tokens": 1.0, "best_of": 1, "suffix": "", "user": "me"});
    post(server.address, COMPLETIONS, &request).ok();
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let server = Running::new(Options { body_bytes: 1000, ..options() });
    let ask = |headers: &[(&str, &str)], body: &[u8]| {
        receive(send(server.address, "POST", COMPLETIONS, headers, body))
    };
    for body in [&b""[..], b"{", b"[1]", b"\"text\"", b"\xff", b"{\"prompt\": \"\x01\"}"] {
        ask(&[JSON], body).error(400);
    }
    let deep = "[".repeat(900);
    ask(&[JSON], deep.as_bytes()).error(400);
    ask(&[("Content-Type", "text/plain")], b"{\"prompt\": \"a\"}").error(415);
    ask(&[], b"{\"prompt\": \"a\"}").error(415);
    let encoded = |encoding| ask(&[JSON, ("Content-Encoding", encoding)], b"{\"prompt\": \"a\"}");
    encoded("gzip").error(415);
    encoded("Identity").ok();
    let large = json!({"prompt": "a".repeat(1000)}).to_string();
    let error = ask(&[JSON], large.as_bytes()).error(413);
    assert_eq!(error["code"], "request_too_large");
    // Without a length, the size is noticed when the body has arrived.
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    let mut stream = open(server.address, "POST", COMPLETIONS, &chunked);
    for _ in 0..20 {
        let _ = write!(stream, "40\r\n{}\r\n", "a".repeat(64));
    }
    receive(stream).error(413);
    // With a length, the server does not wait for the body.
    let length = [JSON, ("Content-Length", "1001")];
    receive(open(server.address, "POST", COMPLETIONS, &length)).error(413);
    // A client that sends all of it first still gets the answer.
    for large in [&[JSON, ("Content-Length", "8388608")][..], &chunked] {
        let mut stream = open(server.address, "POST", COMPLETIONS, large);
        if large == chunked {
            write!(stream, "800000\r\n").unwrap();
        }
        stream.write_all(&vec![b'a'; 8 << 20]).unwrap();
        if large == chunked {
            write!(stream, "\r\n0\r\n\r\n").unwrap();
        }
        receive(stream).error(413);
    }
    let charset = ("Content-Type", "Application/JSON; charset=utf-8");
    ask(&[charset], b"{\"prompt\": \"a\", \"max_tokens\": 1}").ok();
}

#[test]
fn paths_and_models_that_do_not_exist_are_not_found() {
    let server = Running::new(options());
    assert_eq!(get(server.address, "/v2/models").error(404)["code"], "not_found");
    get(server.address, COMPLETIONS).error(405);
    let request = json!({"model": "gpt-4", "prompt": "a"});
    let error = post(server.address, COMPLETIONS, &request).error(404);
    assert_eq!((&error["param"], &error["code"]), (&json!("model"), &json!("model_not_found")));
    get(server.address, "/v1/models/gpt-4").error(404);
}

#[test]
fn a_model_without_a_template_is_not_chatted_with() {
    use std::path::Path;
    use std::sync::Arc;
    use trilobite_server::{ServedModel, Server};

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tinystories-dense.gguf");
    let model = Arc::new(trilobite_runtime::Model::open(&file).unwrap());
    let served = ServedModel::new("stories", model).unwrap();
    let server = Server::bind(vec![served], options()).unwrap();
    let (address, stopper) = (server.address(), server.stopper());
    let thread = std::thread::spawn(|| server.run());
    let request = json!({"messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(post(address, CHAT, &request).error(400)["code"], "no_chat_template");
    stopper.stop();
    thread.join().unwrap().unwrap();
}
