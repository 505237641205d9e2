//! A plugin that panics where its setting `at` says: `create`, `begin`, `step`, `end`, or
//! nowhere. For the tests of whoever loads plugins; `cargo test` builds it as
//! `target/debug/examples/libpanics.so`.
//!
//! Each panic's message quotes a secret, which nobody must get to see.

use std::time::Duration;

use postrider_plugin::wire::{Config, Description, ObtainInput, Op, Secret, Tokens};
use postrider_plugin::{Error, Io, Plugin};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Settings {
    /// Where to panic.
    #[serde(default)]
    at: String,
}

struct Panics {
    at: String,
}

impl Panics {
    fn reach(&self, place: &str) {
        assert!(self.at != place, "the password hunter2 panicked at {place}");
    }
}

struct AtEnd<'a>(&'a Panics);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.reach("end");
    }
}

impl Plugin for Panics {
    fn describe() -> Description {
        Description {
            name: "panics".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "panics where it is told to".into(),
            ops: vec![Op::Obtain],
            mechanisms: vec![],
            config_schema: schemars::schema_for!(Settings),
            hosts: vec![],
        }
    }

    fn create(config: Config) -> Result<Self, Error> {
        let Settings { at } = config.settings()?;
        let plugin = Self { at };
        plugin.reach("create");
        Ok(plugin)
    }

    async fn obtain(&self, io: Io, _: ObtainInput) -> Result<Tokens, Error> {
        let _at_end = AtEnd(self);
        self.reach("begin");
        io.sleep(Duration::from_millis(1)).await?;
        self.reach("step");
        let access_token = Secret::new("token");
        Ok(Tokens {
            access_token,
            ..Tokens::default()
        })
    }
}

postrider_plugin::export!(Panics);
