//! `trilobite serve`: an HTTP server.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use trilobite_runtime::ChatTemplate;
use trilobite_server::{Error, Options, PromptFolder, ServedModel, Server};

use super::template::Template;
use crate::args::{self, Compute, Global};
use crate::usage::WrongUsage;
use crate::{interrupt, model, output};

/// Interval between checks for a signal.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);
/// The name of the built-in model.
const BUILT_IN: &str = "tinystories";
/// Environment variable of the API key. Unlike an argument, other users of the machine cannot read it.
const KEY_VARIABLE: &str = "TRILOBITE_API_KEY";

#[derive(Args)]
#[command(after_help = "\
Examples:
  trilobite serve 2b.gguf
  trilobite serve 2b.gguf --port 0 | head -1        the address, of a free port
  trilobite serve 2b.gguf --host 0.0.0.0 --api-key \"$KEY\"

Prints one line with its address when it is ready. Requests choose a model by its name: that of its \
file without .gguf, of its folder, or the name it was pulled by. Answers are the same, to the last bit, \
whatever else is being answered. SIGTERM and Ctrl-C end it when all answers are given, after 30 \
seconds at most; a second signal ends it at once. It speaks HTTP without encryption: leave TLS to a \
proxy. On a loopback address it answers only to the hosts localhost, 127.0.0.1 and [::1], and those \
of --host and --allow-host.")]
pub(crate) struct Serve {
    /// GGUF files, Hugging Face folders or names of pulled models [default: the built-in model]
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Convert checkpoints in memory instead of once into the cache
    #[arg(long)]
    no_cache: bool,
    /// Convert GGUF files of ternary weights once to the fastest layout, with the same results
    #[arg(long)]
    repack: bool,
    /// Address or name of this machine to listen on
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Maximum number of answers that a model generates at the same time
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallel: usize,
    /// Length of the context in tokens [default: the model's, at most 4096]
    #[arg(long, value_name = "N", value_parser = args::at_least(1))]
    ctx: Option<usize>,
    /// API key that requests must send [default: the environment variable TRILOBITE_API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Memory for keys and values of each model in MiB; one context always fits [default: for two
    /// contexts of every parallel answer, at most half of the free memory]
    #[arg(long, value_name = "MIB")]
    cache_memory: Option<usize>,
    /// Keep keys and values in this folder, so that known beginnings of prompts are not computed
    /// again after a restart; models and servers can share it
    #[arg(long, value_name = "DIR")]
    prompt_cache: Option<PathBuf>,
    /// Size of that folder in MiB; the least recently used files are removed
    #[arg(long, value_name = "MIB", default_value_t = 8192, requires = "prompt_cache")]
    prompt_cache_size: u64,
    /// Maximum number of waiting prompts of each model; further requests are refused
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Maximum number of open connections; further ones wait
    #[arg(long, value_name = "N", default_value_t = 512)]
    connections: usize,
    /// Maximum number of tokens of an answer [default: until the context is full]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Additional host name to accept in the Host header (may be repeated)
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin of web pages that may use the server: scheme://host or scheme://host:port, or * for
    /// all if there is an API key (may be repeated)
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    #[arg(long, value_name = "FILE|NAME", help = format!(
        "Jinja file of a chat template, or the name of a standard one: {} [default: the model's]",
        ChatTemplate::standard_names()
    ))]
    chat_template: Option<PathBuf>,
    /// Do not draft next tokens from the text so far; answers are the same, but repeated text is
    /// slower
    #[arg(long)]
    no_speculate: bool,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(args: &Serve, global: &Global) -> Result<ExitCode> {
    // The first signal ends it in order, the second at once.
    interrupt::listen()?;
    let address = address(args)?;
    let key = || std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    let api_key = args.api_key.clone().or_else(key);
    if !address.ip().is_loopback() && api_key.is_none() && !global.quiet {
        output::say(
            "note: without --api-key everybody who reaches this address can use the server",
        );
    }
    let bytes = args.prompt_cache_size.saturating_mul(1 << 20);
    let prompt_folder = args.prompt_cache.clone().map(|path| PromptFolder { path, bytes });
    let options = Options {
        address,
        parallel: args.parallel,
        cache_bytes: args.cache_memory.map(|mib| mib.saturating_mul(1 << 20)),
        prompt_folder,
        queue: args.queue,
        connections: args.connections,
        speculate: !args.no_speculate,
        max_tokens: args.max_tokens,
        api_key,
        host: Some(args.host.clone()),
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.clone(),
        ..Options::default()
    };
    options.check().map_err(with_flag)?;
    let models = match &args.models[..] {
        [] => vec![served(None, args, global)?],
        paths => {
            paths.iter().map(|path| served(Some(path), args, global)).collect::<Result<_>>()?
        }
    };
    let server = Server::bind(models, options).map_err(|error| {
        let of = |path: &&PathBuf| matches!(&error, Error::OfModel { name: of, .. } if name(path) == *of);
        match args.models.iter().find(of) {
            Some(path) => model::of_model(error.into(), path),
            None => error.into(),
        }
    })?;
    let stopper = server.stopper();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while !interrupt::seen() {
            std::thread::sleep(SIGNAL_INTERVAL);
        }
        stopper.stop();
    })?;
    output::print(&format!("http://{}\n", server.address()))?;
    server.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Names the flag of an option with an unusable value.
fn with_flag(error: Error) -> anyhow::Error {
    let Error::Option { name, value, expected } = &error else { return error.into() };
    let flag = match *name {
        "parallel" => "--parallel",
        "connections" => "--connections",
        "max_tokens" => "--max-tokens",
        "the API key" => "--api-key",
        "an origin" => "--allow-origin",
        other => other,
    };
    WrongUsage(format!("{flag} is {value}, expected {expected}")).into()
}

fn address(args: &Serve) -> Result<SocketAddr> {
    let host = args.host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, args.port).to_socket_addrs().with_context(|| format!("--host {host}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    // IPv4 first, as most clients try.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().with_context(|| format!("--host {host} is no address of this machine"))
}

/// Loads a model and names it for requests.
fn served(path: Option<&Path>, args: &Serve, global: &Global) -> Result<ServedModel> {
    let &Serve { no_cache, repack, .. } = args;
    let source = args::Model { model: path.map(Path::to_owned), no_cache, repack };
    let named = |error: anyhow::Error| match path {
        Some(path) => model::of_model(error, path),
        None => error,
    };
    let model = model::load_to_decode(&source, args.compute.threads, global)?;
    model::tokenizer(&model, &source, global)?;
    let session = model::session_options(&model, &args.compute, args.ctx).map_err(named)?;
    let name = path.map_or_else(|| BUILT_IN.to_owned(), name);
    let mut served = ServedModel::new(name, model).map_err(|error| named(error.into()))?;
    if let Some(name) = &args.chat_template {
        let Template { template, stop, .. } = Template::named(&served.model, name)?;
        served.template = Some(template);
        served.stop = stop.iter().map(|&text| text.to_owned()).collect();
    }
    Ok(ServedModel { session, ..served })
}

/// The name of a model: its file without extension, its folder, or the name it was pulled by.
fn name(path: &Path) -> String {
    let name = match path.file_name() {
        Some(name) if path.is_dir() => Some(name),
        Some(_) if path.is_file() => path.file_stem(),
        _ => None,
    };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
