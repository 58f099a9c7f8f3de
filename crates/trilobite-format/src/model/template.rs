//! The chat template that stands in for a wrong one.

/// What microsoft/bitnet-b1.58-2B-4T's tokenizer_config.json has. The beginning-of-text token comes
/// from the tokenizer.
pub const BITNET_TEMPLATE: &str = "{% for message in messages %}{{ message['role'] | capitalize + ': ' + \
                                   message['content'] | trim + '<|eot_id|>' }}{% endfor %}\
                                   {% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

/// What only the template of the GGUF file contains that Microsoft published beside that model. With
/// it the model does not stop.
const OUTDATED: &str = "BITNETAssistant";

/// The template to use in place of a file's own, where that is known to be wrong. A file without one
/// gets none: a base model is not made for chats.
pub fn template_instead(template: &str) -> Option<&'static str> {
    template.contains(OUTDATED).then_some(BITNET_TEMPLATE)
}
