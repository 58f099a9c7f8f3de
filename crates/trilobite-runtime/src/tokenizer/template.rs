//! The tokens added around every text.

use super::node::{Fault, Node};

/// The ids before and after a text.
#[derive(Default)]
pub(super) struct Template {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

/// Maximum number of ids that a template adds. Published ones add one or two.
const MAX_ADDED: usize = 256;

impl Template {
    /// The template of a post-processor. Ids are taken from it; the tokens it names are ignored.
    pub(super) fn read(node: &Node<'_>) -> Result<Self, Fault> {
        let mut all = Self::default();
        for step in node.steps("processors")? {
            let new = match step.kind()? {
                // It trims offsets of tokens in the text, which are not computed here.
                "ByteLevel" => continue,
                "BertProcessing" | "RobertaProcessing" => Self {
                    before: vec![pair_id(&step.need("cls")?)?],
                    after: vec![pair_id(&step.need("sep")?)?],
                },
                "TemplateProcessing" => Self::of_pieces(&step)?,
                _ => return Err(step.unknown_kind()),
            };
            let added = |template: &Self| template.before.len() + template.after.len();
            // The reference treats the tokens of the first step as texts of their own.
            if added(&all) > 0 && added(&new) > 0 {
                return Err(node.fault("adds tokens twice"));
            }
            if added(&new) > 0 {
                all = new;
            }
        }
        Ok(all)
    }

    /// The template for a single text, given as a list of pieces.
    fn of_pieces(step: &Node<'_>) -> Result<Self, Fault> {
        let single = step.need("single")?;
        let special = step.need("special_tokens")?;
        let mut template = Self::default();
        let mut texts = 0;
        for piece in single.list()? {
            if let Some(token) = piece.get("SpecialToken") {
                let id = token.need("id")?;
                let name = id.string()?;
                let Some(token) = special.get(name) else {
                    return Err(
                        id.fault(format!("is {name:?}, which special_tokens does not have"))
                    );
                };
                let ids = if texts == 0 { &mut template.before } else { &mut template.after };
                for id in token.need("ids")?.list()? {
                    ids.push(id.id()?);
                }
            } else {
                let id = piece.need("Sequence")?.need("id")?;
                if id.string()? != "A" {
                    return Err(id.fault("is not \"A\", but there is no second text"));
                }
                texts += 1;
            }
        }
        if texts != 1 {
            return Err(single.fault(format!("has the text {texts} times, expected once")));
        }
        if template.before.len() + template.after.len() > MAX_ADDED {
            return Err(single.fault(format!("adds more than {MAX_ADDED} tokens")));
        }
        Ok(template)
    }
}

/// The id in a pair such as `["[CLS]", 101]`.
fn pair_id(pair: &Node<'_>) -> Result<u32, Fault> {
    match &pair.list()?[..] {
        [text, id] => text.string().and_then(|_| id.id()),
        _ => Err(pair.fault("is no token with its id")),
    }
}
