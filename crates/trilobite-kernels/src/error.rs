/// Why kernels or a layout could not be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `TRILOBITE_ISA` is not the name of an instruction set of this machine and build.
    #[error("TRILOBITE_ISA is {value:?}, but this machine and build have: {available}")]
    MissingIsa {
        /// The value of the variable.
        value: String,
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
