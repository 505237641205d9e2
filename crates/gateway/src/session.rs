//! One client's session.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::backend::Refusal;
use crate::gateway::{Current, House};

/// Serves a client until it leaves or is sent away.
pub(crate) async fn serve(
    _house: Arc<House>,
    _current: Arc<Current>,
    stream: TcpStream,
    _client: IpAddr,
) {
    let refusal = Refusal::new(421, "4.3.2", "no service yet");
    let _ = stream.try_write(format!("{refusal}\r\n").as_bytes());
}
