//! The command line: one command and the global arguments.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::args::{Bench, Eval, Global, Inspect, Logits, Perplexity, Run, Score, Tokenize};
use crate::commands::convert::Convert;
use crate::commands::embed::Embed;
use crate::commands::pull::Pull;
use crate::commands::serve::Serve;
use crate::commands::stored::{List, Rm, Show};
use crate::commands::tune::Tune;
use crate::commands::verify::Verify;

/// Run, convert and measure 1.58-bit language models on ordinary CPUs.
#[derive(Parser)]
#[command(
    name = "trilobite",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  trilobite run -p \"Once upon a time\" --echo        the built-in model continues a story
  trilobite convert bitnet-b1.58-2B-4T/ -o 2b.gguf  a Hugging Face folder to one packed file
  trilobite run 2b.gguf                             a chat on the terminal

MODEL is a GGUF file, a Hugging Face checkpoint folder or the name of a pulled model. Without it, the \
built-in model is used. Case and punctuation of names do not matter; OWNER/REPOSITORY may be shortened \
to REPOSITORY. A checkpoint folder of 16 MiB or more is converted once, into the cache; to the layout \
that `trilobite tune` recorded, if there is one.

The environment variable TRILOBITE_ISA selects a lower instruction set: scalar, avx2, avxvnni or \
avx512vnni on x86-64, scalar, neon or dotprod on 64-bit ARM; with the feature c-kernels also c, and \
i8mm on 64-bit ARM."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

// Only the arguments of the chosen command are built: the help of `eval` reads the definitions of all tasks.
#[derive(Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Generate text, or chat on a terminal
    Run(Run),
    /// Convert a Hugging Face checkpoint or a foreign GGUF file to a packed GGUF file
    Convert(Convert),
    /// Show the contents of a model file
    Inspect(Inspect),
    /// Write the logits after every token to a .npy file
    Logits(Logits),
    /// Convert text to token ids and back
    Tokenize(Tokenize),
    /// Compute log-likelihoods of continuations, one per line of a JSON Lines file
    Score(Score),
    /// Measure the perplexity of a text
    Perplexity(Perplexity),
    /// Compute embeddings of texts
    Embed(Embed),
    /// Measure speed, memory use and the fraction of the memory bandwidth reached
    Bench(Bench),
    /// Find the fastest layout of ternary weights on this machine, and record it
    Tune(Tune),
    /// Run benchmark tasks
    Eval(Eval),
    /// Prove on this machine that a model computes what its reference computes
    Verify(Verify),
    /// Serve models by HTTP in OpenAI's protocol
    Serve(Serve),
    /// Fetch models and data sets, verified and resumable
    Pull(Pull),
    /// List pulled models and converted checkpoints
    List(List),
    /// Show the files of a pulled model and their sources
    Show(Show),
    /// Remove pulled models and converted checkpoints
    Rm(Rm),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  trilobite completions bash > /etc/bash_completion.d/trilobite"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(after_help = "Example:\n  trilobite man -o /usr/local/share/man/man1")]
    Man {
        /// Folder for the pages
        #[arg(short = 'o', long = "output", value_name = "DIR")]
        dir: PathBuf,
    },
}

impl Command {
    /// The model of a command that runs one.
    pub(crate) fn model(&self) -> Option<&Path> {
        let model = match self {
            Self::Run(Run { model, .. })
            | Self::Inspect(Inspect { model, .. })
            | Self::Logits(Logits { model, .. })
            | Self::Score(Score { model, .. })
            | Self::Perplexity(Perplexity { model, .. })
            | Self::Embed(Embed { model, .. })
            | Self::Bench(Bench { model, .. })
            | Self::Eval(Eval { model, .. }) => model,
            _ => return None,
        };
        model.model.as_deref()
    }
}
