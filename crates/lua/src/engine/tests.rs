//! What is registered is what is described, and a script sees nothing else.

use std::collections::BTreeSet;

use super::*;
use crate::{AccountHandle, Activity, Limits};
use postrider_lua_api::reference;
use postrider_lua_api::{Kind, STANDARD, items};

/// A host with nothing in it.
struct Empty;

impl Backend for Empty {
    fn account_from_config<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async move { Err(Failure::new("config.unknown_account", name)) })
    }

    fn account_from_table(
        &self,
        _: serde_json::Value,
    ) -> BoxFuture<'_, Result<Arc<dyn AccountHandle>, Failure>> {
        Box::pin(async { Err(Failure::new("config.invalid", "no account")) })
    }

    fn check<'a>(&'a self, _: &'a str) -> BoxFuture<'a, serde_json::Value> {
        Box::pin(async { serde_json::Value::Null })
    }

    fn explain(&self, _: &str) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn account_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn config_get(&self, _: &str) -> Result<Option<serde_json::Value>, Failure> {
        Ok(None)
    }

    fn config_set<'a>(
        &'a self,
        _: &'a str,
        _: serde_json::Value,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn secret(
        &self,
        _: postrider_config::SecretRef,
    ) -> BoxFuture<'_, Result<secrecy::SecretString, Failure>> {
        Box::pin(async { Err(Failure::new("secret.missing", "no secret")) })
    }

    fn http(
        &self,
        _: crate::request::Request,
    ) -> BoxFuture<'_, Result<crate::request::Response, Failure>> {
        Box::pin(async { Err(Failure::new("network.connect", "no network")) })
    }

    fn subscribe(&self, _: &Arc<dyn crate::Listener>) {}

    fn remind(&self) {}

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn world(meter: &Arc<Meter>) -> World {
    let (invoker, _) = Invoker::new("test.lua", meter, Activity::default());
    World {
        directory: PathBuf::new(),
        args: Vec::new(),
        backend: Arc::new(Empty),
        output: Arc::new(Mutex::new(std::io::sink())),
        invoker,
        handlers: Arc::default(),
        schedules: Arc::new(Schedules::new(None)),
        files: Arc::default(),
        test: None,
    }
}

fn engine() -> Core {
    let meter = Arc::new(Meter::new(Limits::default()));
    Core::new(world(&meter), &meter).unwrap()
}

fn keys(table: &Table) -> BTreeSet<String> {
    table
        .pairs::<String, Value>()
        .map(|pair| pair.unwrap().0)
        .collect()
}

#[test]
fn everything_registered_is_described_and_nothing_else() {
    let lua = bare_state();
    let meter = Arc::new(Meter::new(Limits::default()));
    let api = Registrar {
        lua: &lua,
        meter: &meter,
        ready: lua.create_table().unwrap(),
        waiting: lua.create_table().unwrap(),
    };
    let sources = Arc::new(Sources::new(PathBuf::new(), None, Arc::default()));
    register(&api, &world(&meter), &sources).unwrap();
    let described = |wanted: &dyn Fn(&Kind) -> bool| -> BTreeSet<String> {
        // `t` is there in a test file only.
        let items =
            items().filter(|item| !item.name.starts_with("t.") && !item.name.starts_with("t:"));
        let items = items.filter(|item| wanted(&item.kind));
        items.map(|item| item.name.to_owned()).collect()
    };

    let waiting = described(&|kind| matches!(kind, Kind::Function { waits: true, .. }));
    assert_eq!(keys(&api.waiting), waiting);
    let mut ready = keys(&api.ready);
    // A property is a value to the script, and a function to us.
    let properties = ["account.name", "schedule.name"].map(str::to_owned);
    for property in &properties {
        assert!(ready.remove(property), "{property}");
    }
    assert_eq!(
        ready,
        described(&|kind| matches!(kind, Kind::Function { waits: false, .. }))
    );
    let mut values = keys(&values(&lua, &[]).unwrap());
    values.extend(properties);
    assert_eq!(values, described(&|kind| matches!(kind, Kind::Value(_))));
}

#[test]
fn a_script_has_the_described_library_and_nothing_else() {
    let engine = engine();
    let globals = engine.lua.globals();
    let mut libraries = BTreeSet::new();
    for (library, names) in STANDARD {
        let table = match *library {
            "_G" => globals.clone(),
            library => {
                libraries.insert(library.to_owned());
                globals.get::<Table>(library).unwrap()
            }
        };
        let mut present = keys(&table);
        if *library == "_G" {
            for (library, _) in &STANDARD[1..] {
                assert!(present.remove(*library), "{library}");
            }
        }
        let described: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(present, described, "{library}");
    }
    assert_eq!(libraries.len(), STANDARD.len() - 1);
}

#[test]
fn every_example_in_the_reference_is_lua() {
    let engine = engine();
    let page = reference();
    let mut examples = 0;
    for block in page.split("```lua\n").skip(1) {
        let example = block.split("```").next().unwrap();
        compile(&engine.lua, example.as_bytes(), "example.lua").unwrap();
        examples += 1;
    }
    assert_eq!(examples, items().count() + 1);
}
