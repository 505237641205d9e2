//! A certified OpenID provider (`oidc-provider`), whose refresh tokens are for one use.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Peer, find_program, http, root};

/// A running provider.
pub(crate) struct OpenId {
    announced: Value,
    directory: TempDir,
    _peer: Peer,
}

impl OpenId {
    /// The id and the secret of the confidential client.
    pub(crate) const CLIENT: (&str, &str) = ("postrider", "the-client-secret");

    /// Starts it in a directory of its own, or says what is missing. Tokens without a person
    /// carry `email`.
    pub(crate) fn start(email: &str) -> Result<Self, String> {
        let node = find_program("node").ok_or("node is not installed (package nodejs)")?;
        let peers = root().join("tests/peers");
        if !peers.join("node_modules/oidc-provider").exists() {
            return Err("oidc-provider is not installed (npm ci in tests/peers)".into());
        }
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = server_certificate(directory.path());
        let (peer, announced) = Peer::announcing(
            Command::new(node)
                .arg(peers.join("provider.js"))
                .args([&certificate, &key])
                .args([Self::CLIENT.0, Self::CLIENT.1, email]),
        );
        Ok(Self {
            announced,
            directory,
            _peer: peer,
        })
    }

    /// What it announced under this name.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.announced[name].as_str().unwrap()
    }

    /// Its certificate, which is its own authority.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// Lines for `postrider.toml`: an account of a person at this provider.
    pub(crate) fn person(&self, name: &str, username: &str, flow: &str) -> String {
        format!(
            r#"
[account.{name}]
username = "{username}"
server = {{ host = "localhost", port = 1 }}
ca_file = "{ca_file}"

[account.{name}.auth]
plugin = "oauth"
flow = "{flow}"
issuer = "{issuer}"
client_id = "{client}"
scopes = ["openid", "email", "profile", "offline_access"]
"#,
            ca_file = self.ca_file().display(),
            issuer = self.text("issuer"),
            client = self.text("person_client"),
        )
    }

    /// Every request to its token endpoint so far.
    pub(crate) fn token_log(&self) -> Vec<Value> {
        let url = format!("{}/requests", self.text("control"));
        http::json("GET", &url, None).as_array().unwrap().clone()
    }

    /// How many requests its token endpoint saw.
    pub(crate) fn token_requests(&self) -> u64 {
        self.token_log().len() as u64
    }

    /// What became of each of them: `granted`, or the error.
    pub(crate) fn token_outcomes(&self) -> Vec<String> {
        let text = |entry: &Value| entry["outcome"].as_str().unwrap_or("none").to_owned();
        self.token_log().iter().map(text).collect()
    }

    /// What becomes of the next token requests; see `provider.js`.
    pub(crate) fn fault(&self, fault: &Value) {
        http::json(
            "POST",
            &format!("{}/fault", self.text("control")),
            Some(fault),
        );
    }
}

/// A certificate for `localhost` that is its own authority.
pub(crate) fn server_certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = directory.join("certificate.pem");
    let key = directory.join("key.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}
