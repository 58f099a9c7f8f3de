//! Prompts against those of transformers, as `models/golden/chat_templates.py` records them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use trilobite_format::Metadata;
use trilobite_jinja::Clock;

use super::{ChatTemplate, Conversation, Ending, Message, special_tokens};
use crate::tokenizer::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    now: String,
    special_tokens: Map<String, Json>,
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Talk>,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Talk {
    messages: Vec<Message>,
    tools: Option<Vec<Json>>,
    documents: Option<Vec<Json>>,
    #[serde(default)]
    variables: Map<String, Json>,
}

#[derive(Deserialize)]
struct Prompt {
    template: String,
    conversation: String,
    ending: String,
    rendered: Option<String>,
}

impl Golden {
    fn clock(&self) -> Clock {
        Clock::Stopped(self.now.parse().unwrap())
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../models/golden/chat_templates.json")).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate {
        source: source.to_owned(),
        with_tools: None,
        special: Map::new(),
        replaced: false,
        clock: Clock::System,
    }
}

fn said(messages: &[Message], source: &str) -> String {
    let conversation = Conversation { messages, ..Conversation::default() };
    template(source).render(&conversation).unwrap()
}

#[test]
fn prompts_are_those_of_transformers() {
    let golden = golden();
    assert!(golden.prompts.len() > 300);
    let mut wrong = Vec::new();
    for Prompt { template, conversation, ending, rendered } in &golden.prompts {
        let template = ChatTemplate {
            special: golden.special_tokens.clone(),
            clock: golden.clock(),
            ..self::template(&golden.templates[template])
        };
        let talk = &golden.conversations[conversation];
        let ending = match &**ending {
            "answer" => Ending::Answer,
            "closed" => Ending::Closed,
            _ => Ending::Open,
        };
        let found = template.render(&Conversation {
            messages: &talk.messages,
            tools: talk.tools.as_deref(),
            documents: talk.documents.as_deref(),
            ending,
            variables: talk.variables.clone(),
        });
        if found.as_ref().ok() != rendered.as_ref() {
            wrong.push(format!("{conversation}, {ending:?}: {found:?}\nnot {rendered:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} prompts differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The budget is for conversations of any length.
#[test]
fn a_long_conversation_is_rendered() {
    let golden = golden();
    let line = "It is a long way to the end of this talk, and nobody knows where it leads. ";
    let messages: Vec<Message> = (0..3000)
        .map(|i| {
            Message::new(if i % 2 == 0 { "user" } else { "assistant" }, line.repeat(1 + i % 5))
        })
        .collect();
    let conversation = Conversation { messages: &messages, ..Conversation::default() };
    for name in ["turns", "schema", "reasoning", "alternate", "parts", "whitespace"] {
        let template = ChatTemplate {
            special: golden.special_tokens.clone(),
            ..template(&golden.templates[name])
        };
        let prompt = template.render(&conversation);
        assert!(
            prompt.as_ref().is_ok_and(|prompt| prompt.contains(line)),
            "{name}: {prompt:.200?}"
        );
    }
}

#[test]
fn refusals_carry_the_template_s_words_and_the_line() {
    let template =
        template("\n{% if true %}\n{{ raise_exception('no system role') }}\n{% endif %}");
    let error = template.render(&Conversation::default()).unwrap_err().to_string();
    assert_eq!(error, "chat template: line 3: no system role");
}

#[test]
fn an_answer_goes_on_where_it_stopped() {
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}";
    let render = |message: Message| {
        let messages = [Message::new("user", "CONTINUE_FINAL_MESSAGE_TAG "), message];
        let conversation =
            Conversation { messages: &messages, ending: Ending::Open, ..Conversation::default() };
        template(source).render(&conversation)
    };
    let text = render(Message::new("assistant", "It is ")).unwrap();
    assert_eq!(text, "<user>CONTINUE_FINAL_MESSAGE_TAG</s><assistant>It is");
    let nothing = render(Message::default().with("role", "assistant")).unwrap_err().to_string();
    assert!(nothing.contains("has no text to continue"), "{nothing}");
}

#[test]
fn another_template_serves_conversations_with_tools() {
    let both = ChatTemplate { with_tools: Some("{{ tools[0].name }}".into()), ..template("none") };
    let tools = [json!({"name": "stop"})];
    let render = |tools| both.render(&Conversation { tools, ..Conversation::default() }).unwrap();
    assert_eq!(render(None), "none");
    assert_eq!(render(Some(&tools)), "stop");
}

#[test]
fn special_tokens_come_from_their_keys_or_from_ids() {
    let vocabulary = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3});
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    let tokenizer = Tokenizer::from_json(tokenizer.to_string().as_bytes()).unwrap();
    let mut metadata = Metadata::new();
    for (name, id) in
        [("unknown", 0u32), ("bos", 1), ("eos", 2), ("padding", 3), ("mask", u32::MAX)]
    {
        metadata.insert(format!("tokenizer.ggml.{name}_token_id"), id);
    }
    metadata.insert("tokenizer.ggml.cls_token_id", -1i32);
    metadata.insert("trilobite.eos_token", "<end>");
    metadata.insert("trilobite.special_tokens.image_token", "<image>");
    metadata.insert("trilobite.special_tokens.pad_token", "<fill>");
    let list = vec!["<a>".to_owned(), "<b>".to_owned()];
    metadata.insert("trilobite.special_tokens.additional_special_tokens", list);
    let expected = json!({
        "bos_token": "<s>", "eos_token": "<end>", "unk_token": "<unk>", "pad_token": "<fill>",
        "image_token": "<image>", "additional_special_tokens": ["<a>", "<b>"],
    });
    assert_eq!(Json::Object(special_tokens(&metadata, &tokenizer).unwrap()), expected);
}

#[test]
fn reasoning_has_the_names_that_templates_know() {
    let message =
        Message::new("assistant", "b").with("reasoning", "a").with("tool_calls", Json::Null);
    let source =
        "{{ messages[0].reasoning_content ~ messages[0].thinking ~ messages[0].tool_calls }}";
    assert_eq!(said(&[message], source), "aa");
}

#[test]
fn standard_templates_render_conversations_and_name_their_tokens() {
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "Hi"),
        Message::new("assistant", "Hello"),
        Message::new("user", "Why?"),
    ];
    let render = |name: &str| {
        let standard = ChatTemplate::standard().iter().find(|known| known.name == name).unwrap();
        let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
        let special = special.as_object().unwrap().clone();
        let template = ChatTemplate { special, ..template(standard.source) };
        template.render(&Conversation { messages: &messages, ..Conversation::default() }).unwrap()
    };
    let expected = [
        (
            "alpaca",
            "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nWhy?\n\n\
             ### Response:\n",
        ),
        (
            "bitnet",
            "System: Be brief.<|eot_id|>User: Hi<|eot_id|>Assistant: Hello<|eot_id|>User: Why?<|eot_id|>\
             Assistant: ",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n\
             Hello<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "gemma",
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n\
             <start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "llama2",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Why? [/INST]",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user\
             <|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant\
             <|end_header_id|>\n\n",
        ),
        ("mistral", "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Why? [/INST]"),
        (
            "phi3",
            "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\n\
             Why?<|end|>\n<|assistant|>\n",
        ),
        ("vicuna", "Be brief.\n\nUSER: Hi\nASSISTANT: Hello</s>\nUSER: Why?\nASSISTANT:"),
        (
            "zephyr",
            "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n<|user|>\nWhy?</s>\n\
             <|assistant|>\n",
        ),
    ];
    assert_eq!(expected.len(), ChatTemplate::standard().len());
    for (name, prompt) in expected {
        assert_eq!(render(name), prompt, "{name}");
    }
}
