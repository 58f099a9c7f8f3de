//! Servers with small models.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use trilobite_convert::{Checkpoint, Options as Convert, convert, ignore_progress};
use trilobite_runtime::{ChatTemplate, Model, SessionOptions};
use trilobite_server::{Options, Result, ServedModel, Server, Stopper};

use crate::client::get;

/// A model of `models/golden`.
pub(crate) fn model(name: &str) -> Arc<Model> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden").join(name);
    let mut file = Vec::new();
    let checkpoint = Checkpoint::open(folder).unwrap();
    convert(&checkpoint, &Convert::default(), &mut file, &mut ignore_progress).unwrap();
    Arc::new(Model::from_bytes(file).unwrap())
}

/// Settings of the models' sessions.
pub(crate) fn session() -> SessionOptions {
    SessionOptions { threads: 1, ..SessionOptions::default() }
}

/// Options of a server on a free port.
pub(crate) fn options() -> Options {
    Options { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() }
}

/// A server that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// A server with the model `llama_bitnet_online`.
    pub(crate) fn new(options: Options) -> Self {
        Self::with(&["llama_bitnet_online"], options)
    }

    pub(crate) fn with(names: &[&str], options: Options) -> Self {
        let models = names.iter().map(|name| {
            let served = ServedModel::new(*name, model(name)).unwrap();
            ServedModel { session: session(), ..served }
        });
        Self::serve(models.collect(), options)
    }

    /// A server whose model has another chat template.
    pub(crate) fn with_template(source: &str) -> Self {
        let model = model("llama_bitnet_online");
        let template =
            ChatTemplate::new(source, model.metadata(), model.tokenizer().unwrap()).unwrap();
        let served = ServedModel::new("model", model).unwrap();
        let served = ServedModel { session: session(), template: Some(template), ..served };
        Self::serve(vec![served], options())
    }

    fn serve(models: Vec<ServedModel>, options: Options) -> Self {
        let server = Server::bind(models, options).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        Self { address, stopper, thread: Some(std::thread::spawn(|| server.run())) }
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_for(&self, metric: &str, fits: impl Fn(f64) -> bool) {
        for _ in 0..10_000 {
            if fits(self.metric(metric)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{metric} is {}", self.metric(metric));
    }

    /// A metric's value.
    pub(crate) fn metric(&self, metric: &str) -> f64 {
        let text = get(self.address, "/metrics").text().to_owned();
        let line = text.lines().find(|line| line.starts_with(metric));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until the server has ended by itself.
    pub(crate) fn join(mut self) -> Result<()> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap().unwrap();
        }
    }
}
