//! A person with a browser: Debian's Chromium, driven by `peers/sign_in.js`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{find_program, root};

/// A person with a browser.
pub(crate) struct Browser {
    process: Child,
    requests: Option<ChildStdin>,
    pages: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts it, or says what is missing.
    pub(crate) fn start() -> Result<Self, String> {
        let chromium = find_program("chromium").ok_or("chromium is not installed")?;
        let node = find_program("node").ok_or("node is not installed (package nodejs)")?;
        let peers = root().join("tests/peers");
        if !peers.join("node_modules/playwright-core").exists() {
            return Err("playwright-core is not installed (npm ci in tests/peers)".into());
        }
        let mut process = Command::new(node)
            .arg(peers.join("sign_in.js"))
            .arg(chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Ok(Self {
            requests: process.stdin.take(),
            pages: BufReader::new(process.stdout.take().unwrap()),
            process,
        })
    }

    /// Signs in at `url` and consents; gives the last page: `url`, `text` and the `steps`.
    #[track_caller]
    pub(crate) fn sign_in(&mut self, url: &str, (user, password): (&str, &str)) -> Value {
        self.act(&json!({ "url": url, "user": user, "password": password }))
    }

    /// The same with everything that `peers/sign_in.js` understands.
    #[track_caller]
    pub(crate) fn act(&mut self, request: &Value) -> Value {
        writeln!(self.requests.as_mut().unwrap(), "{request}").unwrap();
        let mut page = String::new();
        self.pages.read_line(&mut page).unwrap();
        let page: Value = serde_json::from_str(&page).expect("the browser answers");
        assert!(page["error"].is_null(), "{request}: {page}");
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It closes Chromium when nothing more is asked of it; killed, it could not.
        self.requests = None;
        let _ = self.process.wait();
    }
}
