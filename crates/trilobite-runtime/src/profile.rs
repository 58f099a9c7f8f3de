//! Time measurements of the stages of a forward pass.

use std::time::{Duration, Instant};

/// A stage of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Embedding lookup and the angles of the rotary embedding.
    Embedding,
    /// RMS norms, and quantisation of the inputs of products.
    Normalise,
    /// The query, key and value projections.
    QueryKeyValue,
    /// Rotary embedding, and writing keys and values to the cache.
    Store,
    /// Attention over the cache.
    Attention,
    /// The output projection and its addition to the residual stream.
    Output,
    /// The gate and up projections and the activation.
    GateUp,
    /// The down projection and its addition to the residual stream.
    Down,
    /// The scan of the coarse copy of the head.
    Scan,
    /// Exact logits of the head.
    Head,
}

impl Stage {
    /// All stages, in the order of the pass.
    pub const ALL: [Stage; 10] = [
        Stage::Embedding,
        Stage::Normalise,
        Stage::QueryKeyValue,
        Stage::Store,
        Stage::Attention,
        Stage::Output,
        Stage::GateUp,
        Stage::Down,
        Stage::Scan,
        Stage::Head,
    ];

    /// The name of the stage in a table.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Embedding => "embedding",
            Stage::Normalise => "norm + quantise",
            Stage::QueryKeyValue => "q, k, v",
            Stage::Store => "rope + cache",
            Stage::Attention => "attention",
            Stage::Output => "o + add",
            Stage::GateUp => "gate, up, activation",
            Stage::Down => "down + add",
            Stage::Scan => "head scan",
            Stage::Head => "head exact",
        }
    }
}

/// The time of one stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Wall-clock time of the stage.
    pub time: Duration,
    /// The part of it in which the caller's thread waited for other threads.
    pub waiting: Duration,
}

/// The time of every stage.
#[derive(Clone, Debug, Default)]
pub struct Profile([Spent; Stage::ALL.len()]);

impl Profile {
    /// The time of one stage.
    pub fn spent(&self, stage: Stage) -> Spent {
        self.0[stage as usize]
    }
}

/// A stopwatch that assigns the time of each lap to a stage.
pub(crate) struct Stopwatch {
    last: Instant,
    pub(crate) profile: Profile,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { last: Instant::now(), profile: Profile::default() }
    }
}

impl Stopwatch {
    /// Starts a lap.
    pub(crate) fn start(&mut self) {
        self.last = Instant::now();
    }

    /// Ends a lap and starts the next. Adds the lap's time to `stage`, with the time that the
    /// caller's thread was `waiting` for others.
    pub(crate) fn lap(&mut self, stage: Stage, waiting: Duration) {
        let spent = &mut self.profile.0[stage as usize];
        let now = Instant::now();
        spent.time += now - self.last;
        spent.waiting += waiting;
        self.last = now;
    }
}
