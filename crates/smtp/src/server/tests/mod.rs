//! The server half against a client that writes octets, in memory and paused time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

mod bounds;
mod dialogue;
mod encryption;
mod floods;
mod quirks;
mod smuggling;
mod streaming;

/// Accepts everything, and writes down what it was asked.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    events: Vec<String>,
    messages: Vec<Submission>,
    before: VecDeque<Option<ServerReply>>,
    /// Whether `BINARYMIME` is offered.
    binary: bool,
    message_reply: Option<ServerReply>,
}

impl Recorder {
    fn event(&self, event: impl Into<String>) {
        self.0.lock().unwrap().events.push(event.into());
    }

    fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().events.clone()
    }

    fn messages(&self) -> Vec<Submission> {
        self.0.lock().unwrap().messages.clone()
    }
}

impl Handler for Recorder {
    type Body = Vec<u8>;

    async fn greeting(&mut self) -> ServerReply {
        ServerReply::new(220, "mx.example ESMTP")
    }

    async fn before(&mut self, _: &Command) -> Option<ServerReply> {
        self.0.lock().unwrap().before.pop_front().flatten()
    }

    fn hello(&mut self, name: &str) -> String {
        format!("mx.example greets {name}")
    }

    fn capabilities(&mut self, tls: bool) -> Vec<String> {
        let changing = if tls { "AUTH PLAIN" } else { "STARTTLS" };
        let mut lines = vec!["PIPELINING".into(), changing.into()];
        if self.0.lock().unwrap().binary {
            lines.push("BINARYMIME".into());
        }
        lines
    }

    fn secured(&mut self, tls: &rustls::ServerConnection) {
        self.event(format!("tls {:?}", tls.protocol_version().unwrap()));
    }

    async fn auth(
        &mut self,
        mechanism: &str,
        initial: Option<Vec<u8>>,
        exchange: &mut Exchange<'_>,
    ) -> Result<ServerReply, ExchangeEnd> {
        let secret = match initial {
            Some(secret) => secret,
            None => exchange.ask(b"?").await?,
        };
        self.event(format!("{mechanism} {}", secret.escape_ascii()));
        Ok(match secret.as_slice() {
            b"wrong" => ServerReply::new(535, "5.7.8 no"),
            _ => ServerReply::new(235, "2.7.0 yes"),
        })
    }

    async fn mail(&mut self, mail: &MailCommand) -> ServerReply {
        match mail.reverse_path.as_str() {
            "refused@b" => ServerReply::new(550, "5.1.0 no"),
            _ => ServerReply::new(250, "2.1.0 sender"),
        }
    }

    async fn rcpt(&mut self, rcpt: &RcptCommand) -> ServerReply {
        match rcpt.forward_path.as_str() {
            "refused@b" => ServerReply::new(550, "5.1.1 no"),
            _ => ServerReply::new(250, "2.1.5 recipient"),
        }
    }

    async fn body(&mut self, _: &EnvelopeSoFar<'_>) -> Result<Vec<u8>, ServerReply> {
        Ok(Vec::new())
    }

    async fn message(&mut self, submission: Submission) -> ServerReply {
        let mut record = self.0.lock().unwrap();
        record.messages.push(submission);
        record
            .message_reply
            .clone()
            .unwrap_or(ServerReply::new(250, "2.0.0 stored"))
    }

    fn reset(&mut self) {
        self.event("reset");
    }
}

/// A client's end of a connection, and the server's, whose outcome is known when it has ended.
type Served = (DuplexStream, JoinHandle<io::Result<()>>);

fn served(
    tls: Option<TlsAcceptor>,
    policy: TlsPolicy,
    handler: Recorder,
    limits: Limits,
) -> Served {
    let (client, server) = duplex(1 << 20);
    let serving = serve(server, tls, policy, handler, limits, Quirks::default());
    (client, tokio::spawn(serving))
}

fn served_in_clear(handler: Recorder, limits: Limits) -> Served {
    served(None, TlsPolicy::DangerPlaintext, handler, limits)
}

/// Everything the server says to `input` arriving at once, until it closes.
async fn heard((mut client, serving): Served, input: &[u8]) -> String {
    client.write_all(input).await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    said
}

/// The same of a client that leaves behind `input`, in clear.
async fn says(limits: Limits, handler: Recorder, input: &[u8]) -> String {
    let (mut client, serving) = served_in_clear(handler, limits);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    heard((client, serving), b"").await
}

/// A client that has sent everything already: pieces arrive one a read, then the end.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.said.lock().unwrap().extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is said to these pieces, and the messages that come of them.
async fn play<P: Into<Vec<u8>>>(
    limits: Limits,
    quirks: Quirks,
    pieces: impl IntoIterator<Item = P>,
) -> (String, Vec<Submission>) {
    let handler = Recorder::default();
    let said = Arc::default();
    let script = Script {
        pieces: pieces.into_iter().map(Into::into).collect(),
        said: Arc::clone(&said),
    };
    let policy = TlsPolicy::DangerPlaintext;
    serve(script, None, policy, handler.clone(), limits, quirks)
        .await
        .unwrap();
    let said = String::from_utf8(std::mem::take(&mut *said.lock().unwrap())).unwrap();
    (said, handler.messages())
}

/// Runs a future in paused time, outside of an async test.
fn in_paused_time<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// The codes only, one per reply.
fn codes(said: &str) -> Vec<u16> {
    said.lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .map(|line| line[..3].parse().unwrap())
        .collect()
}

async fn codes_for(limits: Limits, input: &[u8]) -> Vec<u16> {
    codes(&says(limits, Recorder::default(), input).await)
}

const OPEN: &str = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

/// One whole reply.
async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut reply = String::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        reply.push_str(std::str::from_utf8(&line).unwrap());
        if line[3] == b' ' {
            return reply;
        }
    }
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> u16 {
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    codes(&read_reply(stream).await)[0]
}
