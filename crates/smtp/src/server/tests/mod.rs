//! The server half against a client that writes octets, in memory and paused time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

mod bounds;
mod dialogue;
mod encryption;

/// Accepts everything, and writes down what it was asked.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    events: Vec<String>,
    messages: Vec<Submission>,
    before: VecDeque<Option<ServerReply>>,
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
        vec!["PIPELINING".into(), changing.into()]
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

/// Everything the server says to `input` arriving at once, in clear, until it closes.
async fn says(limits: Limits, handler: Recorder, input: &[u8]) -> String {
    let (mut client, server) = duplex(1 << 20);
    let serving = tokio::spawn(serve(
        server,
        None,
        TlsPolicy::DangerPlaintext,
        handler,
        limits,
        Quirks::default(),
    ));
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    said
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
