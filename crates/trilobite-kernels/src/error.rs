/// Why no kernels can be had, or a name stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `TRILOBITE_ISA` names no instruction set.
    #[error("TRILOBITE_ISA is {value:?}, which is not one of: {known}")]
    UnknownIsa {
        /// The variable's value.
        value: String,
        /// The accepted values, separated by commas.
        known: String,
    },
    /// `TRILOBITE_ISA` names an instruction set that this machine lacks, or the build.
    #[error("TRILOBITE_ISA asks for {asked}, but this machine and build have only: {available}")]
    MissingIsa {
        /// The instruction set asked for.
        asked: &'static str,
        /// The instruction sets that would do, separated by commas.
        available: String,
    },
    /// No layout has this name.
    #[error("no layout of ternary matrices is called {value:?}; there are: {known}")]
    UnknownLayout {
        /// The name.
        value: String,
        /// The names that there are, separated by commas.
        known: String,
    },
}
