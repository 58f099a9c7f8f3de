/// Why kernels or a layout could not be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `TRILOBITE_ISA` is not the name of an instruction set.
    #[error("TRILOBITE_ISA is {value:?}, which is not one of: {known}")]
    UnknownIsa {
        /// The value of the variable.
        value: String,
        /// The accepted values, separated by commas.
        known: String,
    },
    /// `TRILOBITE_ISA` names an instruction set that this machine or build lacks.
    #[error("TRILOBITE_ISA asks for {asked}, but this machine and build have only: {available}")]
    MissingIsa {
        /// The requested instruction set.
        asked: &'static str,
        /// The available instruction sets, separated by commas.
        available: String,
    },
    /// There is no layout of this name.
    #[error("no layout of ternary matrices is called {value:?}; there are: {known}")]
    UnknownLayout {
        /// The requested name.
        value: String,
        /// The known names, separated by commas.
        known: String,
    },
}
