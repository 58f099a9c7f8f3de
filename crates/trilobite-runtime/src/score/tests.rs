use std::path::Path;
use std::sync::Arc;

use trilobite_convert::{Checkpoint, Layout, Options, convert, ignore_progress};

use super::*;
use crate::cache::CacheType;
use crate::forward::SessionOptions;

/// Ternary and dense models, two of them with sliding windows shorter than the texts.
const MODELS: [&str; 7] =
    ["bitnet_online", "llama_bitnet", "llama", "gemma3", "qwen2", "qwen3", "maple"];

/// Length of the sessions' context: long enough for the attention of a few tokens to be divided by
/// positions.
const CONTEXT: usize = 320;

fn model(name: &str) -> Arc<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
    let options = Options { layout: Layout::Auto, ..Options::default() };
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, &options, &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

fn scorer(model: &Arc<Model>, (threads, batch): (usize, usize), cache: CacheType) -> Scorer {
    let options =
        SessionOptions { threads, context: CONTEXT, batch, cache, ..SessionOptions::default() };
    Scorer::new(Session::new(Arc::clone(model), options).unwrap())
}

/// Distinct ids, by a linear congruence.
fn ids(model: &Model, seed: usize, count: usize) -> Vec<u32> {
    let vocab = model.config().vocab;
    (0..count).map(|i| ((seed * 7919 + i * 104_729 + 17) % vocab) as u32).collect()
}

/// Questions, each a list of requests: continuations of one context, alternative contexts of one
/// continuation, neither, and texts that do not fit.
fn questions(model: &Model) -> Vec<Vec<Request>> {
    let ids = |seed, count| ids(model, seed, count);
    let after = |context: &[u32], continuations: &[Vec<u32>]| {
        let request = |c: &Vec<u32>| Request { context: context.to_vec(), continuation: c.clone() };
        continuations.iter().map(request).collect::<Vec<_>>()
    };
    let header = ids(1, 19);
    let context = [&header[..], &ids(2, 6)].concat();
    let single = [ids(3, 1), ids(4, 1), ids(5, 1), ids(6, 1)];
    let several = [ids(3, 5), ids(4, 11), [ids(4, 2), ids(5, 3)].concat(), ids(6, 1), ids(4, 11)];
    let option = |seed: usize, len: usize| Request {
        context: [&header[..], &ids(seed, len)].concat(),
        continuation: ids(9, 7),
    };
    let foreign = |seed: usize| Request { context: ids(seed, 3), continuation: ids(seed + 1, 4) };
    vec![
        after(&context, &single),
        after(&context, &several),
        after(&[&header[..], &ids(7, 9)].concat(), &several),
        vec![option(10, 2), option(11, 4)],
        vec![foreign(20), foreign(30)],
        after(&ids(12, 290), &several),
        after(&ids(12, CONTEXT + 20), &several),
        after(&context[..1], &single),
        vec![option(10, 2)],
    ]
}

#[test]
fn branches_score_as_if_alone() {
    for name in MODELS {
        let model = model(name);
        let questions = questions(&model);
        let whole: Vec<Vec<Score>> = questions
            .iter()
            .map(|requests| scorer(&model, (1, 256), CacheType::F32).score_whole(requests).unwrap())
            .collect();
        // No two continuations are equally likely, so swapped results would be noticed.
        assert!(whole[1][0].logprob != whole[1][1].logprob && whole[1][1] == whole[1][4]);
        for setting in [(1, 256), (2, 16), (3, 7), (2, 1)] {
            let mut scorer = scorer(&model, setting, CacheType::F32);
            for (requests, whole) in questions.iter().zip(&whole) {
                assert_eq!(scorer.score_all(requests).unwrap(), *whole, "{name} {setting:?}");
            }
        }
        for cache in [CacheType::F16, CacheType::Q8] {
            for requests in [&questions[1], &questions[5]] {
                let whole = scorer(&model, (1, 256), cache).score_whole(requests).unwrap();
                let found = scorer(&model, (2, 256), cache).score_all(requests).unwrap();
                assert_eq!(found, whole, "{name} {cache:?}");
            }
        }
    }
}

/// The common prefix of all texts stays in the session.
#[test]
fn a_session_keeps_the_trunk() {
    let model = model("gemma3");
    let mut scorer = scorer(&model, (2, 8), CacheType::F32);
    let questions = questions(&model);
    scorer.score_all(&questions[1]).unwrap();
    assert_eq!(scorer.session().tokens(), questions[1][0].context);
}

#[test]
fn faulty_requests_are_refused() {
    let model = model("bitnet_online");
    let mut scorer = scorer(&model, (1, 8), CacheType::F32);
    let vocab = model.config().vocab as u32;
    let mut fail = |context: &[u32], continuation: &[u32]| {
        let good = Request { context: vec![1, 2], continuation: vec![3, 4] };
        let bad = Request { context: context.to_vec(), continuation: continuation.to_vec() };
        scorer.score_all(&[good, bad]).unwrap_err()
    };
    assert!(matches!(fail(&[], &[1]), Error::EmptyPrompt));
    assert!(matches!(fail(&[1], &[]), Error::EmptyPrompt));
    assert!(matches!(fail(&[1], &[1; CONTEXT + 1]), Error::Context { needed: 321, context: 320 }));
    assert!(matches!(fail(&[vocab], &[1]), Error::TokenId { id, .. } if id == vocab));
    // The last token is predicted and not processed.
    assert!(matches!(fail(&[1], &[vocab]), Error::TokenId { id, .. } if id == vocab));
    assert!(scorer.score_all(&[]).unwrap().is_empty());
}

/// Context and continuation are tokenized together and split after the number of the context's
/// tokens. Spaces at the context's end belong to the continuation.
#[test]
fn texts_are_tokenized_together() {
    for name in MODELS {
        let model = model(name);
        let tokenizer = model.tokenizer().unwrap();
        let first = tokenizer.encode("", true, false).unwrap();
        for bos in [true, false] {
            let ids = |text: &str| tokenizer.encode(text, bos, false).unwrap();
            let encode = |context, continuation| {
                Request::encode(&model, context, continuation, bos).unwrap()
            };
            for (context, continuation, head) in [
                ("The cat sat", " on the mat", "The cat sat"),
                ("The cat sat  ", "on the mat", "The cat sat"),
                ("Question: why?\nAnswer:", " Because", "Question: why?\nAnswer:"),
            ] {
                let request = encode(context, continuation);
                let whole = ids(&format!("{context}{continuation}"));
                assert_eq!(request.context, whole[..ids(head).len()], "{name}");
                assert_eq!(request.continuation, whole[ids(head).len()..], "{name}");
                // Once, and only on request.
                let begins = !first.is_empty() && request.context.starts_with(&first);
                assert_eq!(begins, bos && !first.is_empty(), "{name}");
                assert!(!begins || !request.context[first.len()..].starts_with(&first));
            }
            let prefix = prefix_token(&model).unwrap();
            let empty = encode("", "The cat");
            assert_eq!(empty.context, [prefix.unwrap()], "{name}");
            assert_eq!(empty.continuation, tokenizer.encode("The cat", false, false).unwrap());
        }
        let nothing = Request::encode(&model, "The cat", "", true);
        assert!(matches!(nothing, Err(Error::EmptyContinuation { .. })), "{name}");
    }
}

/// Names of special tokens in a text become these tokens, and a text that begins with the name of
/// the first token gets no second one. Expected values: what lm-evaluation-harness's `HFLM`
/// encodes.
#[test]
fn special_tokens_in_texts_are_themselves() {
    for name in MODELS {
        let model = model(name);
        let tokenizer = model.tokenizer().unwrap();
        let prefix = prefix_token(&model).unwrap().unwrap();
        let begin = tokenizer.token(prefix).unwrap();
        let plain = |text: &str| tokenizer.encode(text, false, false).unwrap();
        let adds = tokenizer.encode("", true, false).unwrap();
        for bos in [true, false] {
            let request = |context: &str, continuation: &str| {
                Request::encode(&model, context, continuation, bos).unwrap()
            };
            let begun = request(&format!("{begin}The cat"), " sat");
            assert_eq!(begun.context[0], prefix, "{name}");
            assert_ne!(begun.context[1], prefix, "{name}");
            let within = request(&format!("The cat{begin}"), " sat");
            let first = if bos { &adds[..] } else { &[] };
            assert_eq!(within.context, [first, &plain("The cat"), &[prefix]].concat(), "{name}");
            // An empty context becomes the first token, unless the text begins with it.
            let empty = request("", &format!("{begin}The cat"));
            assert_eq!(empty.context, [prefix], "{name}");
            assert!(!empty.continuation.contains(&prefix), "{name}");
        }
    }
}

/// The first token is the tokenizer's beginning-of-text token, or else its end-of-text token,
/// whatever config.json says.
#[test]
fn the_prefix_is_the_tokenizers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/llama_bitnet");
    let names = ["<|begin_of_text|>", "<|end_of_text|>"];
    let prefix = |bos: Option<&str>, eos: Option<&str>| {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if path.ends_with("tokenizer_config.json") {
                let mut config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                config["bos_token"] = bos.into();
                config["eos_token"] = eos.into();
                bytes = config.to_string().into_bytes();
            }
            files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), bytes.into()));
        }
        let mut file = Vec::new();
        let checkpoint = Checkpoint::from_files(files).unwrap();
        convert(&checkpoint, &Options::default(), &mut file, &mut ignore_progress).unwrap();
        let model = Model::from_bytes(file).unwrap();
        let id = prefix_token(&model).unwrap().unwrap();
        model.tokenizer().unwrap().token(id).unwrap()
    };
    assert_eq!(prefix(Some(names[0]), Some(names[1])), names[0]);
    assert_eq!(prefix(Some(names[1]), Some(names[0])), names[1]);
    assert_eq!(prefix(None, Some(names[1])), names[1]);
    // The tokenizer names no token, so the model's is used.
    assert_eq!(prefix(None, None), names[0]);
}

/// If the tokens do not fit, the earliest are dropped.
#[test]
fn long_contexts_lose_their_beginning() {
    let model = model("bitnet_online");
    let continuation = ids(&model, 2, 4);
    let long = ids(&model, 1, CONTEXT + 30);
    // The last token is predicted and not processed, so one more fits.
    let kept = long[long.len() - (CONTEXT - 3)..].to_vec();
    let score = |context: Vec<u32>| {
        let request = Request { context, continuation: continuation.clone() };
        scorer(&model, (2, 64), CacheType::F32).score(&request).unwrap()
    };
    assert_eq!(score(long), score(kept));
}
