//! The script a newcomer reads first, through a server nobody here wrote: Dovecot's submission
//! service, with tokens of a certified OpenID provider, relaying to Postfix's smtp-sink.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Peer, await_port, files, find_program, free_port, postrider, root, run, skip};
use tempfile::TempDir;

/// Dovecot with a sink behind it and an OpenID provider beside it.
struct World {
    directory: TempDir,
    submission_port: u16,
    issuer: String,
    _peers: [Peer; 3],
}

impl World {
    /// Starts everything, or says what is missing.
    fn start() -> Result<Self, String> {
        let program = |name: &str, package: &str| {
            find_program(name).ok_or(format!("{name} is not installed (package {package})"))
        };
        let dovecot = program("dovecot", "dovecot-core")?;
        if !Path::new("/usr/lib/dovecot/submission-login").exists() {
            return Err("Dovecot has no submission service (package dovecot-submissiond)".into());
        }
        let sink = program("smtp-sink", "postfix")?;
        let node = program("node", "nodejs")?;
        let openid = root().join("tests/peers");
        if !openid.join("node_modules/oidc-provider").exists() {
            return Err("oidc-provider is not installed (npm ci in tests/peers)".into());
        }
        if !rustix::process::geteuid().is_root() {
            return Err("Dovecot's own users can only be taken on by root".into());
        }

        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        let (certificate, key) = support::openid::server_certificate(home);

        let (provider, announced) = Peer::announcing(
            Command::new(node)
                .arg(openid.join("provider.js"))
                .args([&certificate, &key])
                .args(["postrider", "the-client-secret", "printer@example.org"]),
        );
        let text = |name: &str| announced[name].as_str().unwrap().to_owned();

        let keys = home.join("keys/default/RS256");
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join(text("kid")), text("public_key")).unwrap();
        fs::create_dir(home.join("sink")).unwrap();
        open_to_all(home);

        let (submission_port, sink_port) = (free_port(), free_port());
        let sink = Peer::start(
            Command::new(sink)
                .args(["-u", "nobody", "-d"])
                .arg(home.join("sink/%M."))
                .args([&format!("127.0.0.1:{sink_port}"), "16"]),
        );
        fs::write(
            home.join("oauth2.ext"),
            format!(
                "introspection_mode = local\n\
                 local_validation_key_dict = fs:posix:prefix={}/keys/\n\
                 username_attribute = email\n\
                 issuers = {}\n",
                home.display(),
                text("issuer")
            ),
        )
        .unwrap();
        let config = home.join("dovecot.conf");
        fs::write(&config, dovecot_config(home, submission_port, sink_port)).unwrap();
        let dovecot = Peer::start(Command::new(dovecot).arg("-F").arg("-c").arg(&config));
        await_port(sink_port);
        await_port(submission_port);

        Ok(Self {
            submission_port,
            issuer: text("issuer"),
            directory,
            _peers: [dovecot, sink, provider],
        })
    }

    /// A configuration with one account per way to authenticate.
    fn config(&self) -> PathBuf {
        let path = self.directory.path().join("postrider.toml");
        support::write_private(
            &path,
            format!(
                r#"
[account.oauth]
username = "printer@example.org"
sender = "printer@example.org"
ca_file = "{home}/certificate.pem"
server = {{ host = "localhost", port = {port}, tls = "starttls" }}

[account.oauth.auth]
plugin = "oauth"
flow = "client_credentials"
issuer = "{issuer}"
client_id = "postrider"
client_secret = {{ env = "CLIENT_SECRET" }}
client_auth = "basic"
scopes = ["smtp"]

[account.password]
username = "printer@example.org"
sender = "printer@example.org"
ca_file = "{home}/certificate.pem"
server = {{ host = "localhost", port = {port}, tls = "starttls" }}
auth = {{ plugin = "basic", password = {{ env = "PASSWORD" }} }}
"#,
                home = self.directory.path().display(),
                port = self.submission_port,
                issuer = self.issuer,
            ),
        );
        path
    }

    fn postrider(&self) -> Command {
        let mut command = postrider();
        command
            .arg("--config")
            .arg(self.config())
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .env("CLIENT_SECRET", "the-client-secret")
            .env("PASSWORD", "printer-password");
        command
    }

    fn arrived(&self) -> Vec<PathBuf> {
        files(&self.directory.path().join("sink"), "")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("dovecot.log"));
            eprintln!("--- dovecot.log\n{}", log.unwrap_or_default());
        }
    }
}

#[test]
fn the_quickstart_sends_through_dovecot_with_tokens_of_a_certified_provider() {
    let world = match World::start() {
        Ok(world) => world,
        Err(reason) => return skip(&reason),
    };

    run(world
        .postrider()
        .current_dir(root())
        .args(["run", "scripts/quickstart.lua", "oauth"]))
    .expect_status(0);

    let arrived: Option<Vec<_>> = world
        .arrived()
        .iter()
        .map(|path| support::parse_with_python(path))
        .collect();
    let Some(arrived) = arrived else {
        return skip("python3 is not installed");
    };
    let disk = arrived
        .iter()
        .find(|message| {
            message["subject"]
                .as_str()
                .unwrap()
                .starts_with("Disk at 91 % – ")
        })
        .expect("the quickstart's message reached the sink");
    assert_eq!(disk["defects"], serde_json::json!([]));
    assert_eq!(disk["attachments"][0]["name"], "disks.csv");
    assert_eq!(
        disk["to"],
        serde_json::json!(["admin@contoso.com", "night@example.net"])
    );
}

#[test]
fn every_mechanism_of_dovecot_is_spoken() {
    let world = match World::start() {
        Ok(world) => world,
        Err(reason) => return skip(&reason),
    };

    for (number, account) in ["oauth", "password"].into_iter().enumerate() {
        run(world.postrider().args([
            "send",
            "--account",
            account,
            "--to",
            "someone@example.net",
            "--subject",
            "Grüße",
            "--text",
            "one\n.two\nthree",
        ]))
        .expect_status(0);
        assert_eq!(world.arrived().len(), number + 1, "{account}");
    }

    // A wrong secret and a wrong password are told apart, and neither is repeated.
    let refused = run(world
        .postrider()
        .env("CLIENT_SECRET", "another-secret")
        .args(["account", "test", "oauth", "--no-send"]))
    .expect_status(77);
    assert!(refused.stdout.contains("client"), "{}", refused.stdout);
    let refused = run(world.postrider().env("PASSWORD", "another-password").args([
        "account",
        "test",
        "password",
        "--no-send",
    ]))
    .expect_status(77);
    assert!(refused.stdout.contains("535"), "{}", refused.stdout);
    for said in [&refused.stdout, &refused.stderr] {
        assert!(!said.contains("another-"), "{said}");
    }
}

/// Dovecot and the sink give up root: they must still reach their files.
fn open_to_all(home: &Path) {
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    let sink = home.join("sink");
    fs::set_permissions(&sink, fs::Permissions::from_mode(0o777)).unwrap();
    chown(&sink, None, None).unwrap();
}

fn dovecot_config(home: &Path, port: u16, sink_port: u16) -> String {
    let home = home.display();
    format!(
        "protocols = submission
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
auth_verbose = yes
listen = 127.0.0.1
ssl = required
ssl_cert = <{home}/certificate.pem
ssl_key = <{home}/key.pem
ssl_min_protocol = TLSv1.2
auth_mechanisms = plain xoauth2 oauthbearer
disable_plaintext_auth = yes
hostname = localhost
mail_location = maildir:{home}/mail/%u
first_valid_uid = 1
submission_relay_host = 127.0.0.1
submission_relay_port = {sink_port}
submission_relay_trusted = no
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {home}/oauth2.ext
}}
passdb {{
  driver = static
  mechanisms = plain
  args = password=printer-password
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={home}/mail/%u
}}
"
    )
}
