//! The conversation of a chat, and the part of it that fits in the context.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use trilobite_format::open_regular;
use trilobite_runtime::Message;

use crate::{input, output};

/// A conversation: a system message, then alternating messages of the user and answers.
#[derive(Default)]
pub(super) struct Conversation {
    system: Option<Message>,
    messages: Vec<Message>,
    /// Number of the oldest messages that no longer fit in the context.
    left_out: usize,
}

/// A prompt that fits in the context.
#[derive(Debug, PartialEq)]
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    /// Number of turns newly left out to make it fit.
    pub(super) dropped: usize,
}

/// The file format of a conversation.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(default)]
    model: Option<String>,
    messages: Vec<Message>,
}

impl Conversation {
    pub(super) fn new(system: Option<&str>) -> Self {
        let mut conversation = Self::default();
        conversation.set_system(system.unwrap_or_default());
        conversation
    }

    /// The text of the system message.
    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_ref().map(Message::text)
    }

    /// Replaces the system message. An empty text removes it.
    pub(super) fn set_system(&mut self, text: &str) {
        self.system = (!text.is_empty()).then(|| Message::new("system", text));
    }

    /// Removes all messages except the system message.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.left_out = 0;
    }

    pub(super) fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Removes and returns the last message.
    pub(super) fn pop(&mut self) -> Option<Message> {
        self.messages.pop()
    }

    /// Number of turns: messages of the user with their answers.
    pub(super) fn turns(&self) -> usize {
        self.messages.len().div_ceil(2)
    }

    /// Number of turns that are left out of the prompt.
    pub(super) fn turns_left_out(&self) -> usize {
        self.left_out / 2
    }

    /// The prompt of the last message. If the context has no room for an answer, the oldest turns
    /// are left out until a quarter of the context is free, since each time the rest of the
    /// conversation must be processed again.
    pub(super) fn prompt(
        &mut self,
        context: usize,
        mut encode: impl FnMut(&[Message]) -> Result<Vec<u32>>,
    ) -> Result<Prompt> {
        let mut prompt = |left_out: usize| {
            let messages = self.system.iter().chain(&self.messages[left_out..]);
            encode(&messages.cloned().collect::<Vec<_>>())
        };
        let ids = prompt(self.left_out)?;
        if ids.len() + context / 8 <= context {
            return Ok(Prompt { ids, dropped: 0 });
        }
        // Find the least number of turns by bisection: longer conversations have longer prompts.
        let (mut few, mut enough) = (self.left_out / 2, self.messages.len().saturating_sub(1) / 2);
        let mut found = None;
        while few < enough {
            let middle = few + (enough - few) / 2;
            let ids = prompt(2 * middle)?;
            match ids.len() <= context - context.div_ceil(4) {
                true => (enough, found) = (middle, Some(ids)),
                false => few = middle + 1,
            }
        }
        let ids = found.map_or_else(|| prompt(2 * enough), Ok)?;
        ensure!(
            ids.len() < context,
            "the message does not fit: with the system message it has {} tokens, and the context \
             holds {context}",
            ids.len()
        );
        let dropped = enough - self.left_out / 2;
        self.left_out = 2 * enough;
        Ok(Prompt { ids, dropped })
    }

    /// Writes the conversation to a file. An existing file is replaced only if it is a
    /// conversation.
    pub(super) fn save(&self, path: &Path, model: &str) -> Result<()> {
        if path.symlink_metadata().is_ok() && Self::load(path).is_err() {
            bail!("{}: the file exists and is no conversation", path.display());
        }
        let messages = self.system.iter().chain(&self.messages).cloned().collect();
        let saved = Saved { model: Some(model.to_owned()), messages };
        let text = serde_json::to_string_pretty(&saved)?;
        output::write_file(path, |file| Ok(writeln!(file, "{text}")?))
    }

    /// Reads a conversation from a file.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> { Self::parse(&input::text_from(open_regular(path)?)?) };
        read().with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let Saved { mut messages, .. } = serde_json::from_str(text)?;
        let system = match messages.first() {
            Some(first) if first.role() == "system" => Some(messages.remove(0)),
            _ => None,
        };
        let before = usize::from(system.is_some());
        for (index, message) in messages.iter().enumerate() {
            let (number, role) = (before + index + 1, ["user", "assistant"][index % 2]);
            let found = message.role();
            ensure!(found == role, "message {number} has the role {found:?}, expected {role:?}");
        }
        for (index, message) in system.iter().chain(&messages).enumerate() {
            let is_text = message.get("content").is_some_and(|content| content.is_string());
            ensure!(is_text, "message {} has no text as its content", index + 1);
        }
        ensure!(messages.len() % 2 == 0, "message {} has no answer", before + messages.len());
        Ok(Self { system, messages, left_out: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token for each byte of a message, and two for the beginning of the answer.
    fn bytes(messages: &[Message]) -> Result<Vec<u32>> {
        let text = messages.iter().flat_map(|message| message.text().bytes());
        Ok(text.chain([0, 0]).map(u32::from).collect())
    }

    /// Turns of ten bytes, and a last message of five.
    fn talk(system: Option<&str>, turns: usize) -> Conversation {
        let mut conversation = Conversation::new(system);
        for _ in 0..turns {
            conversation.push(Message::new("user", "12345"));
            conversation.push(Message::new("assistant", "12345"));
        }
        conversation.push(Message::new("user", "12345"));
        conversation
    }

    fn fit(conversation: &mut Conversation, context: usize) -> (usize, usize) {
        let prompt = conversation.prompt(context, bytes).unwrap();
        (prompt.ids.len(), prompt.dropped)
    }

    #[test]
    fn what_fits_is_kept() {
        assert_eq!(fit(&mut talk(None, 3), 43), (37, 0));
        assert_eq!(fit(&mut talk(Some("system"), 3), 50), (43, 0));
        assert_eq!(fit(&mut talk(None, 0), 9), (7, 0));
    }

    #[test]
    fn a_full_context_drops_whole_turns_and_keeps_the_system_message() {
        for turns in 1..20 {
            for context in 20..250 {
                let mut conversation = talk(Some("system"), turns);
                let (len, dropped) = fit(&mut conversation, context);
                let all = 10 * turns + 5 + 6 + 2;
                if dropped == 0 && turns > 0 && all + context / 8 <= context {
                    assert_eq!(len, all);
                    continue;
                }
                assert_eq!(len, all - 10 * dropped, "{turns} turns in {context}");
                let target = context - context.div_ceil(4);
                assert!(len <= target || dropped == turns, "{turns} turns in {context}");
                // No more turns are dropped than needed.
                assert!(dropped == 0 || len + 10 > target, "{turns} turns in {context}");
                assert_eq!(conversation.turns_left_out(), dropped);
                assert_eq!(conversation.turns(), turns + 1);
                // Dropped turns stay out.
                assert_eq!(fit(&mut conversation, context.max(len + context / 8)).0, len);
            }
        }
    }

    #[test]
    fn the_prompt_is_of_the_newest_messages() {
        let mut conversation = Conversation::new(Some("s"));
        for text in ["a", "bbbb", "c", "dddd", "e"] {
            let role = if text.len() == 1 { "user" } else { "assistant" };
            conversation.push(Message::new(role, text));
        }
        let ids = b"scdddde\0\0".map(u32::from).to_vec();
        assert_eq!(conversation.prompt(14, bytes).unwrap(), Prompt { ids, dropped: 1 });
    }

    #[test]
    fn a_message_that_does_not_fit_alone_changes_nothing() {
        let mut conversation = talk(None, 2);
        conversation.pop();
        conversation.push(Message::new("user", "x".repeat(100)));
        let said = conversation.prompt(64, bytes).unwrap_err().to_string();
        assert!(said.contains("it has 102 tokens, and the context holds 64"), "{said}");
        assert_eq!(conversation.turns_left_out(), 0);
        conversation.pop();
        conversation.push(Message::new("user", "short"));
        assert_eq!(fit(&mut conversation, 64), (27, 0));
    }

    #[test]
    fn a_conversation_is_saved_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        let mut conversation = talk(Some("Be \"brief\"."), 1);
        conversation.pop();
        conversation.save(&path, "a model").unwrap();
        let loaded = Conversation::load(&path).unwrap();
        assert_eq!(loaded.system(), Some("Be \"brief\"."));
        assert_eq!(loaded.messages, conversation.messages);
        // Saving again works, but replaces no other file.
        loaded.save(&path, "a model").unwrap();
        let notes = folder.path().join("notes.txt");
        std::fs::write(&notes, "mine").unwrap();
        let said = loaded.save(&notes, "a model").unwrap_err().to_string();
        assert!(said.ends_with("notes.txt: the file exists and is no conversation"), "{said}");
        assert_eq!(std::fs::read(&notes).unwrap(), b"mine");
        assert!(loaded.save(&folder.path().join("no/such"), "a model").is_err());
    }

    #[test]
    fn damaged_conversations_are_refused() {
        for (text, fault) in [
            ("", "EOF while parsing"),
            ("{\"messages\": [{\"role\": \"user\"", "EOF while parsing"),
            ("{}", "missing field `messages`"),
            ("{\"messages\": [1]}", "invalid type"),
            (r#"{"messages": [{"role": "assistant", "content": ""}]}"#, "message 1 has the role"),
            (r#"{"messages": [{"role": "user", "content": ""}]}"#, "message 1 has no answer"),
            (
                r#"{"messages": [{"role": "system", "content": ""}, {"content": ""}]}"#,
                "message 2 has the role \"\", expected \"user\"",
            ),
            (r#"{"messages": [{"role": "system"}]}"#, "message 1 has no text"),
            (r#"{"messages": [{"role": "system", "content": []}]}"#, "message 1 has no text"),
        ] {
            let said = format!("{:#}", Conversation::parse(text).err().unwrap());
            assert!(said.contains(fault), "{text}: {said}");
        }
        assert_eq!(Conversation::parse(r#"{"messages": []}"#).unwrap().turns(), 0);
    }
}
