//! `[scripts]`: which scripts the daemon runs, and what every script may use and reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::Context;
use crate::grammar::Fault;
use crate::keys;
use crate::problem::{Problems, quote};
use crate::section::{Place, Section, nearest};
use crate::tree::Node;

/// `[scripts]`. All paths are whole, or relative to the working directory like the file's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptSettings {
    /// Which scripts the daemon runs.
    pub scripts: Scripts,
    /// Where modules and templates are looked for after the script's own directory.
    pub lib: Option<PathBuf>,
    /// The environment variables that scripts may read.
    pub env: Vec<String>,
    /// The programs that scripts may start; absolute paths.
    pub run: Vec<PathBuf>,
    /// The directories that scripts may read in.
    pub read: Vec<PathBuf>,
    /// The directories that scripts may write in.
    pub write: Vec<PathBuf>,
    /// What each script may use.
    pub limits: ScriptLimits,
    /// What differs for one script, by its file name.
    pub limits_for: BTreeMap<String, ScriptLimits>,
}

/// Which scripts the daemon runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scripts {
    /// None.
    #[default]
    None,
    /// Every `*.lua` of this directory that is no `*_test.lua`, in the order of their names.
    Dir(PathBuf),
    /// These, in this order; no two have one file name.
    Files(Vec<PathBuf>),
}

/// What a script may use; what is `None` is as the engine has it by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Memory of its Lua state.
    pub memory_octets: Option<usize>,
    /// Time that one call may spend running Lua, waiting excluded.
    pub cpu: Option<Duration>,
    /// Time that one call may take, waiting included.
    pub timeout: Option<Duration>,
    /// Calls under way at once.
    pub calls: Option<u32>,
    /// Schedules and timers that wait at once.
    pub timers: Option<u32>,
    /// Time that loading it may take, waiting included.
    pub load_timeout: Option<Duration>,
}

impl ScriptSettings {
    /// What the script in the file `script` may use: its own limits, else those of all.
    pub fn limits_of(&self, script: &Path) -> ScriptLimits {
        let name = script.file_name().and_then(|name| name.to_str());
        let own = name.and_then(|name| self.limits_for.get(name));
        own.copied().unwrap_or_default().or(self.limits)
    }
}

impl ScriptLimits {
    fn or(self, other: Self) -> Self {
        Self {
            memory_octets: self.memory_octets.or(other.memory_octets),
            cpu: self.cpu.or(other.cpu),
            timeout: self.timeout.or(other.timeout),
            calls: self.calls.or(other.calls),
            timers: self.timers.or(other.timers),
            load_timeout: self.load_timeout.or(other.load_timeout),
        }
    }
}

pub(crate) fn check(
    section: &Section<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> ScriptSettings {
    let scripts = scripts(section, context, problems);
    let fs = open(section, "fs", keys::FS, context, problems);
    let paths = |name| {
        let section = fs.as_ref();
        section.map_or_else(Vec::new, |section| section.paths(name, context.base))
    };
    let every = open(section, "limits", keys::LIMITS, context, problems);
    ScriptSettings {
        lib: section.path("lib", context.base),
        env: section.texts("env").unwrap_or_default(),
        run: section.paths("run", Path::new("")),
        read: paths("read"),
        write: paths("write"),
        limits: every.as_ref().map(limits).unwrap_or_default(),
        limits_for: limits_for(section, &scripts, context, problems),
        scripts,
    }
}

fn scripts(section: &Section<'_>, context: &Context<'_>, problems: &mut Problems) -> Scripts {
    if section.has("dir") && section.has("files") {
        let fault = Fault::with(
            "and `dir` exclude each other: each says which scripts are run",
            "keep one of them",
        );
        section.fault("files", fault, problems);
    }
    if let Some(dir) = section.path("dir", context.base) {
        return Scripts::Dir(dir);
    }
    let Some(items) = section.node("files").and_then(Node::list) else {
        return Scripts::None;
    };
    let files = section.paths("files", context.base);
    for (index, (item, file)) in items.iter().zip(&files).enumerate() {
        let place = Place {
            path: section.key("files"),
            span: item.span.clone(),
        };
        let name = file_name(file);
        if !is_lua(name) {
            let fault = Fault::new(format!("{} does not end with .lua", quote(name)));
            place.fault(fault, problems);
        } else if files[..index].iter().any(|other| file_name(other) == name) {
            let fault = Fault::with(
                format!("another script is called {} too", quote(name)),
                "rename one: limits, errors and schedules name a script by its file name",
            );
            place.fault(fault, problems);
        }
    }
    Scripts::Files(files)
}

fn limits_for(
    section: &Section<'_>,
    scripts: &Scripts,
    context: &Context<'_>,
    problems: &mut Problems,
) -> BTreeMap<String, ScriptLimits> {
    let mut found = BTreeMap::new();
    let entries = section.node("limits_for").and_then(Node::entries);
    for entry in entries.unwrap_or_default() {
        let place = Place {
            path: format!("{}.{}", section.key("limits_for"), quote(&entry.key)),
            span: entry.key_span.clone().or_else(|| entry.node.span.clone()),
        };
        if let Err(fault) = script_name(&entry.key, scripts) {
            place.fault(fault, problems);
        }
        let section = Section::open(&entry.node, place, &[keys::LIMITS], context, problems);
        if let Some(section) = section {
            found.insert(entry.key.clone(), limits(&section));
        }
    }
    found
}

/// Whether a script may be called that.
fn script_name(name: &str, scripts: &Scripts) -> Result<(), Fault> {
    if !is_lua(name) || name.contains('/') {
        return Err(Fault::with(
            "is not a script's file name",
            "write it like [scripts.limits_for.\"report.lua\"]",
        ));
    }
    let Scripts::Files(files) = scripts else {
        return Ok(());
    };
    let mut names = files.iter().map(|file| file_name(file));
    if names.any(|known| known == name) {
        return Ok(());
    }
    let near = nearest(name, files.iter().map(|file| file_name(file)));
    let message = "`files` names no such script";
    Err(match near {
        Some(near) => Fault::with(message, format!("did you mean {}?", quote(near))),
        None => Fault::new(message),
    })
}

fn limits(section: &Section<'_>) -> ScriptLimits {
    ScriptLimits {
        memory_octets: section.memory("memory"),
        cpu: section.duration("cpu"),
        timeout: section.duration("timeout"),
        calls: section.number("calls"),
        timers: section.number("timers"),
        load_timeout: section.duration("load_timeout"),
    }
}

fn open<'t>(
    section: &Section<'t>,
    name: &str,
    fields: &'static [keys::Field],
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Section<'t>> {
    let node = section.node(name)?;
    Section::open(node, section.place(name), &[fields], context, problems)
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn is_lua(name: &str) -> bool {
    name.strip_suffix(".lua")
        .is_some_and(|stem| !stem.is_empty())
}
