//! What a forward pass runs on: kernels, threads, and a scratch for each thread.

use trilobite_kernels::Kernels;

use crate::error::{Error, Result};
use crate::ops::{Live, Scratch};
use crate::profile::{Clock, Profile, Stage};
use crate::team::Team;

/// The kernels of the machine and a team of threads with their scratch.
pub(crate) struct Workers {
    pub(crate) kernels: &'static Kernels,
    pub(crate) team: Team<Scratch>,
    clock: Option<Box<Clock>>,
}

impl Workers {
    /// `threads` threads, with room for `len` outputs of a product in the scratch of each.
    ///
    /// # Errors
    /// `TRILOBITE_ISA` names an instruction set that cannot be used, or the system has too few threads.
    pub(crate) fn new(threads: usize, len: usize) -> Result<Self> {
        let kernels = Kernels::detect()?;
        let team = Team::new(threads, || Scratch::new(len));
        let team = team.map_err(|source| Error::Threads { threads, source })?;
        Ok(Self { kernels, team, clock: None })
    }

    /// Starts to measure where the time goes, or stops and returns what was measured.
    pub(crate) fn measure(&mut self, on: bool) -> Option<Profile> {
        self.team.measure_waiting(on);
        let clock = std::mem::replace(&mut self.clock, on.then(Box::default));
        clock.map(|clock| clock.profile)
    }

    /// Starts a lap: the time since the last one does not count.
    pub(crate) fn start(&mut self) {
        if let Some(clock) = &mut self.clock {
            self.team.take_waiting();
            clock.start();
        }
    }

    /// Counts the time since the last lap for a stage.
    pub(crate) fn lap(&mut self, stage: Stage) {
        if let Some(clock) = &mut self.clock {
            clock.lap(stage, self.team.take_waiting());
        }
    }

    /// What was read of the feed-forward networks since the last call.
    pub(crate) fn take_live(&mut self) -> Live {
        let mut live = Live::default();
        self.team.scratch().for_each(|scratch| live += scratch.take_live());
        live
    }
}
