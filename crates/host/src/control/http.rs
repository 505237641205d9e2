//! Answering HTTP/1.1 within bounds: connections, octets, time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How long accepting pauses when the process has run out of file descriptors, or the like.
const BREATHER: Duration = Duration::from_millis(100);

/// What one listener allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections at once; further ones wait in the system's queue.
    connections: usize,
    /// Octets of a request's head.
    head_octets: usize,
    /// From one request's end, or the connection's beginning, to the next one's last header.
    head_time: Duration,
}

/// The control socket's: whoever speaks there is the user.
pub(crate) const CONTROL: Bounds = Bounds {
    connections: 64,
    head_octets: 16 * 1024,
    head_time: Duration::from_secs(30),
};

/// The metrics' address: any program of the machine may connect.
pub(crate) const METRICS: Bounds = Bounds {
    connections: 16,
    head_octets: 8 * 1024,
    head_time: Duration::from_secs(10),
};

/// Something that connections come from.
pub(crate) trait Door: Send {
    /// What a connection reads and writes.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next one; `None` for one that was turned away.
    ///
    /// # Errors
    /// None can be had at this moment.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

/// Answers with `router` until `stop` is there, then lets requests under way end.
pub(crate) async fn serve<D: Door>(
    door: D,
    router: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()> + Send,
) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_buf_size(bounds.head_octets);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, door.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = &mut stop => break,
            (place, accepted) = next => match accepted {
                Ok(Some(stream)) => (place, stream),
                Ok(None) => continue,
                Err(problem) => {
                    tracing::warn!("a connection could not be accepted: {problem}");
                    sleep(BREATHER).await;
                    continue;
                }
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            hyper::service::Service::call(&service, request.map(Body::new))
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(problem) = connection.await {
                tracing::debug!("a connection ended: {problem}");
            }
            drop(place);
        });
    }
    drop(door);
    graceful.shutdown().await;
}
