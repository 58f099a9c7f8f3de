//! The arguments of commands, and those that they share.

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use trilobite_runtime::{Activations, CacheType, ChatTemplate};

use crate::form::FormArgs;
use crate::prompt_cache::PromptCacheArgs;
use crate::suggest;

#[derive(Args)]
pub(crate) struct Global {
    /// Print errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more details
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
}

/// A parser for the values of an option that a library defines, each with a description.
pub(crate) fn choice<T>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    summary: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync> + Copy + Send + Sync,
{
    let value = |value: &T| PossibleValue::new(name(*value)).help(summary(*value));
    PossibleValuesParser::new(all.iter().map(value)).try_map(|name| name.parse::<T>())
}

fn cache_types() -> impl TypedValueParser<Value = CacheType> {
    choice(CacheType::ALL, CacheType::name, CacheType::summary)
}

fn roundings() -> impl TypedValueParser<Value = Activations> {
    choice(Activations::ALL, Activations::name, Activations::summary)
}

/// A parser for whole numbers from `least` on.
pub(crate) fn at_least(least: usize) -> impl TypedValueParser<Value = usize> {
    move |text: &str| match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("expected a whole number of at least {least}")),
    }
}

/// A parser for finite numbers that fit, which `expected` describes.
fn number(expected: &'static str, fits: fn(f32) -> bool) -> impl TypedValueParser<Value = f32> {
    move |text: &str| {
        let number = text.parse().ok().filter(|&number: &f32| number.is_finite() && fits(number));
        number.ok_or_else(|| format!("expected {expected}"))
    }
}

/// A parser for numbers that are not negative.
fn zero_or_more() -> impl TypedValueParser<Value = f32> {
    number("0 or more", |number| number >= 0.0)
}

/// A parser for probabilities.
fn probability() -> impl TypedValueParser<Value = f32> {
    number("0 to 1", |number| (0.0..=1.0).contains(&number))
}

/// A parser for numbers of threads.
pub(crate) fn thread_count() -> impl TypedValueParser<Value = u16> {
    clap::value_parser!(u16).range(1..=1024)
}

/// A parser for names of benchmark tasks, and for paths of task files, which it does not open.
fn task_name() -> impl TypedValueParser<Value = String> {
    |name: &str| match is_task_file(name) {
        true => Ok(name.to_owned()),
        false => suggest::task(name).map(|_| name.to_owned()),
    }
}

/// A parser for names of benchmark tasks, and for `all`.
pub(crate) fn data_set() -> impl TypedValueParser<Value = String> {
    |name: &str| match name {
        "all" => Ok(name.to_owned()),
        _ => suggest::task(name).map(|_| name.to_owned()),
    }
}

/// Whether the name of a task is the path of its file: it ends in .toml or has a folder in it.
pub(crate) fn is_task_file(name: &str) -> bool {
    name.ends_with(".toml") || name.contains(std::path::is_separator)
}

// The threads of a command that computes in conversions only.
//
// With a doc comment, clap would replace the summary of the command by it.
#[derive(Args)]
pub(crate) struct Threads {
    /// Threads of a conversion [default: all cores]
    #[arg(short, long, value_parser = thread_count())]
    pub(crate) threads: Option<u16>,
}

impl Threads {
    /// Limits the threads of conversions, before the first one.
    pub(crate) fn limit_conversion(&self) -> Result<()> {
        Ok(trilobite_convert::start_threads(self.threads.map_or(0, usize::from))?)
    }
}

// Threads of a command that does not use them, so that scripts can give the option to any command.
//
// With a doc comment, clap would replace the summary of the command by it.
#[derive(Args)]
pub(crate) struct UnusedThreads {
    #[arg(id = "threads", short = 't', long, value_name = "THREADS", hide = true,
          value_parser = thread_count())]
    _threads: Option<u16>,
}

#[derive(Args)]
pub(crate) struct Model {
    /// GGUF file, Hugging Face folder or name of a pulled model [default: the built-in model]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Convert a checkpoint in memory instead of once into the cache
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Convert a GGUF file of ternary weights once, into the cache, to the layout that `trilobite
    /// tune` found or else the default one; results are the same. Checkpoints are always converted
    #[arg(long)]
    pub(crate) repack: bool,
}

#[derive(Args)]
pub(crate) struct Compute {
    /// Threads [default: all cores]
    #[arg(short, long, value_parser = thread_count())]
    pub(crate) threads: Option<u16>,
    /// Maximum number of tokens per forward pass; no result depends on it
    #[arg(long, value_name = "N", hide = true, default_value_t = trilobite_runtime::MAX_BATCH,
          value_parser = at_least(1))]
    pub(crate) batch: usize,
    /// Type of the key-value cache; f16 takes half the memory of f32, q8 a good quarter; both round
    #[arg(long, value_name = "TYPE", default_value_t, value_parser = cache_types())]
    pub(crate) kv: CacheType,
    /// Rounding of activations that are multiplied with weights in blocks (Q4_0, K-quants, Bonsai, Maple);
    /// int8 is faster and lossy
    #[arg(long, value_name = "HOW", default_value_t, value_parser = roundings())]
    pub(crate) activations: Activations,
    /// Read every weight and compute every logit, by multiply-add: slower, with the same results
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite run -p \"Once upon a time\" -n 120 --echo
  trilobite run model.gguf -p \"Why is the sky blue?\" --temp 0
  trilobite run base.gguf --chat-template chatml --system \"Be brief.\"
  trilobite run model.gguf --no-chat -p \"The sky is\" -n 16
  trilobite run model.gguf --tokens 1,2,3 -n 16 --ids

If the model has a chat template, the prompt is a message, which the model answers. A line end at the \
end of a file or of standard input is not part of the prompt. A chat with a model without sampling \
settings has a temperature of 0.7, top-k 40, top-p 0.95, min-p 0.05 and a loop penalty of 0.8: this \
is subtracted from the logit of a token that would extend a repetition of eight tokens within the \
answer, times 1.75 for each further repeated token. --temp 0 turns these defaults off; -v shows the \
settings in use.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) model: Model,
    /// The prompt [default: a chat on a terminal, else standard input]
    #[arg(short, long, value_name = "TEXT", group = "source", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// File with the prompt
    #[arg(long, value_name = "F", group = "source")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// The prompt as token ids, used literally
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "source")]
    pub(crate) tokens: Option<Vec<u32>>,
    /// Maximum number of tokens to generate [default: until the text ends or the context is full]
    #[arg(short, long = "n-predict", value_name = "N")]
    pub(crate) n: Option<usize>,
    /// Temperature; 0 is greedy [default: the model's, else 0.7 in a chat and 0 without]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = zero_or_more())]
    pub(crate) temp: Option<f32>,
    /// Keep the K most likely tokens; 0 keeps all [default: the model's, else 40 in a chat, 0
    /// without]
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Keep the most likely tokens that together reach this probability [default: the model's, else
    /// 0.95 in a chat and 1 without]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = probability())]
    pub(crate) top_p: Option<f32>,
    /// Keep tokens with at least this fraction of the most likely token's probability [default: the
    /// model's, else 0.05 in a chat and 0 without]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = probability())]
    pub(crate) min_p: Option<f32>,
    /// Penalty for tokens that already occur in the context [default: the model's, else 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true,
          value_parser = number("more than 0", |number| number > 0.0))]
    pub(crate) repeat_penalty: Option<f32>,
    /// Penalty for tokens that extend a repetition within the answer; 0 is none [default: the model's,
    /// else 0.8 in a chat with a model without settings of its own, else 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = zero_or_more())]
    pub(crate) loop_penalty: Option<f32>,
    /// Seed of the random number generator [default: a new one each time, printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Length of the context in tokens [default: the model's, at most 4096]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) ctx: Option<usize>,
    /// Apply a chat template to the prompt [default: if the model has one]
    #[arg(long, overrides_with = "no_chat")]
    pub(crate) chat: bool,
    /// Continue the prompt without a chat template
    #[arg(long, visible_alias = "raw", overrides_with = "chat")]
    pub(crate) no_chat: bool,
    /// System message of the chat
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "no_chat")]
    pub(crate) system: Option<String>,
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "no_chat", help = format!(
        "Jinja file of a chat template, or the name of a standard one: {} [default: the model's]",
        ChatTemplate::standard_names()
    ))]
    pub(crate) chat_template: Option<PathBuf>,
    /// Stop before this text (may be repeated)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// Print the prompt as well
    #[arg(long)]
    pub(crate) echo: bool,
    /// Do not stop at end-of-text tokens
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Print the generated token ids instead of their text
    #[arg(long)]
    pub(crate) ids: bool,
    /// Parse the names of special tokens in the prompt as these tokens
    #[arg(long)]
    pub(crate) parse_special: bool,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// Do not draft next tokens from the text so far; the answer is the same, but repeated text is
    /// slower
    #[arg(long)]
    pub(crate) no_speculate: bool,
    /// A small model with the same vocabulary that drafts next tokens; the answer is the same
    #[arg(long, value_name = "MODEL", conflicts_with = "no_speculate")]
    pub(crate) draft: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cache: PromptCacheArgs,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite inspect model.gguf
  trilobite inspect model.gguf --tensors -v         with the SHA-256 of each
  trilobite inspect model.gguf --json")]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) model: Model,
    /// List the tensors as well
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Args)]
#[command(after_help = "Example:\n  trilobite logits model.gguf --tokens 1,2,3 -o logits.npy")]
pub(crate) struct Logits {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Token ids, used literally
    #[arg(long, value_name = "IDS", value_delimiter = ',', required = true)]
    pub(crate) tokens: Vec<u32>,
    /// File for the f32 array [tokens, vocab]
    #[arg(short, long, value_name = "FILE.npy")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Args)]
#[command(group = ArgGroup::new("source").required(true), after_help = "\
Examples:
  trilobite tokenize model.gguf -p \"Hello, world\"
  trilobite tokenize tokenizer.json --decode 9906,11,1917")]
pub(crate) struct Tokenize {
    /// GGUF file, Hugging Face folder, tokenizer.json or name of a pulled model [default: the
    /// built-in model]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// A prompt (may be repeated)
    #[arg(short, long, value_name = "TEXT", group = "source", allow_hyphen_values = true)]
    pub(crate) prompt: Vec<String>,
    /// File with one prompt per line
    #[arg(long, value_name = "F", group = "source")]
    pub(crate) file: Option<PathBuf>,
    /// Token ids to decode
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "source")]
    pub(crate) decode: Option<Vec<u32>>,
    /// Add no special tokens when encoding; omit them when decoding
    #[arg(long)]
    pub(crate) no_special: bool,
    /// Parse the names of special tokens in the text as these tokens
    #[arg(long)]
    pub(crate) parse_special: bool,
    #[command(flatten)]
    pub(crate) threads: UnusedThreads,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  echo '{\"context\":\"The sky is\",\"continuation\":\" blue\"}' | trilobite score model.gguf

A line holds \"context\" and \"continuation\", or \"context_ids\" and \"continuation_ids\". Text is \
tokenized together, names of special tokens standing for these, and split by the number of the \
context's tokens; an empty context is the beginning-of-text token. Each line is written with \
\"logprob\" (natural), \"greedy\", \"tokens\" and \"bytes\" added.")]
pub(crate) struct Score {
    #[command(flatten)]
    pub(crate) model: Model,
    /// File to read [default: standard input]
    #[arg(short, long, value_name = "F.jsonl")]
    pub(crate) input: Option<PathBuf>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "F.jsonl")]
    pub(crate) output: Option<PathBuf>,
    /// Add no beginning-of-text token, even if the tokenizer does so by default
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Length of the context in tokens [default: the model's, at most 4096]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) ctx: Option<usize>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// The environment variable in which OpenAI's clients look for an API key.
pub(crate) const DEFAULT_KEY: &str = "OPENAI_API_KEY";

#[derive(Args)]
#[command(after_help = format!("\
Examples:
  trilobite eval model.gguf --tasks arc_easy,piqa --data evaldata
  trilobite eval --tasks hellaswag --data evaldata --shuffle 1 --limit 300 --json
  trilobite eval model.gguf --tasks mmlu --data evaldata --shard 1/4 -o part1
  trilobite eval --tasks mmlu --merge part1 part2 part3 part4 -o whole
  trilobite eval model.gguf --tasks mt_bench --data evaldata --judge-url https://api.openai.com/v1
  trilobite eval model.gguf --tasks mine.toml --shots 3 --log-samples
  trilobite eval --list

Every finished item is a line of OUTPUT/TASK.jsonl. The same command continues where it stopped, and \
refuses results of another model, other data or other settings. With --judge-url, \
stored answers to MT-bench are rated. OUTPUT/results.json has the output of --json. How to write a \
task of your own: crates/trilobite-eval/README.md.

Tasks: {}", trilobite_eval::Task::names().join(", ")))]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) model: Model,
    /// The tasks: names, NAME_Nshot for N examples before each item, or paths of definitions
    #[arg(long, value_name = "TASK,TASK", required_unless_present = "list", value_delimiter = ',',
          value_parser = task_name())]
    pub(crate) tasks: Vec<String>,
    /// List the tasks, or those of --tasks: kind, examples, items if the data are available,
    /// metrics, and the source of the data
    #[arg(long, conflicts_with_all = ["model", "merge", "answers"])]
    pub(crate) list: bool,
    /// Number of examples before each item [default: as the task defines]
    #[arg(long, visible_alias = "num-fewshot", value_name = "N", conflicts_with = "answers")]
    pub(crate) shots: Option<usize>,
    /// Folder of the data sets [default: the folder of `trilobite pull --data`]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder of the results [default: eval-MODEL]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Evaluate the first N items of each task only
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) limit: Option<usize>,
    /// Put the items in a random order, so that --limit N selects a random subset
    #[arg(long, value_name = "SEED", conflicts_with_all = ["merge", "answers"])]
    pub(crate) shuffle: Option<u64>,
    /// Evaluate part I of N of each task only
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<trilobite_eval::Shard>,
    /// Number of answers to generate at once, which changes no result
    #[arg(long = "batch-size", value_name = "N", default_value_t = trilobite_eval::BATCH_SIZE,
          value_parser = at_least(1))]
    pub(crate) at_once: usize,
    /// Merge the results in these folders, without a model
    #[arg(
        long, value_name = "DIR", num_args = 1..,
        conflicts_with_all = ["model", "data", "limit", "shard"]
    )]
    pub(crate) merge: Vec<PathBuf>,
    /// Merge parts even if items are missing
    #[arg(long, requires = "merge")]
    pub(crate) partial: bool,
    /// Grade the answers in this file, lines of {"id", "output"}, without a model. An answer to
    /// HumanEval+ may have "chat": false if it continues the prompt, and true if it does not;
    /// without "chat", it continues the prompt unless it defines the function
    #[arg(
        long, value_name = "F.jsonl",
        conflicts_with_all = ["model", "limit", "shard", "merge"]
    )]
    pub(crate) answers: Option<PathBuf>,
    /// Length of the context in tokens
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) ctx: Option<usize>,
    /// Do not add the beginning-of-text token before prompts
    #[arg(long)]
    pub(crate) no_bos: bool,
    /// Do not apply the chat template to prompts of generation tasks
    #[arg(long)]
    pub(crate) no_chat: bool,
    /// Apply the chat template to the prompts of all tasks, including multiple choice
    #[arg(long, conflicts_with_all = ["no_chat", "merge", "answers"])]
    pub(crate) apply_chat_template: bool,
    /// System message; without a chat template, a text before every prompt
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["merge", "answers"])]
    pub(crate) system: Option<String>,
    /// Make each example a turn of the conversation [default: true with --apply-chat-template]
    #[arg(
        long, visible_alias = "fewshot-as-multiturn", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", conflicts_with = "no_chat"
    )]
    pub(crate) turns: Option<bool>,
    /// Log the prompts in OUTPUT/TASK.samples.jsonl
    #[arg(long, conflicts_with_all = ["merge", "answers"])]
    pub(crate) log_samples: bool,
    /// Run generated Python code, in a sandbox (HumanEval+)
    #[arg(long)]
    pub(crate) run_untrusted_code: bool,
    /// Run generated code even if the system lacks these layers of the sandbox: user, mount, pid,
    /// ipc, uts, network, landlock
    #[arg(
        long,
        value_name = "LAYER,LAYER",
        value_delimiter = ',',
        requires = "run_untrusted_code"
    )]
    pub(crate) sandbox_allow_missing: Vec<trilobite_eval::SandboxLayer>,
    /// Compare answers to MATH-500 with SymPy, in this Python [default: python3]
    #[arg(
        long, value_name = "PYTHON", num_args = 0..=1, require_equals = true,
        default_missing_value = "python3"
    )]
    pub(crate) python: Option<PathBuf>,
    /// Score every prompt by itself, from its first token: slower, with the same results
    #[arg(long)]
    pub(crate) whole: bool,
    /// Have the answers to MT-bench rated by a model on this OpenAI-compatible endpoint
    #[arg(long, value_name = "URL")]
    pub(crate) judge_url: Option<String>,
    /// Name of that model
    #[arg(long, value_name = "NAME", default_value = "gpt-4", requires = "judge_url")]
    pub(crate) judge_model: String,
    /// Environment variable with the API key of that endpoint
    #[arg(long, value_name = "VAR", default_value = DEFAULT_KEY, requires = "judge_url")]
    pub(crate) judge_key_env: String,
    /// Accept data files whose SHA-256 differs from that of the original
    #[arg(long)]
    pub(crate) any_data: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  trilobite perplexity model.gguf --file wiki.test.raw --ctx 2048

The text is tokenized as one stream, special tokens taken as text, and cut into windows of N \
tokens; where the tokenizer adds a beginning-of-text token, every window begins with one (and \
holds N - 1 tokens of the text), and elsewhere with the last token of the window before it. Every \
token but such a first one is scored, or with --stride only those that no earlier window has scored.")]
pub(crate) struct Perplexity {
    #[command(flatten)]
    pub(crate) model: Model,
    /// File with the text
    #[arg(long, value_name = "F")]
    pub(crate) file: PathBuf,
    /// Window length in tokens [default: the model's context, at most 2048]
    #[arg(long, value_name = "N", value_parser = at_least(2))]
    pub(crate) ctx: Option<usize>,
    /// Distance between the beginnings of two windows in tokens, at most the window length, which
    /// means windows that touch [default: the window length]
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) stride: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  trilobite bench model.gguf -p 512 -n 128 -t 1,2 -r 5\n  \
    trilobite bench model.gguf -p 8 --batch 4,8")]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) model: Model,
    /// Prompt lengths for the prefill; 0 for none
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "512")]
    pub(crate) prompt: Vec<usize>,
    /// Number of tokens to decode
    #[arg(short, long = "n-predict", value_name = "N", default_value_t = 128)]
    pub(crate) n: usize,
    /// Numbers of sequences to decode at once, besides one; the speed is that of all together
    #[arg(short, long, value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) batch: Vec<u16>,
    /// Number of tokens in the context before decoding starts
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: usize,
    /// Thread counts [default: all cores]
    #[arg(short, long, value_delimiter = ',', value_parser = thread_count())]
    pub(crate) threads: Vec<u16>,
    /// Type of the key-value cache
    #[arg(long, value_name = "TYPE", default_value_t, value_parser = cache_types())]
    pub(crate) kv: CacheType,
    /// Rounding of activations that are multiplied with weights in blocks; int8 is lossy
    #[arg(long, value_name = "HOW", default_value_t, value_parser = roundings())]
    pub(crate) activations: Activations,
    /// Read every weight and compute every logit, by multiply-add
    #[arg(long)]
    pub(crate) plain: bool,
    /// Show the time of each stage of a token
    #[arg(long)]
    pub(crate) profile: bool,
    /// Measure decoding with drafts of next tokens too: all of them right, and all wrong
    #[arg(long)]
    pub(crate) speculate: bool,
    /// Measure decoding with the drafts of this small model with the same vocabulary too
    #[arg(long, value_name = "MODEL")]
    pub(crate) draft: Option<PathBuf>,
    /// Number of runs per measurement
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = at_least(1))]
    pub(crate) runs: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
