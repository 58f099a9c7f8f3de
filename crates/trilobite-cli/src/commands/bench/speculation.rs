//! The gain and the cost of drafts.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use trilobite_runtime::{Drafter, Limits, Sampler, Sampling, Session, Speculation, generate};

use super::spread::{Spread, row};
use super::tokens::prompt;
use crate::args::Bench;

/// The drafts of a measurement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drafts {
    None,
    /// Every draft is right, as in repeated text.
    Right,
    /// No draft is right.
    Wrong,
    /// The drafts of a small model.
    Model,
}

/// A drafter of the known answer, or of wrong tokens.
struct Known {
    /// The prompt and the answer.
    text: Vec<u32>,
    right: bool,
}

impl Drafter for Known {
    fn draft(
        &mut self,
        text: &[u32],
        most: usize,
        drafts: &mut Vec<u32>,
    ) -> trilobite_runtime::Result<()> {
        let rest = self.text.get(text.len()..).unwrap_or_default().iter().take(most);
        drafts.extend(rest.map(|&id| match self.right {
            true => id,
            false => id.checked_sub(1).unwrap_or(1),
        }));
        Ok(())
    }
}

/// The speeds of one thread count without drafts, with right ones and with wrong ones.
#[derive(Default)]
pub(super) struct Speeds {
    /// The prompt and the answer without drafts.
    text: Vec<u32>,
    none: Vec<f64>,
    right: Vec<f64>,
    wrong: Vec<f64>,
    model: Vec<f64>,
    /// Speculation by a small model.
    drafter: Option<Speculation>,
}

impl Speeds {
    /// Creates a measurement, including drafts of a small model if there is a `drafter`.
    pub(super) fn new(drafter: Option<Speculation>) -> Self {
        Self { drafter, ..Self::default() }
    }

    /// Measures a round. The first, a warm-up, does not count.
    pub(super) fn measure(
        &mut self,
        session: &mut Session,
        args: &Bench,
        round: usize,
    ) -> Result<()> {
        let all = [Drafts::None, Drafts::Right, Drafts::Wrong, Drafts::Model];
        for drafts in all {
            if drafts == Drafts::Model && self.drafter.is_none() {
                continue;
            }
            let speed = self.speed(session, args, drafts)?;
            if let Some(speed) = speed.filter(|_| round > 0) {
                match drafts {
                    Drafts::None => self.none.push(speed),
                    Drafts::Right => self.right.push(speed),
                    Drafts::Wrong => self.wrong.push(speed),
                    Drafts::Model => self.model.push(speed),
                }
            }
        }
        Ok(())
    }

    /// Speed of greedy decoding.
    fn speed(
        &mut self,
        session: &mut Session,
        args: &Bench,
        drafts: Drafts,
    ) -> Result<Option<f64>> {
        let prompt = prompt(session.model(), args.depth + 1);
        let known = |right| Speculation::new(Known { text: self.text.clone(), right });
        session.speculate(match drafts {
            Drafts::None => None,
            Drafts::Right => Some(known(true)),
            Drafts::Wrong => Some(known(false)),
            Drafts::Model => self.drafter.take(),
        });
        let mut sampler = Sampler::new(Sampling::default())?;
        let limits = Limits { max_tokens: Some(args.n), ..Limits::default() };
        let go_on = |_: u32, _: &str| ControlFlow::Continue(());
        let made = generate(session, None, &mut sampler, &prompt, &limits, go_on)?;
        let speculation = session.speculate(None);
        if drafts == Drafts::Model {
            self.drafter = speculation;
        }
        let text = [&prompt[..], &made.ids].concat();
        match drafts {
            Drafts::None => self.text = text,
            _ => ensure!(text == self.text, "drafts have changed the answer"),
        }
        Ok(made.decode_speed())
    }

    /// Rows of the table.
    pub(super) fn text(&self, threads: usize) -> String {
        let spread = |speeds: &Vec<f64>| Spread::of(speeds.clone());
        if self.none.is_empty() {
            return String::new();
        }
        let none = spread(&self.none);
        let change = |speed: &Spread| 100.0 * (speed.median / none.median - 1.0);
        let (right, wrong) = (spread(&self.right), spread(&self.wrong));
        let mut text = row(threads, "no drafts", &none)
            + &row(threads, "right drafts", &right)
            + &row(threads, "wrong drafts", &wrong)
            + &format!(
                "  drafts change the speed by {:+.1} % where all are right and ",
                change(&right)
            )
            + &format!("{:+.1} % where all are wrong\n", change(&wrong));
        if !self.model.is_empty() {
            text += &row(threads, "model's drafts", &spread(&self.model));
        }
        text
    }

    /// The speeds as JSON.
    pub(super) fn json(&self) -> Value {
        let spread =
            |speeds: &Vec<f64>| (!speeds.is_empty()).then(|| Spread::of(speeds.clone()).json());
        json!({
            "no_drafts": spread(&self.none),
            "right_drafts": spread(&self.right),
            "wrong_drafts": spread(&self.wrong),
            "model_drafts": spread(&self.model),
        })
    }
}
