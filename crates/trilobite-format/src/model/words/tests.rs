use std::collections::HashSet;

use super::*;

#[test]
fn every_name_means_one_way_and_the_usual_way_of_an_expression_comes_first() {
    let mut seen = HashSet::new();
    for words in Words::ALL {
        for name in words.names {
            assert!(seen.insert(name), "{name} twice");
            assert_eq!(Words::named(name), Some(words));
        }
    }
    assert_eq!(Words::by(LLAMA_3), Some(Words::LLAMA_3));
    assert_eq!(Words::by(QWEN_2).map(Words::name), Some("qwen2"));
    assert_eq!(Words::by(GPT_2), Some(Words::GPT_2));
    assert_eq!(Words::DEFAULT.name(), "default");
    assert_eq!(Words::DIGITS.name(), "smollm");
    assert_eq!(Words::by("."), None);
}

#[test]
fn llama_3s_special_tokens_show_its_words() {
    assert_eq!(Words::marked(|token| token == "<|begin_of_text|>"), Some(Words::LLAMA_3));
    assert_eq!(Words::marked(|token| token == "<|eot_id|>"), Some(Words::LLAMA_3));
    assert_eq!(Words::marked(|token| token == "<|endoftext|>"), None);
}
