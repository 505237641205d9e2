//! A sandbox of its own for a story, in a directory that is none of Postrider's.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Peer, http, postrider, write_private};

/// Who signs in, and where mail of theirs is accepted.
pub(crate) const PERSON: (&str, &str) = ("svc-mail@contoso.com", "svc-mail-password");

/// A running sandbox.
pub(crate) struct Sandbox {
    announced: Value,
    directory: TempDir,
    _peer: Peer,
}

impl Sandbox {
    /// The default scenario.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// A tenant where nobody registered anything, and nobody may do more than they need.
    pub(crate) fn of_a_new_tenant() -> Self {
        Self::with(|scenario| {
            scenario.remove("app");
            let permissions = scenario["permission"].as_array_of_tables_mut().unwrap();
            permissions.retain(|one| one["right"].as_str() != Some("full_access"));
        })
    }

    /// The default scenario, changed.
    pub(crate) fn with(change: impl FnOnce(&mut toml_edit::DocumentMut)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut scenario: toml_edit::DocumentMut =
            include_str!("../../crates/sandbox/scenarios/default.toml")
                .parse()
                .unwrap();
        change(&mut scenario);
        let file = directory.path().join("scenario.toml");
        write_private(&file, scenario.to_string());
        let (peer, announced) = Peer::announcing(
            postrider()
                .arg("--state-dir")
                .arg(directory.path())
                .args(["--json", "sandbox", "--scenario"])
                .arg(&file),
        );
        Self {
            announced,
            directory,
            _peer: peer,
        }
    }

    /// The lines for `postrider.toml`: the accounts `sandbox` and `sandbox-person`.
    pub(crate) fn config(&self) -> &str {
        self.text("config")
    }

    /// The address of its inbox and control API.
    pub(crate) fn address(&self) -> &str {
        self.text("inbox")
    }

    /// Where people sign in.
    pub(crate) fn authority(&self) -> &str {
        self.text("authority")
    }

    /// The sandbox's authority for TLS clients.
    pub(crate) fn ca_file(&self) -> &str {
        self.text("ca_file")
    }

    /// The port of its submission server.
    pub(crate) fn smtp_port(&self) -> &str {
        self.text("smtp").rsplit_once(':').unwrap().1
    }

    /// The value of the client secret that the configuration takes from the environment.
    pub(crate) fn client_secret(&self) -> (&str, &str) {
        let name = "SANDBOX_CLIENT_SECRET";
        (name, self.announced["environment"][name].as_str().unwrap())
    }

    /// Asks the control API; `path` starts behind `/v1/`.
    #[track_caller]
    pub(crate) fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}v1/{path}", self.text("inbox"));
        http::json(method, &url, body)
    }

    /// Makes the token endpoint answer with `effect` until told otherwise.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "it stands in the call as it is meant"
    )]
    pub(crate) fn break_tokens(&self, effect: Value) {
        self.mend_tokens();
        let fault = json!({ "at": "token", "effect": effect });
        self.control("POST", "scenario/fault", Some(&fault));
    }

    /// Ends what [`Self::break_tokens`] began.
    pub(crate) fn mend_tokens(&self) {
        self.control("DELETE", "scenario/fault/all", None);
    }

    /// What reached the token endpoint: entries of the log, `Token` for a fault that struck.
    pub(crate) fn token_log(&self) -> Vec<Value> {
        let log = self.control("GET", "log", None);
        let entries = log["entries"].as_array().unwrap().iter();
        let of_tokens = |entry: &&Value| {
            let what = entry["what"].as_str().unwrap();
            what == "Token" || what.starts_with("token")
        };
        entries.filter(of_tokens).cloned().collect()
    }

    /// How many requests reached the token endpoint.
    pub(crate) fn token_requests(&self) -> u64 {
        let counts = self.control("GET", "token-requests", None);
        let kinds = counts.as_object().unwrap().values();
        kinds.map(|kind| kind["requests"].as_u64().unwrap()).sum()
    }

    /// What became of those that it decided upon: `granted`, or why one was refused.
    pub(crate) fn token_outcomes(&self) -> Vec<String> {
        let log = self.token_log().into_iter();
        let decided = log.filter(|entry| entry["what"] != "Token");
        let outcome = |entry: Value| match entry["outcome"].as_str() {
            Some("done") => "granted".to_owned(),
            _ => entry["why"].to_string(),
        };
        decided.map(outcome).collect()
    }

    /// Counts from zero again, and forgets the log.
    pub(crate) fn count_from_zero(&self) {
        self.control("DELETE", "token-requests", None);
        self.control("DELETE", "log", None);
    }

    /// The messages that arrived for `mailbox`.
    pub(crate) fn mail(&self, mailbox: &str) -> Vec<PathBuf> {
        let mail = self.directory.path().join("sandbox/mail").join(mailbox);
        super::files(&mail, "eml")
    }

    /// Where the sandbox keeps what is its own.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn text(&self, key: &str) -> &str {
        self.announced[key].as_str().unwrap()
    }
}

/// The text of a message that arrived.
pub(crate) fn read_mail(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
