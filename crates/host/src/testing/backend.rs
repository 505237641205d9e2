//! The host as the scripts of a case see it: accounts in the sandbox, everything else as the test
//! says.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider_config::{Presets, SecretRef, edit};
use postrider_schedule::{Clock, Draft};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::world::World;
use crate::app;
use crate::failure::Failure;
use crate::lua::request::{Request, Response};
use crate::lua::{
    AccountHandle, Activity, Backend, Ended, GatewayHook, HostEvent, Listener, MessageHook,
    Permissions, Program,
};

impl Backend for World {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            let account = self.configured(name).await?;
            Ok(account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn account_from_table(
        &self,
        table: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            let account = self.described(table).await?;
            Ok(account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Value> {
        async move {
            // Whoever has to sign in does; what keeps them from it is in the report.
            let _ = self.configured(name).await;
            Backend::check(&self.app(), name).await
        }
        .boxed()
    }

    fn explain(&self, text: &str) -> Value {
        Backend::explain(&self.app(), text)
    }

    fn account_names(&self) -> Vec<String> {
        self.app().account_names()
    }

    fn config_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        edit::get(&self.config_file(), key).map_err(|error| app::edit_failure(&error))
    }

    fn config_set<'a>(&'a self, key: &'a str, value: Value) -> BoxFuture<'a, Result<(), Failure>> {
        let set = edit::set(&self.config_file(), key, value, &Presets::builtin());
        ready(set.map_err(|error| app::edit_failure(&error))).boxed()
    }

    fn secret(&self, reference: SecretRef) -> BoxFuture<'_, Result<SecretString, Failure>> {
        ready(Ok(self.secret_for(&reference))).boxed()
    }

    fn http(&self, request: Request) -> BoxFuture<'_, Result<Response, Failure>> {
        ready(self.outside().answer(&request)).boxed()
    }

    fn subscribe(&self, listener: &Arc<dyn Listener>) {
        self.app().subscribe(listener);
    }

    fn remind(&self) {
        self.app().remind();
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        let app = self.app();
        async move { Backend::settle(&app).await }.boxed()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(World::clock(self).clone())
    }

    fn activity(&self) -> Activity {
        World::activity(self).clone()
    }

    fn emit(&self, event: HostEvent) {
        self.app().emit(event);
    }

    fn add_hook(&self, hook: &Arc<dyn MessageHook>) {
        self.app().add_hook(hook);
    }

    fn add_gateway_hook(&self, hook: &Arc<dyn GatewayHook>) {
        self.app().add_gateway_hook(hook);
    }

    fn draft(&self) -> Option<Draft> {
        Backend::draft(&self.app())
    }

    /// Only what the test sets.
    fn variable(&self, name: &str) -> Option<String> {
        self.outside().env(name).map(str::to_owned)
    }

    /// Nothing is started: the test says how it ends.
    fn run(&self, program: Program) -> BoxFuture<'_, Result<Ended, Failure>> {
        let arguments = program.arguments.iter();
        let arguments: Vec<String> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let path = program.path.display().to_string();
        let stdin = program.stdin.expose_secret();
        let ended = self.outside().run(&path, &arguments, stdin);
        let ended = ended.map(|ended| Ended {
            status: Some(ended.status),
            signal: None,
            stdout: ended.stdout,
            stderr: ended.stderr,
        });
        ready(ended).boxed()
    }

    /// What the configuration allows, and what the test gives.
    fn permissions(&self) -> Permissions {
        let mut permissions = self.app().permissions();
        let directory: PathBuf = self.directory().to_owned();
        permissions.env.extend(self.outside().variables());
        permissions.read.push(directory.clone());
        permissions.write.push(directory);
        permissions
    }
}
