//! curl, which nobody here wrote, as a person would use it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{find_program, run, skip};

/// Asks at one address.
pub(crate) struct Curl {
    options: Vec<String>,
    base: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON; as it is where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| json!(self.body))
    }
}

impl Curl {
    /// Whether it is there; if not, the story is skipped.
    pub(crate) fn is_missing() -> bool {
        let missing = find_program("curl").is_none();
        if missing {
            skip("curl is not installed");
        }
        missing
    }

    /// At a Unix socket.
    pub(crate) fn over(socket: &Path) -> Self {
        Self {
            options: vec!["--unix-socket".to_owned(), socket.display().to_string()],
            base: "http://postrider".to_owned(),
        }
    }

    /// At `127.0.0.1:PORT`.
    pub(crate) fn at(address: &str) -> Self {
        Self {
            options: Vec::new(),
            base: format!("http://{address}"),
        }
    }

    /// Asks with these arguments, by `GET` if they say nothing else.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str], path: &str) -> Answer {
        let ended = run(Command::new("curl")
            .args(["--silent", "--show-error"])
            .args(["--write-out", "\n%{http_code} %{content_type}"])
            .args(&self.options)
            .args(arguments)
            .arg(format!("{}{path}", self.base)))
        .expect_status(0);
        let (body, head) = ended.stdout.rsplit_once('\n').unwrap();
        let (status, content_type) = head.split_once(' ').unwrap();
        Answer {
            status: status.parse().unwrap(),
            content_type: content_type.to_owned(),
            body: body.to_owned(),
        }
    }

    /// What is there.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask(&[], path);
        assert_eq!(answer.status, 200, "{path} {}", answer.body);
        answer.json()
    }

    /// What comes of this.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.ask(&["--data", &body.to_string()], path);
        (answer.status, answer.json())
    }

    /// Is refused with this status and code.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], path: &str, status: u16, code: &str) {
        let answer = self.ask(arguments, path);
        let found = answer.json();
        let found = (answer.status, &found["error"]["code"]);
        assert_eq!(found, (status, &json!(code)), "{}", answer.body);
    }
}
