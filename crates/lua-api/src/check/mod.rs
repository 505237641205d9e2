//! What is wrong with a script, as far as that can be known without running it.
//!
//! The rule above all others: what may be right is not spoken of. A name is followed through
//! plain assignments to locals that are never assigned again; where that ends, so does the check.
//!
//! Not here: how durations, cron expressions and time zones are read. The host lends its own
//! functions in [`Validators`], so that the checker and the script agree.

mod account;
mod call;
mod literal;
mod names;
mod scan;
mod scope;
mod walk;

use std::fmt;
use std::thread;

use full_moon::LuaVersion;
use full_moon::tokenizer::Position;

use crate::setting::Setting;

/// The largest script that is looked at, in octets.
const SOURCE_OCTETS_MAX: usize = 4 << 20;

/// How many findings there may be; after that many nobody reads on.
const FINDINGS_MAX: usize = 100;

/// What parser and checker get: both recur, as deep as [`scan`] lets pass.
const STACK_OCTETS: usize = 256 << 20;

/// Something wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Stable, such as `script.unknown_field`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What was meant, where that is near.
    pub suggestion: Option<String>,
}

impl fmt::Display for Finding {
    /// `14:3: unknown field 'subjct' (did you mean 'subject'?)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, " (did you mean '{name}'?)"),
            None => Ok(()),
        }
    }
}

/// What only the host knows of values in text.
pub struct Validators<'a> {
    /// Whether this is a span of time.
    pub duration: &'a (dyn Fn(&str) -> bool + Sync),
    /// What is wrong with a cron expression.
    pub cron: &'a (dyn Fn(&str) -> Result<(), String> + Sync),
    /// Whether this is a time zone.
    pub zone: &'a (dyn Fn(&str) -> bool + Sync),
    /// The names of time zones, to suggest one.
    pub zones: &'a [String],
    /// Whether this is a point in time.
    pub time: &'a (dyn Fn(&str) -> bool + Sync),
    /// The accounts there are; `None` where the script is not for this configuration.
    pub accounts: Option<&'a [String]>,
    /// What `pr.account{…}` takes besides a `name`; empty where that is not known.
    pub settings: &'a [Setting],
}

/// Everything that is wrong with a script, in the order of its lines.
///
/// It never panics, whatever `source` is, and takes time in proportion to its length.
pub fn check(source: &str, validators: &Validators<'_>) -> Vec<Finding> {
    if source.len() > SOURCE_OCTETS_MAX {
        let message = format!("is larger than {} MiB", SOURCE_OCTETS_MAX >> 20);
        return vec![syntax(1, 1, message)];
    }
    let scan = scan::scan(source);
    if let Some(line) = scan.too_deep {
        return vec![syntax(line, 1, "nested too deeply".to_owned())];
    }
    if let Some((line, column)) = scan.stray {
        let message = "unexpected character '`': a string stands in \", ' or [[ ]]".to_owned();
        return vec![syntax(line, column, message)];
    }
    let text = as_lua(source);
    let work = || {
        let parsed = full_moon::parse_fallible(&text, LuaVersion::lua54());
        let mut errors: Vec<Finding> = parsed.errors().iter().map(unparsed).collect();
        // What follows on the same line mostly follows from it.
        errors.sort();
        errors.dedup_by_key(|error| error.line);
        if errors.is_empty() {
            walk::findings(parsed.ast(), validators)
        } else {
            errors
        }
    };
    // The caller's stack may be small, and the depth that passed is more than some have.
    let mut findings = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("check".to_owned())
            .stack_size(STACK_OCTETS);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| vec![syntax(1, 1, "cannot be read as Lua".to_owned())]),
            Err(error) => vec![syntax(1, 1, format!("cannot be checked: {error}"))],
        }
    });
    findings.retain(|finding| !scan.ignored.contains(&finding.line));
    findings.sort();
    findings.dedup();
    findings.truncate(FINDINGS_MAX);
    findings
}

/// Without a byte order mark, and with a first line for the system as the comment it is.
fn as_lua(source: &str) -> String {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    match source.strip_prefix('#') {
        Some(rest) => format!("--{rest}"),
        None => source.to_owned(),
    }
}

fn syntax(line: usize, column: usize, message: String) -> Finding {
    Finding {
        line,
        column,
        code: "script.syntax",
        message,
        suggestion: None,
    }
}

/// What the parser found.
fn unparsed(error: &full_moon::Error) -> Finding {
    let (start, _) = error.range();
    let message = match error {
        full_moon::Error::AstError(error) => {
            let token = error.token().to_string();
            let message = error.error_message();
            match token.trim() {
                "" => format!("{message}, but the script ends"),
                token => format!("{message}, near '{token:.40}'"),
            }
        }
        full_moon::Error::TokenizerError(error) => error.error().to_string(),
    };
    let message: String = message.chars().filter(|c| !c.is_control()).collect();
    syntax(start.line(), start.character(), message)
}

/// A finding at a place in the tree.
fn finding(at: Position, code: &'static str, message: String, near: Option<&str>) -> Finding {
    Finding {
        line: at.line(),
        column: at.character(),
        code,
        message,
        suggestion: near.map(str::to_owned),
    }
}
