//! A transport that answers by a script and writes down what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider_graph::{Graph, Request, Response, Transport, TransportError};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::{Position, Url};

pub(crate) const TOKEN: &str = "eyJ0.canary-access-token.c2ln";

/// What the transport returns, once.
pub(crate) struct Answer(Result<Response, TransportError>);

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self(Ok(response))
    }
}

impl From<TransportError> for Answer {
    fn from(error: TransportError) -> Self {
        Self(Err(error))
    }
}

#[derive(Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<Answer>>,
    sent: Mutex<Vec<String>>,
    pauses: Mutex<Vec<Duration>>,
}

/// A client whose transport gives these answers, in this order.
pub(crate) fn scripted<A: Into<Answer>>(
    answers: impl IntoIterator<Item = A>,
) -> (Graph, Arc<Script>) {
    let script = Arc::new(Script {
        answers: Mutex::new(answers.into_iter().map(Into::into).collect()),
        ..Script::default()
    });
    let graph = Graph::new(
        Url::parse("https://graph.example").unwrap(),
        SecretString::from(TOKEN),
        script.clone(),
    )
    .unwrap();
    (graph, script)
}

/// A client that nothing is to be asked of.
pub(crate) fn nothing() -> (Graph, Arc<Script>) {
    scripted::<Answer>([])
}

impl Script {
    /// What was sent: `METHOD path?query`, other header fields, and the body. Every answer of
    /// the script must have been asked for.
    pub(crate) fn sent(&self) -> Vec<String> {
        assert_eq!(self.answers.lock().unwrap().len(), 0, "unasked-for answers");
        self.sent.lock().unwrap().clone()
    }

    /// The pauses, in seconds.
    pub(crate) fn pauses(&self) -> Vec<u64> {
        let pauses = self.pauses.lock().unwrap();
        pauses.iter().map(Duration::as_secs).collect()
    }
}

impl Transport for Script {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        assert_eq!(request.bearer.expose_secret(), TOKEN);
        assert_eq!(
            request.url.origin().ascii_serialization(),
            "https://graph.example"
        );
        let mut line = vec![
            request.method.as_str().to_owned(),
            request.url[Position::BeforePath..].to_owned(),
        ];
        line.extend(
            request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        line.extend(request.body.iter().map(Value::to_string));
        self.sent.lock().unwrap().push(line.join(" "));
        let answer = self.answers.lock().unwrap().pop_front();
        async move { answer.expect("an answer for every request").0 }.boxed()
    }

    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()> {
        self.pauses.lock().unwrap().push(how_long);
        async {}.boxed()
    }
}

/// An answer with a body.
pub(crate) fn answer(status: u16, body: &Value) -> Response {
    Response {
        status,
        body: body.to_string().into_bytes(),
        ..Response::default()
    }
}

/// 200.
pub(crate) fn ok(body: &Value) -> Response {
    answer(200, body)
}

/// 204.
pub(crate) fn done() -> Response {
    Response {
        status: 204,
        ..Response::default()
    }
}

/// A refusal as Graph words it.
pub(crate) fn refused(status: u16, code: &str, message: &str) -> Response {
    answer(
        status,
        &json!({ "error": {
            "code": code,
            "message": message,
            "innerError": {
                "date": "2026-11-23T16:00:00",
                "request-id": "3ae2b0a1-0000-4000-8000-000000000001",
                "client-request-id": "3ae2b0a1-0000-4000-8000-000000000001",
            },
        }}),
    )
}

/// A refusal that asks for time.
pub(crate) fn later(status: u16, seconds: u64) -> Response {
    Response {
        retry_after: Some(Duration::from_secs(seconds)),
        ..refused(status, "TooManyRequests", "Too many requests.")
    }
}
