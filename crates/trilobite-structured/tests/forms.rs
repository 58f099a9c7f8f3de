//! Tests that answers satisfy their constraint for any logits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use trilobite_runtime::{
    Constraint, Continuation, Finish, Limits, Logits, Sampler, Sampling, Tokenizer,
};
use trilobite_structured::{CallFormat, Compiler, Error, Grammar, ToolChoice, Tools};

/// Tokenizers of both families: bytes as characters, and SentencePiece with bytes as a fallback.
const TOKENIZERS: [(&str, &[&str]); 2] =
    [("llama", &["<|end_of_text|>", "<|eot_id|>"]), ("llama_bitnet_online", &["</s>"])];
const MOST: usize = 600;

fn tokenizer(name: &str) -> Tokenizer {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden");
    Tokenizer::from_json(&std::fs::read(golden.join(name).join("tokenizer.json")).unwrap()).unwrap()
}

/// A model with random logits.
struct Random {
    tokenizer: Tokenizer,
    /// Numbers to add to the logits of some tokens.
    bias: Vec<(u32, f32)>,
    ends: Vec<u32>,
    vocab: usize,
}

impl Random {
    fn new(name: &str, ends: &[&str]) -> Self {
        let tokenizer = tokenizer(name);
        let ends = ends.iter().map(|end| tokenizer.id(end).unwrap()).collect();
        // More logits than tokens, as in padded models.
        let vocab = tokenizer.max_id().unwrap() as usize + 9;
        Self { tokenizer, bias: Vec::new(), ends, vocab }
    }

    fn prefer_whitespace(&mut self) {
        let is_whitespace = |id: &u32| {
            let text = self.tokenizer.decode(&[*id], false).unwrap_or_default();
            !text.is_empty() && text.trim_matches([' ', '\n', '\t', '\r']).is_empty()
        };
        self.bias = (0..self.vocab as u32).filter(is_whitespace).map(|id| (id, 100.0)).collect();
    }

    fn compiler(&self) -> Compiler {
        Compiler::new(&self.tokenizer, self.vocab, &self.ends).unwrap()
    }

    fn generate(
        &self,
        constraint: Option<Box<dyn Constraint>>,
        temperature: f32,
        seed: u64,
        most: usize,
    ) -> (String, Finish, usize) {
        let sampling = Sampling { temperature, seed, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling).unwrap().with_bias(self.bias.clone()).unwrap();
        sampler.constrain(constraint);
        let limits = Limits { end_ids: self.ends.clone(), ..Limits::default() };
        let mut answer = Continuation::new(Some(&self.tokenizer), limits, &[]);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let finish = loop {
            if answer.ids().len() == most {
                break Finish::Length;
            }
            let number = |_| (random.next_u32() % 1000) as f32 / 100.0;
            let logits: Vec<f32> = (0..self.vocab).map(number).collect();
            let id = sampler.sample(Logits::all(&logits), &[]).unwrap();
            if let Some(finish) = answer.push(id).unwrap().1 {
                break finish;
            }
            if sampler.is_complete() {
                break Finish::EndOfText;
            }
        };
        answer.finish().unwrap();
        (answer.text().to_owned(), finish, answer.ids().len())
    }
}

/// A schema, and a function that checks JSON against it.
type Case = (Value, fn(&Value) -> bool);

fn cases() -> Vec<Case> {
    vec![
        (
            json!({"type": "object", "additionalProperties": false, "required": ["a", "b"],
                "properties": {"a": {"type": "integer", "minimum": -5, "maximum": 17},
                    "b": {"enum": ["x", "y", null, 3]}, "c": {"type": "boolean"}}}),
            |value| {
                let fields = value.as_object().unwrap();
                fields.keys().all(|key| ["a", "b", "c"].contains(&key.as_str()))
                    && value["a"]
                        .as_f64()
                        .is_some_and(|a| a.fract() == 0.0 && (-5.0..=17.0).contains(&a))
                    && [json!("x"), json!("y"), json!(null), json!(3)].contains(&fields["b"])
                    && fields.get("c").is_none_or(Value::is_boolean)
            },
        ),
        (
            json!({"type": "array", "minItems": 2, "maxItems": 4,
                "items": {"type": "number", "minimum": 0, "exclusiveMaximum": 1.5}}),
            |value| {
                let list = value.as_array().unwrap();
                let fits = |number: f64| (0.0..1.5).contains(&number);
                (2..=4).contains(&list.len())
                    && list.iter().all(|item| item.as_f64().is_some_and(fits))
            },
        ),
        (
            json!({"$defs": {"node": {"type": "object", "additionalProperties": false,
                "required": ["name", "next"], "properties": {
                    "name": {"type": "string", "pattern": "^[A-Z][a-zé]{1,3}$"},
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}}},
                "$ref": "#/$defs/node"}),
            |value| {
                let mut node = value;
                while !node.is_null() {
                    let name: Vec<char> = node["name"].as_str().unwrap().chars().collect();
                    let tail = |c: &char| c.is_ascii_lowercase() || *c == 'é';
                    if !name[0].is_ascii_uppercase()
                        || !(2..=4).contains(&name.len())
                        || !name[1..].iter().all(tail)
                    {
                        return false;
                    }
                    node = &node["next"];
                }
                true
            },
        ),
        (
            json!({"type": "object", "required": ["größe", "日本"], "additionalProperties": false,
                "properties": {"größe": {"type": "string", "maxLength": 5},
                    "日本": {"const": {"🦀": ["ü"]}}}}),
            |value| {
                value["größe"].as_str().is_some_and(|text| text.chars().count() <= 5)
                    && value["日本"] == json!({"🦀": ["ü"]})
            },
        ),
        (json!({"type": "string", "format": "date"}), |value| {
            value.as_str().is_some_and(|text| text.len() == 10 && text.split('-').count() == 3)
        }),
        (json!({"type": ["integer", "null"]}), |value| {
            value.is_null() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }),
        (json!({"const": 1e300}), |value| *value == 1e300),
        (json!({"enum": ["one", "two"]}), |value| *value == "one" || *value == "two"),
    ]
}

#[test]
fn every_answer_that_ends_fits_its_schema() {
    for (name, ends) in TOKENIZERS {
        let model = Random::new(name, ends);
        let compiler = model.compiler();
        for (schema, fits) in cases() {
            let form = compiler.compile(&Grammar::Schema(schema.clone())).unwrap();
            let mut whole = 0;
            for seed in 0..24 {
                let temperature = [0.0, 0.7, 2.0][seed as usize % 3];
                let (text, finish, _) = model.generate(Some(form.begin()), temperature, seed, MOST);
                if finish == Finish::EndOfText {
                    let value: Value = serde_json::from_str(&text).expect(&text);
                    assert!(fits(&value), "{name}: {schema}: {text}");
                    whole += 1;
                } else {
                    assert_eq!(finish, Finish::Length);
                }
            }
            // Only unbounded answers can fail to end.
            assert!(whole >= 12, "{name}: {schema}: {whole} of 24");
        }
    }
}

#[test]
fn json_is_an_object() {
    for (name, ends) in TOKENIZERS {
        let model = Random::new(name, ends);
        let form = model.compiler().compile(&Grammar::Json).unwrap();
        let mut whole = 0;
        for seed in 0..30 {
            let (text, finish, _) = model.generate(Some(form.begin()), 1.0, seed, MOST);
            assert!(text.starts_with('{'), "{text}");
            if finish == Finish::EndOfText {
                assert!(serde_json::from_str::<Value>(&text).expect(&text).is_object());
                whole += 1;
            }
        }
        assert!(whole > 0, "{name}");
    }
}

#[test]
fn a_model_that_prefers_whitespace_completes_its_json() {
    let schema = json!({"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2});
    for (name, ends) in TOKENIZERS {
        let mut model = Random::new(name, ends);
        let form = model.compiler().compile(&Grammar::Schema(schema.clone())).unwrap();
        model.prefer_whitespace();
        for seed in 0..4 {
            let (text, finish, _) = model.generate(Some(form.begin()), 0.0, seed, MOST);
            assert_eq!(finish, Finish::EndOfText, "{name}: {text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).expect(&text), json!([1, 1]));
            let runs = text.split(|c: char| !c.is_whitespace()).map(str::len);
            assert_eq!(runs.max(), Some(32), "{name}: {text:?}");
        }
    }
}

#[test]
fn the_arguments_of_calls_have_single_spaces() {
    let schema = json!({"type": "object", "required": ["list"], "additionalProperties": false,
        "properties": {"list": {"type": "array", "items": {"const": 1}, "minItems": 2,
            "maxItems": 2}}});
    let tool = json!({"type": "function", "function": {"name": "add", "parameters": schema}});
    let tools = Tools::read(vec![tool]).unwrap();
    let choice = ToolChoice::Required;
    let grammar = tools.grammar(CallFormat::Arguments, &choice, false, None).unwrap().unwrap();
    for (name, ends) in TOKENIZERS {
        let mut model = Random::new(name, ends);
        let form = model.compiler().compile(&grammar).unwrap();
        model.prefer_whitespace();
        let (text, finish, _) = model.generate(Some(form.begin()), 0.0, 1, MOST);
        assert_eq!(finish, Finish::EndOfText, "{name}: {text:?}");
        let call: Value = serde_json::from_str(&text).expect(&text);
        assert_eq!(call["arguments"], json!({"list": [1, 1]}));
        let runs = text.split(|c: char| !c.is_whitespace()).map(str::len);
        assert!(runs.max() == Some(1) && !text.contains('\n'), "{name}: {text:?}");
    }
}

#[test]
fn an_answer_that_is_cut_off_is_the_beginning_of_one() {
    let model = Random::new("llama", TOKENIZERS[0].1);
    let form = model.compiler().compile(&Grammar::Regex("(ab|cd){40}".to_owned())).unwrap();
    for most in 1..20 {
        let (text, finish, tokens) = model.generate(Some(form.begin()), 1.0, most as u64, most);
        assert_eq!((finish, tokens), (Finish::Length, most));
        let pair = |pair: &[u8]| [&b"ab"[..], b"cd", b"a", b"c"].contains(&pair);
        assert!(text.as_bytes().chunks(2).all(pair), "{text}");
    }
    let (text, finish, _) = model.generate(Some(form.begin()), 1.0, 1, MOST);
    assert_eq!((text.len(), finish), (80, Finish::EndOfText));
}

#[test]
fn expressions_and_grammars_are_followed() {
    let model = Random::new("llama_bitnet_online", TOKENIZERS[1].1);
    let compiler = model.compiler();
    let lark =
        "start: greeting \", \" NAME\ngreeting: \"Hi\" | \"Grüß Gott\"\nNAME: /[A-Z][a-z]{2,5}/\n";
    let (regex, lark) = (Grammar::Regex(r"[0-9]{3}-[a-f]+x".into()), Grammar::Lark(lark.into()));
    let (regex, lark) = (compiler.compile(&regex).unwrap(), compiler.compile(&lark).unwrap());
    for seed in 0..40 {
        let (text, finish, _) = model.generate(Some(regex.begin()), 0.8, seed, MOST);
        assert_eq!(finish, Finish::EndOfText);
        let (number, rest) = text.split_once('-').unwrap();
        let letters = rest.strip_suffix('x').unwrap();
        assert!(number.len() == 3 && number.bytes().all(|c| c.is_ascii_digit()), "{text}");
        assert!(
            !letters.is_empty() && letters.bytes().all(|c| (b'a'..=b'f').contains(&c)),
            "{text}"
        );
        let (text, finish, _) = model.generate(Some(lark.begin()), 0.8, seed, MOST);
        let (greeting, name) = text.split_once(", ").unwrap();
        assert_eq!(finish, Finish::EndOfText);
        assert!(["Hi", "Grüß Gott"].contains(&greeting) && (3..=6).contains(&name.len()), "{text}");
    }
}

#[test]
fn a_model_without_an_end_ends_with_its_grammar() {
    let mut model = Random::new("llama", &[]);
    model.ends.clear();
    let form = model.compiler().compile(&Grammar::Schema(json!({"const": [1, 2]}))).unwrap();
    let (text, finish, _) = model.generate(Some(form.begin()), 1.0, 3, MOST);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!([1, 2]));
    assert_eq!(finish, Finish::EndOfText);
}

#[test]
fn what_cannot_be_followed_is_told() {
    let model = Random::new("llama", TOKENIZERS[0].1);
    let compiler = model.compiler();
    let fault = |grammar: Grammar| match compiler.compile(&grammar) {
        Err(Error::Grammar { fault, .. }) => fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{grammar:?}"),
    };
    for (schema, told) in [
        (json!({"if": {"type": "null"}, "then": false}), "if"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "poem"}), "poem"),
        (json!({"$ref": "https://example.org/schema"}), "$ref"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "3"),
        (json!(false), "false"),
        (json!(7), "7"),
    ] {
        let fault = fault(Grammar::Schema(schema));
        assert!(fault.contains(told) && !fault.contains("backtrace"), "{fault}");
    }
    fault(Grammar::Regex("a(".to_owned()));
    fault(Grammar::Regex("(?=a)".to_owned()));
    fault(Grammar::Lark("root ::= \"a\"".to_owned()));
    fault(Grammar::Lark("begin: \"a\"".to_owned()));
    let nothing = fault(Grammar::Regex(r"a[^\s\S]".to_owned()));
    assert_eq!(nothing, "no text matches it");
    // One line, without the grammars that they are compiled to.
    assert_eq!(fault(Grammar::Regex("a(\n/".to_owned())), "unclosed group");
    let pattern = json!({"type": "string", "pattern": "a("});
    let unclosed = "regex parse error: a( error: unclosed group";
    assert_eq!(fault(Grammar::Schema(pattern.clone())), unclosed);
    let lark = "start: \"b\"\n  | c\n".to_owned();
    assert_eq!(fault(Grammar::Lark(lark)), "at 1(8): unknown name: \"c\"");
    let function = json!({"name": "a", "parameters": {"properties": {"a": pattern}}});
    let tools = Tools::read(vec![json!({"type": "function", "function": function})]).unwrap();
    let calls = tools.grammar(CallFormat::Arguments, &ToolChoice::Required, false, None).unwrap();
    assert_eq!(fault(calls.unwrap()), unclosed);
}

#[test]
fn the_function_whose_schema_cannot_be_followed_is_named() {
    let model = Random::new("llama", TOKENIZERS[0].1);
    let compiler = model.compiler();
    let function = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    let unique = json!({"properties": {"a": {"type": "array", "uniqueItems": true}}});
    let tools = vec![function("add", json!({})), function("sort", unique)];
    let tools = Tools::read(tools).unwrap();
    let compile = |choice: ToolChoice, answer: Option<&Value>| {
        let format = CallFormat::Arguments;
        let grammar = tools.grammar(format, &choice, true, answer).unwrap().unwrap();
        tools.compile(&compiler, &grammar, format, &choice).map_err(|error| error.to_string())
    };
    let answer = json!({"type": "object"});
    for (choice, answer) in [
        (ToolChoice::Required, None),
        (ToolChoice::Named("sort".to_owned()), None),
        (ToolChoice::Auto, Some(&answer)),
    ] {
        let told = compile(choice, answer).err().unwrap();
        let expected = "tools[1].function.parameters: the schema of function \"sort\" cannot be \
                        followed: ";
        assert!(told.starts_with(expected) && told.contains("uniqueItems"), "{told}");
    }
    assert!(compile(ToolChoice::Named("add".to_owned()), None).is_ok());
}

#[test]
fn demanded_calls_are_calls() {
    let schema = json!({"type": "object", "required": ["city"], "additionalProperties": false,
        "properties": {"city": {"enum": ["Rome", "Köln"]}}});
    let tools = json!([
        {"type": "function", "function": {"name": "weather", "parameters": schema}},
        {"type": "function", "function": {"name": "weather_now"}},
    ]);
    let tools = Tools::read(tools.as_array().unwrap().clone()).unwrap();
    let model = Random::new("llama", TOKENIZERS[0].1);
    let compiler = model.compiler();
    let named = ToolChoice::Named("weather".to_owned());
    for format in [CallFormat::Tagged, CallFormat::Parameters, CallFormat::Arguments] {
        for (choice, parallel) in [(&ToolChoice::Required, true), (&named, true), (&named, false)] {
            let grammar = tools.grammar(format, choice, parallel, None).unwrap().unwrap();
            let form = compiler.compile(&grammar).unwrap();
            let mut seen = 0;
            for seed in 0..20 {
                let (text, finish, _) = model.generate(Some(form.begin()), 1.0, seed, MOST);
                if finish == Finish::Length {
                    continue;
                }
                let mut answer = trilobite_structured::Answer::new(false).with_calls(
                    format,
                    tools.clone(),
                    true,
                );
                let mut pieces = answer.push(&text);
                pieces.extend(answer.finish());
                assert!(!pieces.is_empty() && (parallel || pieces.len() == 1), "{text}");
                for piece in pieces {
                    let trilobite_structured::Piece::Call(call) = piece else { panic!("{text}") };
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    if *choice == named || call.name == "weather" {
                        assert_eq!(call.name, "weather");
                        assert!(["Rome", "Köln"].contains(&arguments["city"].as_str().unwrap()));
                    }
                }
                seen += 1;
            }
            assert!(seen > 3, "{format:?} {choice:?}: {seen}");
        }
    }
    let none = ToolChoice::Named("storm".to_owned());
    let error = tools.grammar(CallFormat::Tagged, &none, true, None).unwrap_err();
    assert_eq!(error.to_string(), "there is no function \"storm\" among the tools");
    // If no call is required, JSON of the schema is a valid answer, too.
    let schema = json!({"const": "sunny"});
    let either = tools.grammar(CallFormat::Tagged, &ToolChoice::Auto, true, Some(&schema));
    let form = compiler.compile(&either.unwrap().unwrap()).unwrap();
    let texts: Vec<String> =
        (0..30).map(|seed| model.generate(Some(form.begin()), 1.0, seed, MOST).0).collect();
    assert!(texts.iter().any(|text| text == "\"sunny\""), "{texts:?}");
    assert!(texts.iter().any(|text| text.starts_with("<tool_call>\n{\"name\": \"weather")));
}

#[test]
fn the_arguments_of_calls_are_objects() {
    let model = Random::new("llama", TOKENIZERS[0].1);
    let compiler = model.compiler();
    let grammar = |parameters: Value| {
        let function = json!({"name": "a", "parameters": parameters});
        let tools = Tools::read(vec![json!({"type": "function", "function": function})]).unwrap();
        tools.grammar(CallFormat::Arguments, &ToolChoice::Required, false, None).unwrap().unwrap()
    };
    let empty = json!({"type": "object", "maxProperties": 0});
    for parameters in [
        json!({"maxProperties": 0}),
        json!({"description": "none", "properties": {}, "additionalProperties": false}),
        json!({"type": ["object", "null"], "maxProperties": 0}),
        json!({"anyOf": [empty, {"type": "integer"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": ["object", "null"], "maxProperties": 0}}}),
    ] {
        let form = compiler.compile(&grammar(parameters.clone())).unwrap();
        for seed in 0..4 {
            let (text, finish, _) = model.generate(Some(form.begin()), 1.0, seed, MOST);
            assert_eq!(finish, Finish::EndOfText, "{parameters}: {text:?}");
            let call: Value = serde_json::from_str(&text).expect(&text);
            assert_eq!(call["arguments"], json!({}), "{parameters}");
        }
    }
    // Any object fits an empty schema.
    let form = compiler.compile(&grammar(json!({}))).unwrap();
    let (text, ..) = model.generate(Some(form.begin()), 1.0, 1, 40);
    assert!(text.starts_with("{\"name\": \"a\", \"arguments\": {"), "{text}");
    for none in [json!({"enum": [1, "a"]}), json!({"anyOf": [{"type": "string"}]})] {
        assert!(matches!(compiler.compile(&grammar(none)), Err(Error::Grammar { .. })));
    }
}

#[test]
fn reasoning_ends_within_its_budget_and_then_has_a_form() {
    for (name, ends) in TOKENIZERS {
        let model = Random::new(name, ends);
        let compiler = model.compiler();
        let form = compiler.compile(&Grammar::Schema(json!({"const": {"a": 1}}))).unwrap();
        for (seed, budget) in [(1, 0), (2, 1), (3, 7), (4, 30)] {
            let constraint = compiler.with_reasoning(Some(&form), true, Some(budget));
            let (text, finish, tokens) = model.generate(constraint, 1.0, seed, MOST);
            let (reasoning, rest) = text.split_once("</think>").unwrap();
            assert_eq!(finish, Finish::EndOfText, "{text}");
            assert_eq!(serde_json::from_str::<Value>(rest).unwrap(), json!({"a": 1}), "{text}");
            assert!(tokens < budget + 200, "{tokens}: {reasoning}");
            assert_eq!(reasoning.is_empty() || reasoning.trim().is_empty(), budget == 0, "{text}");
        }
        // Without a constraint the answer continues freely.
        let constraint = compiler.with_reasoning(None, true, Some(2));
        let (text, _, _) = model.generate(constraint, 1.0, 9, 60);
        assert_eq!(text.matches("</think>").count(), 1, "{text}");
        assert!(compiler.with_reasoning(None, true, None).is_none());
    }
}
