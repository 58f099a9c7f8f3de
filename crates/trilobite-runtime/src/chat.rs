//! Chat templates, rendered as transformers renders them.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error as JinjaError, ErrorKind, Value, context};
use serde::Serialize;
use trilobite_format::Metadata;
use trilobite_format::model::special_id;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The template of microsoft/bitnet-b1.58-2B-4T's tokenizer. The GGUF file published beside it
/// carries an older one, which the model was not trained with.
const BITNET_2B_TEMPLATE: &str = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";
/// What only the outdated template contains.
const OUTDATED_BITNET_MARK: &str = "BITNETAssistant";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template.
pub struct ChatTemplate {
    source: String,
    bos_token: String,
    eos_token: String,
    replaced: bool,
}

impl ChatTemplate {
    /// The template that the file carries, if it carries one.
    ///
    /// # Errors
    /// A metadata value of the wrong type.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = metadata.str("tokenizer.chat_template")? else { return Ok(None) };
        let special = |name: &str| -> Result<String> {
            if let Some(token) = metadata.str(&format!("trilobite.{name}_token"))? {
                return Ok(token.to_owned());
            }
            let id = special_id(metadata, name)?;
            Ok(id.and_then(|id| tokenizer.token(id)).unwrap_or_default())
        };
        let replaced = source.contains(OUTDATED_BITNET_MARK);
        Ok(Some(Self {
            source: if replaced { BITNET_2B_TEMPLATE } else { source }.to_owned(),
            bos_token: special("bos")?,
            eos_token: special("eos")?,
            replaced,
        }))
    }

    /// The token ids of a conversation's prompt: a beginning-of-text token comes from the template
    /// or from the tokenizer, never from both.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        self.encode_begun(messages, "", tokenizer)
    }

    /// [`encode`](Self::encode) with the beginning of the answer, which the model continues.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode_begun(
        &self,
        messages: &[Message],
        answer: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let prompt = self.render(messages, true)? + answer;
        let begun = !self.bos_token.is_empty() && prompt.starts_with(&self.bos_token);
        tokenizer.encode(&prompt, !begun, true)
    }

    /// Whether the file's template is known to be wrong and was replaced by the right one.
    pub fn replaced(&self) -> bool {
        self.replaced
    }

    /// The prompt of a conversation. Its special tokens are written out, so it must be tokenized
    /// with special tokens parsed and none added.
    ///
    /// # Errors
    /// The template is malformed or refuses these messages.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        // The settings of transformers' `apply_chat_template`.
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|error| Error::Template(error.to_string()))?);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        env.add_filter("tojson", to_json);
        env.render_str(
            &self.source,
            context! {
                messages => Value::from(Serde(messages)),
                add_generation_prompt,
                bos_token => &self.bos_token,
                eos_token => &self.eos_token,
                tools => (),
                documents => (),
            },
        )
        .map_err(|error| Error::Template(error.to_string()))
    }
}

/// `tojson` as transformers defines it: JSON as Python writes it, no escapes for HTML.
fn to_json(value: Value) -> std::result::Result<String, JinjaError> {
    let mut out = Vec::new();
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonJson))
        .map_err(|error| JinjaError::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A blank after every comma and colon.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conversations as transformers renders them, by `models/golden/chat_templates.py`.
    const CASES: &str = include_str!("../../../models/golden/chat_templates.json");

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        template: String,
        messages: Vec<Message>,
        add_generation_prompt: bool,
        rendered: Option<String>,
    }

    #[test]
    fn templates_render_as_in_transformers() {
        let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let template = ChatTemplate {
                source: case.template,
                bos_token: "<s>".into(),
                eos_token: "</s>".into(),
                replaced: false,
            };
            let rendered = template.render(&case.messages, case.add_generation_prompt).ok();
            assert_eq!(rendered, case.rendered, "{} {:?}", case.name, case.messages);
        }
    }

    #[test]
    fn refusals_carry_the_template_s_words() {
        let template = ChatTemplate {
            source: "{{ raise_exception('no system role') }}".into(),
            bos_token: String::new(),
            eos_token: String::new(),
            replaced: false,
        };
        let error = template.render(&[], true).unwrap_err().to_string();
        assert!(error.contains("no system role"), "{error}");
    }
}
