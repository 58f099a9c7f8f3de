//! The server: listening, and orderly shutdown.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::connections::{self, Limits};
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::routes;
use crate::served::{Served, ServedModel};

/// Threads for HTTP. The threads of the models are separate.
const THREADS: usize = 2;

/// Time to send the last events of aborted answers.
const FAREWELL: Duration = Duration::from_secs(1);

/// A listening server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
}

/// Stops a server.
#[derive(Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Stops the server: it refuses new requests, and ends when all others are answered or the grace
    /// time is over.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Starts the models' engines and listens. [`run`](Self::run) answers requests.
    ///
    /// # Errors
    /// There is no model, a model cannot run, two models have the same name, an option has an unusable
    /// value, or the address cannot be listened on.
    pub fn bind(models: Vec<ServedModel>, options: Options) -> Result<Self> {
        options.check()?;
        if models.is_empty() {
            return Err(Error::NoModel);
        }
        for (index, model) in models.iter().enumerate() {
            if models[..index].iter().any(|other| other.name == model.name) {
                return Err(Error::SameName(model.name.clone()));
            }
        }
        let bind = |source| Error::Bind { address: options.address, source };
        let listener = TcpListener::bind(options.address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let metrics = Metrics::new();
        let count = models.len();
        let models: Result<Vec<Arc<Served>>> = models
            .into_iter()
            .map(|served| {
                let name = served.name.clone();
                let started = Served::start(served, &options, count, &metrics).map(Arc::new);
                started.map_err(|error| match error {
                    Error::Model(error) => Error::OfModel { name, source: error.into() },
                    error => error,
                })
            })
            .collect();
        let guard = Guard::new(&options, address);
        let app = Arc::new(App { models: models?, metrics, guard, options });
        Ok(Self { listener, address, app, stop: watch::Sender::new(false) })
    }

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops the server.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Answers requests until a [`Stopper`] stops the server.
    ///
    /// # Errors
    /// The HTTP threads cannot be started, or listening fails.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let app = Arc::clone(&self.app);
        let result = runtime.block_on(self.serve());
        // Does not wait for blocking work, such as encoding a text.
        runtime.shutdown_background();
        drop(app);
        result
    }

    async fn serve(self) -> Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(Error::Listen)?;
        let (app, late) = (Arc::clone(&self.app), Arc::clone(&self.app));
        let Options { connections, head_time, write_timeout, grace, .. } = self.app.options;
        // A client that reads again after its answer was aborted still receives the reason.
        let limits = Limits { connections, head_time, write_time: 2 * write_timeout };
        let mut stop = self.stop.subscribe();
        let stopped = {
            let mut stop = self.stop.subscribe();
            async move {
                // An error means that no stopper is left, which `self.stop` rules out.
                let _ = stop.wait_for(|stop| *stop).await;
                app.models.iter().for_each(|model| model.close());
            }
        };
        let router = routes::router(Arc::clone(&self.app));
        let too_late = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(grace).await;
            late.models.iter().for_each(|model| model.abort());
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = connections::serve(listener, router, limits, stopped) => {}
            () = too_late => {}
        }
        Ok(())
    }
}
