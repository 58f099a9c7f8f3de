//! The replacement for a known wrong chat template.

/// The chat template in the tokenizer_config.json of microsoft/bitnet-b1.58-2B-4T. The tokenizer
/// adds the beginning-of-text token.
pub const BITNET_TEMPLATE: &str = "{% for message in messages %}{{ message['role'] | capitalize + ': ' + \
                                   message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
                                   {% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// A text that occurs only in the template of the GGUF file that Microsoft published with that
/// model. With that template the model does not stop.
const OUTDATED: &str = "BITNETAssistant";

/// The replacement for a file's own template if that is known to be wrong. A file without a
/// template gets none: a base model is not made for chats.
pub fn template_instead(template: &str) -> Option<&'static str> {
    template.contains(OUTDATED).then_some(BITNET_TEMPLATE)
}
