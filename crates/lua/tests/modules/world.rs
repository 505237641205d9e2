//! A script in a folder of its own, a host with no mail, and what it permits.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use postrider_config::SecretRef;
use postrider_lua::request::{Request, Response};
use postrider_lua::{AccountHandle, Backend, Failure, Listener, Permissions, Script, ScriptError};
use secrecy::SecretString;
use serde_json::Value;

/// A folder, which a script and what it may reach are in.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

struct Host(Permissions);

impl World {
    /// With these files in it.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, text) in files {
            let path = world.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `scripts/script.lua`, which may read and write in `in` and `out`, and has `lib`.
    pub(crate) async fn run(&self, script: &str) -> Result<String, ScriptError> {
        let permissions = Permissions {
            lib: Some(self.path("lib")),
            env: vec!["PATH".to_owned(), "POSTRIDER_TEST_UNSET".to_owned()],
            run: ["/bin/sh", "/bin/cat", "/usr/bin/env", "/nonexistent/x"]
                .map(Into::into)
                .to_vec(),
            read: vec![self.path("in"), self.path("out")],
            write: vec![self.path("out")],
        };
        self.run_with(permissions, script).await
    }

    pub(crate) async fn run_with(
        &self,
        permissions: Permissions,
        script: &str,
    ) -> Result<String, ScriptError> {
        for name in ["scripts", "in", "out", "lib"] {
            std::fs::create_dir_all(self.path(name)).unwrap();
        }
        let path = self.path("scripts/script.lua");
        let head = "local pr = require 'postrider' ";
        std::fs::write(&path, format!("{head}{}", script.trim_start())).unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        Script::new(path, Arc::new(Host(permissions)))
            .output(Arc::<Mutex<Vec<u8>>>::clone(&printed) as Arc<Mutex<dyn Write + Send>>)
            .run()
            .await?;
        let printed = String::from_utf8_lossy(&printed.lock().unwrap()).into_owned();
        Ok(self.shortened(&printed))
    }

    /// The lines that a script printed which ended well.
    pub(crate) async fn lines(&self, script: &str) -> Vec<String> {
        match self.run(script).await {
            Ok(printed) => printed.lines().map(str::to_owned).collect(),
            Err(error) => panic!("{}", self.shortened(&error.to_string())),
        }
    }

    /// Places begin with the folder, which differs each time.
    pub(crate) fn shortened(&self, text: &str) -> String {
        let folder: &Path = self.folder.path();
        text.replace(&format!("{}/", folder.display()), "")
    }
}

impl Backend for Host {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async move { Err(Failure::new("config.no_such_account", name)) })
    }

    fn account_from_table(
        &self,
        _: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async { Err(Failure::new("config.invalid", "no account")) })
    }

    fn check<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Value> {
        Box::pin(async { Value::Null })
    }

    fn explain(&self, _: &str) -> Value {
        Value::Null
    }

    fn account_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn config_get(&self, _: &str) -> Result<Option<Value>, Failure> {
        Ok(None)
    }

    fn config_set<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn secret(&self, reference: SecretRef) -> BoxFuture<'_, Result<SecretString, Failure>> {
        Box::pin(async move {
            match reference {
                SecretRef::Env(_) => Ok("hunter2".into()),
                _ => Err(Failure::new("secret.missing", "no secret")),
            }
        })
    }

    fn http(&self, _: Request) -> BoxFuture<'_, Result<Response, Failure>> {
        Box::pin(async { Err(Failure::new("network.connect", "no network")) })
    }

    fn subscribe(&self, _: &Arc<dyn Listener>) {}

    fn remind(&self) {}

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn permissions(&self) -> Permissions {
        self.0.clone()
    }
}
