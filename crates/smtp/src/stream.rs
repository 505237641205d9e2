//! How a connection is made: TCP, or anything a caller has (a proxy, a test).

use std::{io, net::SocketAddr};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection to a server, before TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The other end, where it has an address.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

impl Stream for TcpStream {
    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

impl Stream for tokio::io::DuplexStream {}

/// Makes connections.
pub trait Connector: Send + Sync {
    /// Connects to this address. Called for each of the server's addresses until one answers.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// The addresses of this server.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    }
}

/// Plain TCP with `TCP_NODELAY`: a flight must not wait for an acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        async move { Ok(Box::new(connect_tcp(address).await?) as Box<dyn Stream>) }.boxed()
    }
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_does_not_wait_for_acknowledgements() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect_tcp(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
