//! How what goes wrong reaches a script, and what is left of it when nobody catches it.
//!
//! A script never sees a Rust error: misuse is a string that begins with the caller's line, a
//! failed operation a plain table that prints like one.

use std::fmt;
use std::path::{Path, PathBuf};

use mlua::{Lua, Table, Value};

use super::json;
use crate::failure::exit;
use crate::script::Files;
use crate::{Failure, SmtpFailure};

/// What Lua itself says when its allocator refuses.
pub(crate) const OUT_OF_MEMORY: &str = "not enough memory";

/// Where the metatable of error tables is kept.
pub(crate) const ERROR_METATABLE: &str = "postrider.error";

/// Why an API function has no answer.
pub(crate) enum Fault {
    /// It was called wrongly: raised at the caller's line.
    Misuse(String),
    /// The operation failed: `nil, err`.
    Failed(Box<Failure>),
    /// The operation failed, and the script cannot go on without it: raised.
    Raised(Box<Failure>),
    /// The script raised this, in a function it gave us: raised again.
    Rethrown(Value),
    /// Lua itself failed.
    Lua(mlua::Error),
}

impl Fault {
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::Misuse(message.into())
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Self {
        Self::Lua(error)
    }
}

/// The line of the script that is running, as `script.lua:12`.
pub(crate) fn here(lua: &Lua) -> Option<String> {
    let mut level = 0;
    loop {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let is_script = source
                .source
                .as_deref()
                .is_some_and(|source| source.starts_with('@'));
            let line = frame.current_line()?;
            is_script.then(|| format!("{}:{line}", source.short_src.as_deref().unwrap_or("?")))
        })?;
        if place.is_some() {
            return place;
        }
        level += 1;
    }
}

/// A failed operation, as the script gets it.
pub(crate) fn error_table(lua: &Lua, failure: &Failure, at: Option<&str>) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("code", failure.code.as_str())?;
    table.raw_set("message", failure.message.as_str())?;
    table.raw_set("remedy", failure.remedy.as_deref())?;
    table.raw_set("who", failure.who.as_deref())?;
    table.raw_set("retryable", failure.retryable)?;
    table.raw_set("account", failure.account.as_deref())?;
    table.raw_set("at", at)?;
    table.raw_set("place", failure.at.as_deref())?;
    if let Some(smtp) = &failure.smtp {
        let reply = lua.create_table()?;
        reply.raw_set("code", smtp.code)?;
        reply.raw_set("enhanced", smtp.enhanced.as_deref())?;
        reply.raw_set("text", smtp.text.as_str())?;
        table.raw_set("smtp", reply)?;
    }
    if !failure.details.is_null() {
        table.raw_set("details", json::to_lua(lua, &failure.details)?)?;
    }
    table.set_metatable(Some(lua.named_registry_value(ERROR_METATABLE)?))?;
    Ok(table)
}

/// A Rust error in the form a script may see: Lua's own text, without our frames.
pub(crate) fn plain(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => {
            plain(cause)
        }
        mlua::Error::MemoryError(_) => OUT_OF_MEMORY.to_owned(),
        mlua::Error::RuntimeError(message) | mlua::Error::SyntaxError { message, .. } => {
            message.clone()
        }
        other => other.to_string(),
    }
}

/// Why a script did not run to its end.
#[derive(Clone, Debug)]
pub struct ScriptError {
    /// What happened, at which line, and what to do.
    pub failure: Failure,
    /// The script's calls that led to that line, innermost first.
    pub trace: Vec<String>,
    /// The files that were read, where a script was run or loaded from its first line: to change
    /// one of them may help.
    pub files: Vec<PathBuf>,
}

impl ScriptError {
    pub(crate) fn new(failure: Failure) -> Self {
        Self {
            failure,
            trace: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The same, of a script that consists of these.
    pub(crate) fn of_files(mut self, files: &Files) -> Self {
        self.files = files.all();
        self
    }

    /// The exit status that fits: 1 where the script itself raised an error, 65 where it is no
    /// Lua, 70 where it exceeded a limit, else that of the failed operation.
    pub fn exit_code(&self) -> u8 {
        match self.failure.code.as_str() {
            "script.raised" => 1,
            "script.syntax" => exit::DATAERR,
            code if code.starts_with("script.") => exit::SOFTWARE,
            _ => self.failure.exit_code(),
        }
    }

    /// From what the script raised and nobody caught.
    pub(crate) fn uncaught(value: &Value, traceback: &str) -> Self {
        let mut trace = frames(traceback);
        let mut failure = match value {
            Value::Table(table) => from_table(table),
            other => {
                let text = match other {
                    Value::String(text) => text.to_string_lossy(),
                    Value::Error(error) => plain(error),
                    other => other
                        .to_string()
                        .unwrap_or_else(|_| other.type_name().to_owned()),
                };
                let scripts: Vec<&str> = trace.iter().map(|frame| source(frame)).collect();
                from_text(&text, &scripts)
            }
        };
        let at = failure
            .at
            .get_or_insert_with(|| trace.first().map_or("?", |frame| place(frame)).to_owned());
        // A failed operation's place says more after the line.
        let line = at.split(", ").next().unwrap_or_default();
        if let Some(raised) = trace.iter().position(|frame| place(frame) == line) {
            trace.drain(..=raised);
        }
        // A function that calls itself is named once.
        trace.dedup();
        Self {
            failure,
            trace,
            files: Vec::new(),
        }
    }

    /// From a chunk that is no Lua.
    pub(crate) fn syntax(error: &mlua::Error, script: &str) -> Self {
        let (at, message) = split_place(&plain(error), &[script]);
        let mut failure = Failure::new("script.syntax", message);
        if failure.message.contains("binary chunk") {
            failure = Failure::new("script.syntax", "this is compiled Lua")
                .with_remedy("give its source: compiled Lua cannot be checked and is not run");
        }
        failure.at = Some(at.unwrap_or_else(|| script.to_owned()));
        Self::new(failure)
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.failure)?;
        for frame in &self.trace {
            write!(f, "\n from: {frame}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptError {}

impl From<Failure> for ScriptError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        error.failure
    }
}

fn from_text(text: &str, scripts: &[&str]) -> Failure {
    let (at, message) = split_place(text, scripts);
    let mut failure = Failure::new("script.raised", message);
    // "C stack overflow", or one that our own prelude ran into, are the script's doing too.
    if failure.message.ends_with("stack overflow") || failure.message.contains("stack overflow (") {
        failure = Failure::new("script.stack_limit", "calls nest too deep (stack overflow)")
            .with_remedy("look for a function that calls itself without end");
    }
    failure.at = at;
    failure
}

/// A table that was raised: one of ours, or one with a `message`.
fn from_table(table: &Table) -> Failure {
    let text = |key: &str| match table.raw_get::<Value>(key) {
        Ok(Value::String(text)) => Some(text.to_string_lossy()),
        _ => None,
    };
    let ours = table.metatable().is_some_and(|metatable| {
        matches!(metatable.raw_get::<Value>("__name"), Ok(Value::String(name)) if name == ERROR_METATABLE)
    });
    let code = text("code")
        .filter(|_| ours)
        .unwrap_or_else(|| "script.raised".to_owned());
    let message = text("message").unwrap_or_else(|| "the script raised a table".to_owned());
    let mut failure = Failure::new(code, message);
    failure.remedy = text("remedy");
    failure.who = text("who");
    failure.account = text("account");
    failure.retryable = matches!(table.raw_get("retryable"), Ok(Value::Boolean(true)));
    failure.smtp = match table.raw_get::<Value>("smtp") {
        Ok(Value::Table(reply)) => reply.raw_get::<u16>("code").ok().map(|code| SmtpFailure {
            code,
            enhanced: reply.raw_get("enhanced").ok().flatten(),
            text: reply.raw_get("text").unwrap_or_default(),
        }),
        _ => None,
    };
    if let Ok(Value::Table(details)) = table.raw_get::<Value>("details") {
        failure.details = texts_of(&details);
    }
    failure.at = match (text("at"), text("place")) {
        (Some(at), Some(place)) => Some(format!("{at}, {place}")),
        (at, place) => at.or(place),
    };
    failure
}

/// The texts in a table of details: what an assertion expected and got.
fn texts_of(table: &Table) -> serde_json::Value {
    let mut texts = serde_json::Map::new();
    for (name, text) in table.pairs::<String, String>().flatten() {
        texts.insert(name, text.into());
    }
    if texts.is_empty() {
        return serde_json::Value::Null;
    }
    texts.into()
}

/// `script.lua:12: what` in two, where the script is one of `scripts` or looks like one.
fn split_place(text: &str, scripts: &[&str]) -> (Option<String>, String) {
    let is_script = |source: &str| {
        scripts.contains(&source)
            || source.starts_with("[string ")
            || Path::new(source)
                .extension()
                .is_some_and(|extension| extension == "lua")
    };
    for (colon, _) in text.match_indices(':') {
        let (source, rest) = (&text[..colon], &text[colon + 1..]);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && rest[digits..].starts_with(": ") && is_script(source) {
            let at = text[..=colon + digits].to_owned();
            return (Some(at), rest[digits + 2..].to_owned());
        }
    }
    (None, text.to_owned())
}

/// The frames of a traceback that are the script's.
fn frames(traceback: &str) -> Vec<String> {
    traceback
        .lines()
        .filter_map(|line| line.strip_prefix('\t'))
        .filter(|line| !line.starts_with('[') && !line.starts_with("__mlua"))
        .filter(|line| line.contains(": in ") || line.starts_with("..."))
        .map(str::to_owned)
        .collect()
}

/// The `script.lua:12` of a frame.
fn place(frame: &str) -> &str {
    frame.split(": in ").next().unwrap_or(frame)
}

/// The `script.lua` of a frame.
fn source(frame: &str) -> &str {
    place(frame)
        .rsplit_once(':')
        .map_or(frame, |(source, _)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_from_other_colons() {
        let (at, message) = split_place("a/b.lua:12: no: 3: of", &[]);
        assert_eq!(at.as_deref(), Some("a/b.lua:12"));
        assert_eq!(message, "no: 3: of");

        let (at, message) = split_place("http://x:80: refused", &[]);
        assert_eq!((at, message.as_str()), (None, "http://x:80: refused"));

        let (at, _) = split_place("nightly:7: no", &["nightly"]);
        assert_eq!(at.as_deref(), Some("nightly:7"));
    }

    #[test]
    fn only_the_scripts_frames_are_told() {
        let traceback = "stack traceback:\n\t[C]: in function 'error'\n\ta.lua:3: in local 'f'\n\t[postrider]:9: in field 'join'\n\ta.lua:9: in main chunk\n\t[C]: in ?";

        assert_eq!(
            frames(traceback),
            ["a.lua:3: in local 'f'", "a.lua:9: in main chunk"]
        );
    }
}
