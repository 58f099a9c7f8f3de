//! The arguments of a comparison.

use std::path::PathBuf;

/// Compares models and other engines by memory, speed and scores.
///
/// A MODEL is a name in models/models.toml (fetched if it is not stored), a GGUF file, a checkpoint
/// folder (converted first), or `tinystories`, the built-in model; NAME=MODEL names its row. The
/// default is the built-in model, its dense twin and all pulled models. models/models.lock pins
/// what is fetched.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Models
    #[arg(value_name = "MODEL")]
    pub(super) models: Vec<String>,
    /// The comparison of the technical report of BitNet b1.58 2B4T: its models on all items of its
    /// tasks
    #[arg(long, conflicts_with_all = ["synthetic", "rows"])]
    pub(super) published: bool,
    /// Memory and speed of the same models with random weights, without a network. MODEL then is
    /// any model of models/models.toml with a shape
    #[arg(long, conflicts_with_all = ["rows", "tasks", "data", "limit", "shuffle", "eval_args"])]
    pub(super) synthetic: bool,
    /// Rows, tests and goals from a file, such as benches/peers/2b4t.toml; speed only
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "peers", "tasks",
          "data", "limit", "shuffle", "eval_args", "prompt", "decode", "threads"])]
    pub(super) rows: Option<PathBuf>,
    /// Only the tests of --rows whose name contains this, such as tg64-2
    #[arg(long, value_name = "TEXT", requires = "rows")]
    pub(super) only: Option<String>,
    /// Another engine with its model; COMMAND accepts llama-bench's -p, -n, -t, -r and -o json
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    pub(super) peers: Vec<String>,
    /// Tasks to score [default: those of multiple choice; all 16 with --published]
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',')]
    pub(super) tasks: Option<Vec<String>>,
    /// Folder of the data sets [default: the folder of `trilobite pull --data`]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Only the first N items of each task; 0 is all [default: 100; all with --published]
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Put the items of a task in a random order first, so that --limit N selects a random subset
    #[arg(long, value_name = "SEED")]
    pub(super) shuffle: Option<u64>,
    /// More arguments of `trilobite eval`, such as --run-untrusted-code
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) eval_args: Option<String>,
    /// Text for the perplexity, which is checked first [default: models/tinystories/story.txt]
    #[arg(long, value_name = "FILE")]
    pub(super) text: Option<PathBuf>,
    /// Window length of the perplexity in tokens [default: 128 for the default text, else 512]
    #[arg(long, value_name = "N")]
    pub(super) ctx: Option<usize>,
    /// Prompt length for the prefill in tokens
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    pub(super) prompt: usize,
    /// Number of tokens to decode
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    pub(super) decode: usize,
    /// Number of interleaved rounds
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    pub(super) rounds: usize,
    /// Measure decoding by threads and by tokens in the context, and memory over time, too
    #[arg(long, conflicts_with = "rows")]
    pub(super) scaling: bool,
    /// Threads [default: all cores]
    #[arg(short, long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Folder of the report
    #[arg(short, long, value_name = "DIR", default_value = "target/compare")]
    pub(super) output: PathBuf,
    /// Folder to copy models from instead of fetching them
    #[arg(long, value_name = "DIR")]
    pub(super) from: Option<PathBuf>,
    /// Fetch nothing
    #[arg(long)]
    pub(super) no_fetch: bool,
    /// Command to put before every measured one, such as one that keeps the machine quiet
    #[arg(long, value_name = "COMMAND")]
    pub(super) wrap: Option<String>,
    /// The binary to use [default: a release build of this checkout]
    #[arg(long, value_name = "FILE")]
    pub(super) trilobite: Option<PathBuf>,
}

impl Args {
    /// The number of threads, by default the number of cores.
    pub(super) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores)
    }
}
