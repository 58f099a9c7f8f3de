//! The resources of a forward pass: kernels, threads, and a scratch for each thread.

use trilobite_kernels::Kernels;

use crate::error::{Error, Result};
use crate::profile::{Profile, Stage, Stopwatch};
use crate::scratch::{Live, Scratch};
use crate::team::Team;

/// The kernels of the machine and a team of threads with their scratch.
pub(crate) struct Workers {
    pub(crate) kernels: &'static Kernels,
    pub(crate) team: Team<Scratch>,
    clock: Option<Box<Stopwatch>>,
}

impl Workers {
    /// Starts `threads` threads. The scratch of each has room for `len` outputs of a product.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used, or a thread cannot be started.
    pub(crate) fn new(threads: usize, len: usize) -> Result<Self> {
        let kernels = Kernels::detect()?;
        let team = Team::new(threads, || Scratch::new(len));
        let team = team.map_err(|source| Error::Threads { threads, source })?;
        Ok(Self { kernels, team, clock: None })
    }

    /// Starts measuring the time of each stage, or stops and returns the measurement.
    pub(crate) fn measure(&mut self, on: bool) -> Option<Profile> {
        self.team.measure_waiting(on);
        let clock = std::mem::replace(&mut self.clock, on.then(Box::default));
        clock.map(|clock| clock.profile)
    }

    /// Starts a lap. The time since the last lap is not counted.
    pub(crate) fn start(&mut self) {
        if let Some(clock) = &mut self.clock {
            self.team.take_waiting();
            clock.start();
        }
    }

    /// Ends a lap and adds its time to a stage.
    pub(crate) fn lap(&mut self, stage: Stage) {
        if let Some(clock) = &mut self.clock {
            clock.lap(stage, self.team.take_waiting());
        }
    }

    /// Returns how much of the feed-forward networks was read since the last call.
    pub(crate) fn take_live(&mut self) -> Live {
        let mut live = Live::default();
        self.team.scratch().for_each(|scratch| live += scratch.take_live());
        live
    }
}
