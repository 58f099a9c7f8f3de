//! `trilobite serve`: an HTTP server.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use trilobite_server::{Options, ServedModel, Server};

use super::template::Template;
use crate::args::{self, Global, Serve};
use crate::{interrupt, model, output};

/// How soon a signal is noticed.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);
/// The name of the built-in model.
const BUILT_IN: &str = "tinystories";
/// Where the key can be given unseen by other users of the machine.
const KEY_VARIABLE: &str = "TRILOBITE_API_KEY";

pub(crate) fn run(args: &Serve, global: &Global) -> Result<ExitCode> {
    // The first signal ends it in order, the second at once.
    interrupt::listen()?;
    let address = address(args)?;
    let models = match &args.models[..] {
        [] => vec![served(None, args, global)?],
        paths => {
            paths.iter().map(|path| served(Some(path), args, global)).collect::<Result<_>>()?
        }
    };
    let api_key = args.api_key.clone().or_else(|| std::env::var(KEY_VARIABLE).ok());
    if !address.ip().is_loopback() && api_key.is_none() && !global.quiet {
        output::say(
            "note: without --api-key everybody who reaches this address can use the server",
        );
    }
    let options = Options {
        address,
        parallel: args.parallel,
        cache_bytes: args.cache_memory.map(|mib| mib.saturating_mul(1 << 20)),
        queue: args.queue,
        max_tokens: args.max_tokens,
        api_key,
        hosts: args.allow_host.clone(),
        origins: args.allow_origin.clone(),
        ..Options::default()
    };
    let server = Server::bind(models, options)?;
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

fn address(args: &Serve) -> Result<SocketAddr> {
    let host = args.host.trim_start_matches('[').trim_end_matches(']');
    let found = (host, args.port).to_socket_addrs().with_context(|| format!("--host {host}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    // Where a name has both, what most clients try first.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().with_context(|| format!("--host {host} is no address of this machine"))
}

/// A model, named as requests choose it.
fn served(path: Option<&Path>, args: &Serve, global: &Global) -> Result<ServedModel> {
    let source = args::Model { model: path.map(Path::to_owned), no_cache: args.no_cache };
    let model = model::load_to_decode(&source, global)?;
    model::tokenizer(&model, global)?;
    let session = model::session_options(&model, &args.compute, args.ctx)?;
    let name = path.map_or_else(|| BUILT_IN.to_owned(), name);
    let mut served = ServedModel::new(name, model)?;
    if let Some(name) = &args.chat_template {
        let Template { template, stop, .. } = Template::named(&served.model, name)?;
        served.template = Some(template);
        served.stop = stop.iter().map(|&text| text.to_owned()).collect();
    }
    Ok(ServedModel { session, ..served })
}

/// The name of a model: that of its file or folder, or the name it was pulled by.
fn name(path: &Path) -> String {
    let name = match path.file_name() {
        Some(name) if path.is_dir() => Some(name),
        Some(_) if path.is_file() => path.file_stem(),
        _ => None,
    };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
