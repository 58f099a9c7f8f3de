//! Where the time of a forward pass goes.

use std::time::{Duration, Instant};

/// A part of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking up tokens and angles.
    Embedding,
    /// Norms, and quantising the input of products.
    Normalise,
    /// The query, key and value projections.
    QueryKeyValue,
    /// Rotary embedding, and storing keys and values.
    Store,
    /// Attention over the cache.
    Attention,
    /// The output projection and its addition.
    Output,
    /// The gate and up projections and what is between them.
    GateUp,
    /// The down projection and its addition.
    Down,
    /// The scan of the coarse head.
    Scan,
    /// Exact logits.
    Head,
}

impl Stage {
    /// All, in the order of the pass.
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

    /// What it is called in a table.
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

/// What was spent on a stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// From its beginning to its end.
    pub time: Duration,
    /// The part of it that the caller's thread waited for others.
    pub waiting: Duration,
}

/// What was spent on every stage.
#[derive(Clone, Debug, Default)]
pub struct Profile([Spent; Stage::ALL.len()]);

impl Profile {
    /// What was spent on one stage.
    pub fn spent(&self, stage: Stage) -> Spent {
        self.0[stage as usize]
    }
}

/// A clock that gives its time to one stage after another.
pub(crate) struct Clock {
    last: Instant,
    pub(crate) profile: Profile,
}

impl Default for Clock {
    fn default() -> Self {
        Self { last: Instant::now(), profile: Profile::default() }
    }
}

impl Clock {
    /// Starts a lap.
    pub(crate) fn start(&mut self) {
        self.last = Instant::now();
    }

    /// Ends a lap, of which the caller's thread waited for others for some time, and starts the
    /// next.
    pub(crate) fn lap(&mut self, stage: Stage, waiting: Duration) {
        let spent = &mut self.profile.0[stage as usize];
        let now = Instant::now();
        spent.time += now - self.last;
        spent.waiting += waiting;
        self.last = now;
    }
}
