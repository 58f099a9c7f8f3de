//! One module per command.

pub(crate) mod bench;
mod chat;
pub(crate) mod convert;
pub(crate) mod embed;
pub(crate) mod eval;
mod generator;
pub(crate) mod inspect;
pub(crate) mod logits;
pub(crate) mod manual;
mod npy;
pub(crate) mod perplexity;
pub(crate) mod pull;
pub(crate) mod run;
mod sampling;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod stored;
mod template;
pub(crate) mod tokenize;
pub(crate) mod tune;
pub(crate) mod verify;
