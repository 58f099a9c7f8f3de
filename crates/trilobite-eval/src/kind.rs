//! The protocol for each kind of task.

use crate::choice::ChoiceProtocol;
use crate::conversation::ConversationProtocol;
use crate::generation::GenerationProtocol;
use crate::protocol::Protocol;
use crate::rolling::RollingProtocol;
use crate::task::{Kind, Task};

/// The protocol of a task.
pub(crate) fn protocol(task: &Task) -> Box<dyn Protocol + '_> {
    match &task.kind {
        Kind::Choice(definition) => Box::new(ChoiceProtocol { task, definition }),
        Kind::Rolling {} => Box::new(RollingProtocol { task }),
        Kind::Generation(definition) => Box::new(GenerationProtocol { task, definition }),
        Kind::Conversation(definition) => Box::new(ConversationProtocol { task, definition }),
    }
}
