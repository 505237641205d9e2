//! Accepting TLS connections for the web server: handshakes run beside each other, and one
//! that stalls keeps nobody waiting.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes under way at once.
const HANDSHAKES: usize = 256;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener whose connections have TLS.
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Accepts from now on, in a task that ends, and frees the port, once this is dropped.
    pub(crate) fn new(
        listener: TcpListener,
        config: Arc<ServerConfig>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(16);
        let accepting = tokio::spawn(async move {
            tokio::select! {
                never = accept_all(&listener, TlsAcceptor::from(config), &sender) => match never {},
                () = sender.closed() => {}
            }
        });
        Ok((Self { ready, local }, accepting))
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task only ends together with this receiver.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

async fn accept_all(
    listener: &TcpListener,
    acceptor: TlsAcceptor,
    ready: &mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) -> Infallible {
    let mut handshakes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if handshakes.len() < HANDSHAKES => accepted,
            Some(_) = handshakes.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, ready) = (acceptor.clone(), ready.clone());
                handshakes.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                    }
                });
            }
            // Out of descriptors: those that close make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
