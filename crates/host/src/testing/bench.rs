//! What `t` can do to the world.

use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use postrider_sandbox::scenario::{Effect, Fault, FaultPoint, HttpAnswer};
use postrider_schedule::Clock as _;
use serde_json::Value;

use super::world::World;
use super::{gateway, redirect};
use crate::failure::Failure;
use crate::lua::{Backend, Bench, HostEvent, Scripted, Submitted};

impl Bench for World {
    fn now(&self) -> Timestamp {
        self.clock().now()
    }

    fn move_to(&self, to: Timestamp) -> BoxFuture<'_, Result<(), Failure>> {
        World::move_to(self, to).boxed()
    }

    fn load(&self, script: String, args: Vec<String>) -> BoxFuture<'_, Result<(), Failure>> {
        async move { World::load(self, &script, &args).await }.boxed()
    }

    fn run(&self, script: String, args: Vec<String>) -> BoxFuture<'_, Result<(), Failure>> {
        async move { World::run(self, &script, &args).await }.boxed()
    }

    fn configure(&self, toml: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move { self.settle_in(&toml, Path::new("t:config")) }.boxed()
    }

    fn script(&self, answer: Scripted) -> Result<(), Failure> {
        let left = self.outside().script(answer);
        let Some(fault) = left.and_then(fault) else {
            return Ok(());
        };
        let changed = self
            .sandbox()
            .state()
            .change(|scenario| scenario.faults.push(fault));
        changed.map_err(|error| redirect::refused(&error))
    }

    fn outbox(&self) -> Value {
        World::outbox(self)
    }

    fn events(&self) -> Value {
        World::events(self)
    }

    fn log(&self) -> Vec<String> {
        World::log(self).lines()
    }

    fn requests(&self) -> Value {
        self.outside().requests()
    }

    fn runs(&self) -> Value {
        self.outside().runs()
    }

    fn set_env(&self, name: String, value: String) {
        self.outside().set_env(name, value);
    }

    fn set_secret(&self, name: String, value: String) {
        self.outside().set_secret(name, value);
    }

    fn directory(&self) -> PathBuf {
        World::directory(self).to_owned()
    }

    fn schedule(&self, name: &str) -> Result<Value, Failure> {
        self.standing(name)
    }

    fn run_schedule(&self, name: String) -> BoxFuture<'_, Result<(), Failure>> {
        async move { self.run_now(&name).await }.boxed()
    }

    fn submit(&self, submitted: Submitted) -> BoxFuture<'_, Result<Value, Failure>> {
        gateway::submit(self, submitted).boxed()
    }

    fn emit(&self, name: String, payload: Value) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            Backend::emit(self, HostEvent::new(name, payload));
            self.rest().await
        }
        .boxed()
    }
}

/// What the sandbox is to do, if it is for the sandbox.
fn fault(answer: Scripted) -> Option<Fault> {
    let (at, effect, times, only_for) = match answer {
        Scripted::Smtp {
            at,
            reply,
            times,
            only_for,
        } => {
            let at = match at {
                "connect" => FaultPoint::SmtpConnect,
                "auth" => FaultPoint::SmtpAuth,
                "mail" => FaultPoint::SmtpMail,
                "rcpt" => FaultPoint::SmtpRcpt,
                _ => FaultPoint::SmtpMessage,
            };
            (at, Effect::Reply(reply), times, only_for)
        }
        Scripted::Lost { times, only_for } => {
            (FaultPoint::SmtpMessage, Effect::LoseReply, times, only_for)
        }
        Scripted::Oauth {
            status,
            body,
            retry_after,
            times,
        } => {
            let answer = HttpAnswer {
                status,
                retry_after,
                body: body.to_string(),
                content_type: "application/json; charset=utf-8".to_owned(),
            };
            (FaultPoint::Token, Effect::Http(answer), times, None)
        }
        Scripted::Http { .. } | Scripted::Process { .. } => return None,
    };
    Some(Fault {
        times,
        only_for,
        ..Fault::new(at, effect)
    })
}
