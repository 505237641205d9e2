//! Plain HTTP to control ports on loopback: enough for JSON in and JSON out.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

/// Sends a request to `http://HOST:PORT/…` and gives the body of the answer, which must be a
/// success, as JSON; an empty one as `null`.
#[track_caller]
pub(crate) fn json(method: &str, url: &str, body: Option<&Value>) -> Value {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(host).unwrap();
    // HTTP/1.0: the answer ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(
        status.starts_with('2'),
        "{method} {url} was answered {answer}"
    );
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(body).unwrap()
}
