//! A script that somebody talks to, a line at a time.
//!
//! Each line is a call of its own, within the script's limits, and may do what the script's own
//! lines may: register handlers, plan schedules, wait. A line's locals end with it. The global `pr`
//! is the API, unless the script made something else of it.
//!
//! Not here: the terminal, history and completion.

use std::path::PathBuf;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Lua, MultiValue, Value};

use crate::actor::{Call, Callback, Invoker, Lane};
use crate::engine;
use crate::fault::{self, ScriptError};
use crate::{Failure, Running};

const SHELL: &str = include_str!("shell.lua");

/// What errors call the lines of a session.
const NAME: &str = "repl";

/// A live script, and the way to have it run more.
pub struct Shell {
    running: Running,
    evaluate: Callback,
    lines: usize,
}

/// Whether Lua text is whole: `for i = 1, 3 do` waits for its `end`.
pub fn is_incomplete(source: &str) -> bool {
    matches!(
        parse(&Lua::new(), source),
        Err(mlua::Error::SyntaxError {
            incomplete_input: true,
            ..
        })
    )
}

impl Shell {
    pub(crate) fn new(running: Running, evaluate: Callback) -> Self {
        Self {
            running,
            evaluate,
            lines: 0,
        }
    }

    /// Runs `source`, an expression or statements, and answers its results as text, if it has any.
    /// Its lines are numbered on from those before. Whoever drops this ends it where it waits.
    ///
    /// # Errors
    /// It is no Lua, or what it raised, or the limit it exceeded.
    pub async fn eval(&mut self, source: &str) -> Result<Option<String>, ScriptError> {
        let source = format!("{}{source}", "\n".repeat(self.lines));
        self.lines = source.lines().count();
        // Before it has the script's attention: what is no Lua is no failure of the script.
        parse(&Lua::new(), &source).map_err(|error| ScriptError::syntax(&error, NAME))?;
        let call = Call {
            what: "the line".to_owned(),
            function: self.evaluate.clone(),
            timeout: None,
            chain: 0,
            lane: Lane::Main,
            detached: false,
        };
        let give = move |lua: &Lua| {
            let line = parse(lua, &source)?;
            Ok(Some(MultiValue::from_iter([Value::Function(line)])))
        };
        let finish = |_: &Lua, mut answer: MultiValue| {
            Ok(match answer.pop_front() {
                Some(Value::String(text)) => Some(text.to_string_lossy()),
                _ => None,
            })
        };
        let answer = self.running.invoker();
        let answer = answer.perform(call, Box::new(give), Box::new(finish));
        Ok(answer.await?.flatten())
    }

    /// The script it began with, and what was required.
    pub fn files(&self) -> Vec<PathBuf> {
        self.running.files()
    }

    /// Ends it, as [`Running::stop`] does.
    pub async fn stop(self, at_most: Duration) {
        drop(self.evaluate);
        self.running.stop(at_most).await;
    }
}

/// What runs a line.
pub(crate) fn evaluator(lua: &Lua, invoker: &Invoker) -> Result<Callback, ScriptError> {
    let function = lua
        .load(SHELL)
        .set_name("=[postrider.shell]")
        .set_mode(ChunkMode::Text)
        .eval();
    let function = function.map_err(|error| {
        let message = format!("lua cannot start: {}", fault::plain(&error));
        ScriptError::new(Failure::new("script.internal", message))
    })?;
    Ok(invoker.callback(function))
}

/// An expression where it can be one.
fn parse(lua: &Lua, source: &str) -> mlua::Result<mlua::Function> {
    let blank = source.len() - source.trim_start().len();
    let (before, line) = source.split_at(blank);
    let expression = format!("{before}return {line}");
    engine::compile(lua, expression.as_bytes(), NAME)
        .or_else(|_| engine::compile(lua, source.as_bytes(), NAME))
}

#[cfg(test)]
mod tests {
    use super::is_incomplete;

    #[test]
    fn what_lacks_its_end_is_incomplete_and_what_is_wrong_is_not() {
        for whole in ["", "1 + 1", "x = 1", "for i = 1, 3 do end", "f(1)", "-- so"] {
            assert!(!is_incomplete(whole), "{whole}");
        }
        for open in ["for i = 1, 3 do", "f(", "x = {", "x = [[a", "function f()"] {
            assert!(is_incomplete(open), "{open}");
        }
        assert!(!is_incomplete("x = = 1"));
        assert!(!is_incomplete("end"));
    }
}
