//! `pr.template`: subjects and bodies of messages, from Jinja templates.
//!
//! Templates are files `templates/NAME.html`, `NAME.txt` and `NAME.subject.txt` beside the
//! script or in `[scripts] lib`; what they include or extend comes from there, too, and from
//! nowhere else. In HTML every value is escaped. A variable that is not there is an error. Fuel
//! bounds the time and the memory of a rendering, which a thread of its own does.

mod filters;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use mlua::{Lua, Table, Value};
use tokio::sync::Semaphore;

use crate::Failure;
use crate::call::{Args, Registrar, Reply, suggestion};
use crate::fault::Fault;
use crate::fs::apart;
use crate::json::{self, Secrets};
use crate::sources::{Sources, Unusable, plain_path};

/// Where templates lie, beside the script and in the library.
const FOLDER: &str = "templates";
/// What one rendering may cost: about as many instructions, or 64 octets each. A table of ten
/// thousand rows needs a third of it; it is used up within a second.
const FUEL: u64 = 1_000_000;
/// How deep includes, macros and loops may nest.
const DEPTH: usize = 100;
/// The longest text rendered: more than any server takes.
const OCTETS: usize = 16 << 20;
/// How many of one script's renderings are under way at once.
const AT_ONCE: usize = 4;
/// What a template is called that the script wrote itself.
const INLINE: [&str; 2] = ["template", "template.html"];

/// Registers `pr.template`.
pub(crate) fn register(registrar: &Registrar<'_>, sources: &Arc<Sources>) -> mlua::Result<()> {
    let engine = Arc::new(environment(sources));
    let turns = Arc::new(Semaphore::new(AT_ONCE));

    let (files, turn) = (Arc::clone(&engine), Arc::clone(&turns));
    let places = Arc::clone(sources);
    registrar.add_waiting("template.render", move |lua, mut args| {
        let name = args.text("name")?;
        let vars = variables(lua, &mut args)?;
        args.end()?;
        if plain_path(&name).is_none() {
            return Err(Fault::Misuse(format!(
                "'{name:.60}' is no name of a template: write \"report\", or \"mail/report\" for one in a folder"
            )));
        }
        let (engine, sources) = (Arc::clone(&files), Arc::clone(&places));
        Ok(apart(&turn, move || {
            let message = Message::render(&engine, &sources, &name, &vars)?;
            Ok(Reply::made(move |lua| message.table(lua)))
        }))
    })?;
    let names = ["template.text", "template.html"];
    for (name, inline) in names.into_iter().zip(INLINE) {
        let (engine, turn) = (Arc::clone(&engine), Arc::clone(&turns));
        registrar.add_waiting(name, move |lua, mut args| {
            let source = args.text("template")?;
            let vars = variables(lua, &mut args)?;
            args.end()?;
            let engine = Arc::clone(&engine);
            Ok(apart(&turn, move || {
                let rendered = engine.render_named_str(inline, &source, vars.clone());
                let text = bounded(rendered, &vars)?;
                Ok(Reply::value(text))
            }))
        })?;
    }
    Ok(())
}

/// The next argument as what a template may name.
fn variables(lua: &Lua, args: &mut Args) -> Result<TemplateValue, Fault> {
    let Some(table) = args.options("variables")? else {
        return Ok(TemplateValue::from(Serde(serde_json::Map::new())));
    };
    let value = json::from_lua(lua, &Value::Table(table), Secrets::Refused)?;
    if !value.is_object() {
        return Err(Fault::misuse(
            "the variables have names: write { name = value }",
        ));
    }
    Ok(TemplateValue::from(Serde(value)))
}

fn environment(sources: &Arc<Sources>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|name| {
        if Path::new(name)
            .extension()
            .is_some_and(|suffix| suffix == "html")
        {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // So that an error names the variable; what else it collects is not shown.
    environment.set_debug(true);
    environment.remove_global("debug");
    if let Ok(syntax) = SyntaxConfig::builder()
        // A line with nothing but `{% if … %}` leaves no empty line behind.
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    filters::add(&mut environment);
    let sources = Arc::clone(sources);
    environment.set_loader(move |name| load(&sources, name));
    environment
}

/// The text of the template `name`, if there is one.
fn load(sources: &Sources, name: &str) -> Result<Option<String>, Error> {
    let Some(path) = plain_path(name) else {
        return Ok(None);
    };
    let unusable = |path: &Path, why: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("cannot read {}: {why}", path.display()),
        )
    };
    match sources.find(&[Path::new(FOLDER).join(path)]) {
        Ok(None) => Ok(None),
        Ok(Some(found)) => String::from_utf8(found.octets)
            .map(|text| Some(text.trim_start_matches('\u{feff}').to_owned()))
            .map_err(|_| unusable(&found.path, &"it is not UTF-8 text")),
        Err(Unusable { path, trouble }) => Err(unusable(&path, &trouble)),
    }
}

/// What the templates of one name come to.
struct Message {
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
}

impl Message {
    fn render(
        engine: &Environment<'static>,
        sources: &Sources,
        name: &str,
        vars: &TemplateValue,
    ) -> Result<Self, Failure> {
        let files = ["subject.txt", "txt", "html"].map(|suffix| format!("{name}.{suffix}"));
        let [subject, text, html] = files.each_ref().map(|file| {
            let template = match engine.get_template(file) {
                Ok(template) => template,
                Err(error) if error.kind() == ErrorKind::TemplateNotFound => return Ok(None),
                Err(error) => return Err(failure(&error, vars)),
            };
            bounded(template.render(vars.clone()), vars).map(Some)
        });
        let message = Self {
            subject: subject?
                .map(|subject| subject_of(&subject, name))
                .transpose()?,
            text: text?,
            html: html?,
        };
        if message.text.is_none() && message.html.is_none() {
            let names = files.map(|file| PathBuf::from(FOLDER).join(file));
            let message = format!(
                "there is no template '{name}': looked for {}",
                sources.places(&names[1..])
            );
            return Err(Failure::new("template.missing", message));
        }
        Ok(message)
    }

    fn table(self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        table.raw_set("subject", self.subject)?;
        table.raw_set("text", self.text)?;
        table.raw_set("html", self.html)?;
        Ok(table)
    }
}

/// A subject is one line. A line break in it, which a variable may have brought, would begin
/// another header field.
fn subject_of(text: &str, name: &str) -> Result<String, Failure> {
    let subject = text.trim();
    if subject.contains(char::is_control) {
        let message = "the subject has more than one line, or a control character in it";
        return Err(
            Failure::new("template.failed", message).at(format!("{FOLDER}/{name}.subject.txt"))
        );
    }
    Ok(subject.to_owned())
}

fn bounded(rendered: Result<String, Error>, vars: &TemplateValue) -> Result<String, Failure> {
    let text = rendered.map_err(|error| failure(&error, vars))?;
    if text.len() > OCTETS {
        let message = format!("the template became more than {OCTETS} octets");
        return Err(Failure::new("template.limit", message));
    }
    Ok(text)
}

/// What went wrong, and at which line of which template. No value of a variable is told.
fn failure(error: &Error, vars: &TemplateValue) -> Failure {
    // An error within an include is the source of one that only says so.
    let mut innermost = error;
    while let Some(inner) = std::error::Error::source(innermost)
        && let Some(inner) = inner.downcast_ref::<Error>()
    {
        innermost = inner;
    }
    let code = match innermost.kind() {
        ErrorKind::SyntaxError
        | ErrorKind::BadEscape
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownBlock => "template.invalid",
        ErrorKind::TemplateNotFound => "template.missing",
        ErrorKind::OutOfFuel => "template.limit",
        _ => "template.failed",
    };
    let mut message = match innermost.kind() {
        ErrorKind::OutOfFuel => "the template takes too long or becomes too large".to_owned(),
        kind => match innermost.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    if innermost.kind() == ErrorKind::UndefinedError
        && let Some(expression) = expression(innermost)
    {
        if !message.contains(expression) {
            message = format!("undefined value: {expression}");
        }
        let name = expression
            .split(['.', '|', '[', '(', ' '])
            .next()
            .unwrap_or_default();
        if let Ok(known) = vars.try_iter() {
            let known: Vec<String> = known.map(|key| key.to_string()).collect();
            if !known.iter().any(|key| key == name) {
                message += &suggestion(name, known.iter().map(String::as_str));
            }
        }
    }
    let message: String = message.chars().take(500).collect();
    let place = innermost.name().zip(innermost.line()).map(|(name, line)| {
        if INLINE.contains(&name) {
            format!("line {line} of the template")
        } else {
            format!("{FOLDER}/{name}:{line}")
        }
    });
    let failure = Failure::new(code, message.replace(char::is_control, " "));
    match place {
        Some(place) => failure.at(place),
        None => failure,
    }
}

/// The part of the template that an error is about.
fn expression(error: &Error) -> Option<&str> {
    let part = error.template_source()?.get(error.range()?)?;
    (part.len() <= 100).then_some(part)
}
