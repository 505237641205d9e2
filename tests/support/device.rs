//! A device with a settings page: it knows a host, a port, a user and a password. It speaks
//! through Python's smtplib.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{find_program, root};

/// One connection's worth of a device.
pub(crate) struct Device {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What a server replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 0 where the connection broke or was none.
    pub(crate) code: u64,
    pub(crate) text: String,
}

impl Reply {
    /// The same, if it has this code.
    #[track_caller]
    pub(crate) fn expect(self, code: u64) -> String {
        assert_eq!(self.code, code, "{}", self.text);
        self.text
    }
}

impl Device {
    /// `None` where there is no Python.
    pub(crate) fn new() -> Option<Self> {
        let mut process = Command::new(find_program("python3")?)
            .arg(root().join("tests/support/device.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            stdin: process.stdin.take().unwrap(),
            stdout: BufReader::new(process.stdout.take().unwrap()),
            process,
        })
    }

    /// Connects to a gateway on this machine: `starttls`, `implicit` or `none`.
    pub(crate) fn connect(&mut self, port: u16, tls: &str) -> Reply {
        self.connect_from("127.0.0.1", port, tls)
    }

    /// The same as a client with another address of this machine's.
    pub(crate) fn connect_from(&mut self, source: &str, port: u16, tls: &str) -> Reply {
        self.act(&json!({
            "do": "connect", "host": "127.0.0.1", "port": port, "tls": tls, "source": source,
        }))
    }

    /// Signs in.
    pub(crate) fn auth(&mut self, mechanism: &str, user: &str, password: &str) -> Reply {
        self.act(&json!({
            "do": "auth", "mechanism": mechanism, "user": user, "password": password,
            "initial": mechanism == "PLAIN",
        }))
    }

    /// Sends a message: the reply that decided it.
    pub(crate) fn send(&mut self, sender: &str, to: &[&str], message: &str) -> Reply {
        self.act(&json!({ "do": "send", "sender": sender, "to": to, "message": message }))
    }

    /// Sends a message as far as its first octet: the reply to `DATA`.
    pub(crate) fn begin(&mut self, sender: &str, to: &[&str]) -> Reply {
        self.act(&json!({ "do": "begin", "sender": sender, "to": to }))
    }

    /// Sends the message that was begun.
    pub(crate) fn finish(&mut self, message: &str) -> Reply {
        self.act(&json!({ "do": "finish", "message": message }))
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) -> Reply {
        self.act(&json!({ "do": "say", "line": line }))
    }

    /// Closes the connection without a word.
    pub(crate) fn hang_up(&mut self) {
        self.act(&json!({ "do": "hang_up" }));
    }

    #[track_caller]
    fn act(&mut self, wanted: &Value) -> Reply {
        writeln!(self.stdin, "{wanted}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).expect("an answer of the device");
        Reply {
            code: answer["code"].as_u64().unwrap(),
            text: answer["text"].as_str().unwrap().to_owned(),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A message as a scanner writes it.
pub(crate) fn scan(from: &str, to: &str, subject: &str) -> String {
    format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\
         Date: Mon, 23 Nov 2026 08:00:00 +0000\r\nMessage-ID: <{}@printer-2.example.org>\r\n\
         \r\nA page.\r\n",
        subject.replace(' ', "-")
    )
}
