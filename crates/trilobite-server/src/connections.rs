//! Connections: their maximum number, and their time limits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

/// Limits of the connections.
pub(crate) struct Limits {
    /// Maximum open connections. Others wait in the operating system's queue.
    pub(crate) connections: usize,
    /// Maximum time until the head of the next request is complete.
    pub(crate) head_time: Duration,
    /// Maximum time that a client reads nothing of its answer.
    pub(crate) write_time: Duration,
}

/// Answers the requests of all connections until `stopped`, then ends each connection after its
/// current answer.
pub(crate) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: Limits,
    stopped: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let open = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_time);
    let mut stopped = std::pin::pin!(stopped);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            // Tries again after an error, such as too many open files.
            (place, Listener::accept(&mut listener).await)
        };
        let (place, (stream, _)) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stopped => break,
        };
        // Every token is sent at once. Without the option a connection is only slower.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_time));
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
        tokio::spawn(async move {
            // An error ends this connection only, and its client knows.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}
