//! The app as scripts see it.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider_config::{self as config, SecretRef};
use postrider_diagnose as diagnose;
use postrider_schedule::{Clock, Draft};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{App, DoctorOptions, DoctorReport, Freshness, SETTLING, failures, renewal, standing};
use crate::failure::Failure;
use crate::http;
use crate::lua::{
    AccountHandle, Activity, Backend, Ended, GatewayHook, HostEvent, Listener, MessageHook,
    Permissions, Program, SecretRotation,
};

impl Backend for App {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            self.account(name)
                .await
                .map(|account| account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn account_from_table(
        &self,
        table: Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        async move {
            let name = table
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("script")
                .to_owned();
            let presets = &self.0.lasting.world.presets;
            let settings =
                config::Account::from_value(&name, table, presets).map_err(|problems| {
                    failures::problems(&name.escape_debug().to_string(), &problems)
                })?;
            let account = self.set_up(settings).await?;
            self.lead_also_to(&account);
            Ok(account as Arc<dyn AccountHandle>)
        }
        .boxed()
    }

    fn check<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Value> {
        async move {
            let options = DoctorOptions {
                freshness: Freshness::Kept,
                ..DoctorOptions::default()
            };
            match self.doctor(name, &options).await {
                Ok(report) => report.for_scripts(),
                Err(failure) => DoctorReport::without_account(name, failure).for_scripts(),
            }
        }
        .boxed()
    }

    fn explain(&self, text: &str) -> Value {
        let found = diagnose::explain(text, diagnose::Subject::default());
        let told = found.into_iter().map(|one| {
            let diagnosis = one.diagnosis;
            json!({
                "kind": one.kind,
                "original": one.original,
                "retryable": diagnosis.retryable(),
                "code": diagnosis.code,
                "known": diagnosis.known,
                "cause": diagnosis.cause,
                "remedy": diagnosis.remedy,
                "who": diagnosis.who.to_string(),
                "verdict": diagnosis.verdict,
                "fresh_token": diagnosis.fresh_token,
                "source": diagnosis.source,
            })
        });
        told.collect()
    }

    fn rotate_client_secret<'a>(
        &'a self,
        account: &'a str,
        rotation: SecretRotation,
    ) -> BoxFuture<'a, Result<Value, Failure>> {
        async move {
            let options = renewal::Options {
                action: if rotation.finish {
                    renewal::Action::Finish
                } else {
                    renewal::Action::Renew
                },
                lifetime: rotation.lifetime,
                overlap: rotation.overlap,
                administrator: None,
            };
            let renewed = self.renew(account, &options, Arc::new(|_| {})).await?;
            Ok(standing::for_scripts(&renewed))
        }
        .boxed()
    }

    fn account_names(&self) -> Vec<String> {
        self.0.config.accounts.keys().cloned().collect()
    }

    fn config_get(&self, key: &str) -> Result<Option<Value>, Failure> {
        let Some(path) = self.config_path() else {
            return Ok(None);
        };
        config::edit::get(path, key).map_err(|error| failures::edit(&error))
    }

    fn config_set<'a>(&'a self, key: &'a str, value: Value) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Some(path) = self.config_path().map(Path::to_owned) else {
                return Err(Failure::new(
                    "config.no_file",
                    "there is no configuration file to change",
                )
                .with_remedy("name one with --config, or create ./postrider.toml"));
            };
            let (key, app) = (key.to_owned(), self.clone());
            tokio::task::spawn_blocking(move || {
                config::edit::set(&path, &key, value, &app.0.lasting.world.presets)
                    .map_err(|error| failures::edit(&error))
            })
            .await
            .map_err(|_| Failure::new("internal", "the change was interrupted"))?
        }
        .boxed()
    }

    fn secret(&self, reference: SecretRef) -> BoxFuture<'_, Result<SecretString, Failure>> {
        let app = self.clone();
        async move {
            tokio::task::spawn_blocking(move || {
                if let SecretRef::Env(variable) = &reference
                    && let Some(value) = app.0.lasting.world.stand_ins.get(variable)
                {
                    return Ok(value.clone());
                }
                app.0.lasting.vault.resolve(&reference, Path::new(""))
            })
            .await
            .map_err(|_| Failure::new("internal", "reading the secret was interrupted"))?
        }
        .boxed()
    }

    fn http(&self, request: http::Request) -> BoxFuture<'_, Result<http::Response, Failure>> {
        self.0.lasting.http.send(request).boxed()
    }

    fn subscribe(&self, listener: &Arc<dyn Listener>) {
        self.0.lasting.events.subscribe(listener);
    }

    fn remind(&self) {
        if let Some(tending) = &*self.0.lasting.tending() {
            for credential in tending.everybody() {
                self.0.lasting.keeper.remind(&credential);
            }
        }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.lasting.world.clock)
    }

    fn activity(&self) -> Activity {
        self.0.lasting.world.activity.clone()
    }

    fn emit(&self, event: HostEvent) {
        self.0.lasting.events.pass_on(event);
    }

    fn add_hook(&self, hook: &Arc<dyn MessageHook>) {
        self.0.lasting.hooks.add(hook);
    }

    fn add_gateway_hook(&self, hook: &Arc<dyn GatewayHook>) {
        self.0.lasting.gateway_hooks.add(hook);
    }

    fn draft(&self) -> Option<Draft> {
        Some(App::draft(self).clone())
    }

    fn permissions(&self) -> Permissions {
        Permissions::from(&self.0.config.scripts)
    }

    fn run(&self, program: Program) -> BoxFuture<'_, Result<Ended, Failure>> {
        if self.0.lasting.world.confined_to.is_none() {
            return program.run().boxed();
        }
        let message = format!(
            "in the sandbox no program is started: {} was not",
            program.path.display()
        );
        let remedy = "run without --sandbox (the repl with --live)";
        let failure = Failure::new("program.outside_sandbox", message).with_remedy(remedy);
        ready(Err(failure)).boxed()
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        self.0.lasting.keeper.settle(SETTLING).boxed()
    }
}
