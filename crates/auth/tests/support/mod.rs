//! Plugins built for a test, and a world to use them in.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use postrider_auth::{
    Credential, Environment, GrantPolicy, Http, HttpSettings, InstanceSettings, Keeper,
    LoadedPlugin, NoTally, ProxySetting, SecretSource, SystemClock, Unattended,
};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// Builds a plugin from C as `libpostrider_NAME.so` in a directory of its own.
pub(crate) struct Built {
    _directory: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Built {
    /// From a file of the project.
    pub(crate) fn from_file(name: &str, source: &str) -> Self {
        Self::new(name, &root().join(source))
    }

    /// From text that includes `bad.h`.
    pub(crate) fn from_text(name: &str, text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("plugin.c");
        fs::write(&source, text).unwrap();
        Self::new(name, &source)
    }

    fn new(name: &str, source: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let suffix = std::env::consts::DLL_SUFFIX;
        let path = directory
            .path()
            .join(format!("libpostrider_{name}{suffix}"));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler)
            .args([
                "-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
            ])
            .arg("-fvisibility=hidden")
            .arg("-I")
            .arg(root().join("crates/plugin/include"))
            .arg("-I")
            .arg(root().join("plugins/examples/bad"))
            .arg("-o")
            .args([&path, source])
            .output()
            .expect("a C compiler: cc, or what CC names");
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{}: {errors}", source.display());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            path,
            _directory: directory,
        }
    }

    pub(crate) fn pin(&self) -> String {
        sha256(&self.path)
    }
}

pub(crate) fn sha256(path: &Path) -> String {
    let mut hex = String::new();
    for octet in Sha256::digest(fs::read(path).unwrap()) {
        write!(hex, "{octet:02x}").unwrap();
    }
    hex
}

struct Secrets(BTreeMap<String, String>);

impl SecretSource for Secrets {
    fn secret(&self, name: &str) -> Result<SecretString, String> {
        let secret = self.0.get(name).ok_or("it is not set")?;
        Ok(SecretString::from(secret.as_str()))
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn identity(&self, name: &str) -> String {
        format!("test={name}")
    }
}

/// A credential in a world of its own.
pub(crate) fn credential(
    plugin: Arc<LoadedPlugin>,
    settings: Value,
    secrets: &[(&str, &str)],
    allow_hosts: &[String],
) -> Credential {
    let Value::Object(settings) = settings else {
        panic!("an object")
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let environment = Environment {
        http: Http::new(HttpSettings {
            proxy: ProxySetting::Direct,
            ..HttpSettings::new(tls)
        })
        .unwrap(),
        clock: Arc::new(SystemClock),
        interaction: Arc::new(Unattended),
        keeper: Keeper::in_memory(Arc::new(SystemClock)),
        tally: Arc::new(NoTally),
    };
    let secrets = secrets
        .iter()
        .map(|(name, secret)| ((*name).to_owned(), (*secret).to_owned()))
        .collect();
    Credential::new(
        plugin,
        InstanceSettings {
            account: "ops".into(),
            username: "ops@example.org".into(),
            settings,
            secrets: Arc::new(Secrets(secrets)),
            allow_hosts: allow_hosts.to_vec(),
            policy: GrantPolicy::default(),
            expiries: Vec::new(),
        },
        Arc::new(environment),
    )
    .unwrap()
}
