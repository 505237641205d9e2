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

use super::patience::Patient;

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
    /// For which the other side may take nothing of an answer.
    write_time: Duration,
}

/// The control socket's: whoever speaks there is the user.
pub(crate) const CONTROL: Bounds = Bounds {
    connections: 64,
    head_octets: 16 * 1024,
    head_time: Duration::from_secs(30),
    write_time: Duration::from_secs(30),
};

/// The socket for mail: any user of the machine may connect.
pub(crate) const SUBMISSION: Bounds = Bounds {
    connections: 256,
    head_octets: 8 * 1024,
    head_time: Duration::from_secs(10),
    write_time: Duration::from_secs(10),
};

/// The metrics' address: any program of the machine may connect.
pub(crate) const METRICS: Bounds = Bounds {
    connections: 16,
    head_octets: 8 * 1024,
    head_time: Duration::from_secs(10),
    write_time: Duration::from_secs(10),
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

    /// The router for one connection: it may tell who is at its other end.
    ///
    /// # Errors
    /// The connection is gone.
    fn router(&self, router: &Router, stream: &Self::Stream) -> io::Result<Router> {
        let _ = stream;
        Ok(router.clone())
    }
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
        let Ok(router) = door.router(&router, &stream) else {
            continue;
        };
        let service = TowerToHyperService::new(router);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            hyper::service::Service::call(&service, request.map(Body::new))
        });
        let stream = TokioIo::new(Patient::new(stream, bounds.write_time));
        let connection = graceful.watch(server.serve_connection(stream, service));
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::{Mutex, mpsc};

    use super::*;

    /// Connections as a test makes them.
    struct Doorway(Mutex<mpsc::Receiver<DuplexStream>>);

    impl Door for Doorway {
        type Stream = DuplexStream;

        async fn accept(&self) -> io::Result<Option<DuplexStream>> {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok(Some(stream)),
                None => pending().await,
            }
        }
    }

    /// A server whose answer is larger than what a connection holds, and a way to connect.
    fn served() -> impl AsyncFn() -> DuplexStream {
        let (connect, connections) = mpsc::channel(1);
        let router = Router::new().route("/", get(|| async { "x".repeat(10_000) }));
        let door = Doorway(Mutex::new(connections));
        tokio::spawn(serve(door, router, METRICS, pending()));
        async move || {
            let (ours, theirs) = duplex(1000);
            connect.send(theirs).await.unwrap();
            ours
        }
    }

    const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_or_does_not_ask_keeps_nobody_else_out_for_long() {
        let connect = served();
        let mut idle = Vec::new();
        for number in 0..2 * METRICS.connections {
            let mut stream = connect().await;
            if number % 2 == 0 {
                stream.write_all(ASKED).await.unwrap();
            }
            idle.push(stream);
        }

        let began = tokio::time::Instant::now();
        let mut stream = connect().await;
        stream.write_all(ASKED).await.unwrap();
        let mut answer = vec![0; 15];
        let answered = stream.read_exact(&mut answer);
        let answered = tokio::time::timeout(Duration::from_mins(5), answered).await;
        answered.expect("an answer").unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK");
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_without_end_is_refused() {
        let mut stream = served()().await;
        let sending = async {
            // The other side may have closed.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ").await;
            while stream.write_all(&[b'x'; 500]).await.is_ok() {}
            stream
        };
        let mut stream = sending.await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
