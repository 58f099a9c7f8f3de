//! Listening, and ending in order.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::sync::watch;

use crate::app::App;
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::routes;
use crate::served::{Served, ServedModel};

/// Threads that take requests and send answers, beside those of the models.
const THREADS: usize = 2;

/// Time to tell the clients whose answers were broken off.
const FAREWELL: Duration = Duration::from_secs(1);

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
}

/// Asks a server to end.
#[derive(Clone)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// The server takes no more requests, and ends when all are answered or their time is over.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Loads the models and listens. Requests are answered when it [runs](Self::run).
    ///
    /// # Errors
    /// There is no model, or one that cannot be served; two have the same name; an option makes no
    /// sense; or the address is in use.
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
                let engine = options.engine(&served, count);
                Served::start(served, engine, options.max_tokens, &metrics).map(Arc::new)
            })
            .collect();
        let guard = Guard::new(&options, address);
        let app = Arc::new(App { models: models?, metrics, guard, options });
        Ok(Self { listener, address, app, stop: watch::Sender::new(false) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What asks it to end.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Answers requests until it is asked to end.
    ///
    /// # Errors
    /// The system gives no threads, or the address can no longer be listened on.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let app = Arc::clone(&self.app);
        let result = runtime.block_on(self.serve());
        // What still encodes a text is not waited for; what is generated is given up.
        runtime.shutdown_background();
        drop(app);
        result
    }

    async fn serve(self) -> Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(Error::Listen)?;
        // Tokens are small, and each is wanted now.
        let listener = listener.tap_io(|stream| {
            // A connection that cannot do this is slower, and no worse.
            let _ = stream.set_nodelay(true);
        });
        let (app, late) = (Arc::clone(&self.app), Arc::clone(&self.app));
        let grace = self.app.options.grace;
        let mut stop = self.stop.subscribe();
        let stopped = {
            let mut stop = self.stop.subscribe();
            async move {
                // An error means that nobody can ask any more.
                let _ = stop.wait_for(|stop| *stop).await;
                app.models.iter().for_each(|model| model.engine().close());
            }
        };
        let router = routes::router(Arc::clone(&self.app));
        let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
        let too_late = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(grace).await;
            late.models.iter().for_each(|model| model.engine().abort());
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            ended = serve => ended.map_err(Error::Listen),
            () = too_late => Ok(()),
        }
    }
}
