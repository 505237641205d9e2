//! `require`: modules of the script's own directory and of `[scripts] lib`.
//!
//! The chunk is called by the prelude, in Lua: what waits may wait in a module, too. Only text
//! is loaded, no bytecode and no C.

use std::path::PathBuf;
use std::sync::Arc;

use mlua::{Function, Lua, Value};

use crate::call::{Args, Registrar};
use crate::engine::compile;
use crate::fault::{self, Fault};
use crate::sources::{Sources, Unusable};

/// Registers what the prelude builds `require` of.
pub(crate) fn register(registrar: &Registrar<'_>, sources: &Arc<Sources>) -> mlua::Result<()> {
    let sources = Arc::clone(sources);
    registrar.add("require", move |lua, args| load(lua, &sources, args))
}

/// The chunk of the module `a.b`, which is `a/b.lua` or `a/b/init.lua`, and its path.
fn load(lua: &Lua, sources: &Sources, mut args: Args) -> Result<(Function, String), Fault> {
    let name = args.text("module")?;
    args.end()?;
    let is_word = |word: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        !word.is_empty() && word.bytes().all(fits)
    };
    if !name.split('.').all(is_word) {
        return Err(Fault::Misuse(format!(
            "'{name:.60}' is no module name: write letters, digits, '_' and '-', with dots between folders"
        )));
    }
    let stem: PathBuf = name.split('.').collect();
    let names = [stem.with_extension("lua"), stem.join("init.lua")];
    let found = sources.find(&names).map_err(|Unusable { path, trouble }| {
        Fault::Misuse(format!("cannot read {}: {trouble}", path.display()))
    })?;
    let Some(found) = found else {
        return Err(Fault::Misuse(format!(
            "there is no module '{name}': looked for {}",
            sources.places(&names)
        )));
    };
    let path = found.path.display().to_string();
    match compile(lua, &found.octets, &path) {
        Ok(chunk) => Ok((chunk, path)),
        Err(error @ mlua::Error::SyntaxError { .. }) => {
            let text = lua.create_string(fault::plain(&error))?;
            Err(Fault::Rethrown(Value::String(text)))
        }
        Err(error) => Err(error.into()),
    }
}
