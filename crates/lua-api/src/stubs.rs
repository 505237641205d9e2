//! What an editor reads: the API as annotations for the Lua language server (LuaLS).
//!
//! Not here: where the files go. That is for `postrider types` to decide.

use std::fmt::Write as _;

use crate::item::{ERROR, Errors, Field, Handle, Item, Kind, Record, Type, field, records};
use crate::setting::Setting;
use crate::{EVENTS, HANDLES, items};

/// The module `postrider`, as a definition file of LuaLS, with these keys of `pr.account{…}`.
pub fn stubs(settings: &[Setting]) -> String {
    let mut page = String::from(HEAD);
    aliases(&mut page);
    class(&mut page, &ERROR);
    for record in all_records() {
        class(&mut page, record);
    }
    account_settings(&mut page, settings);
    for event in EVENTS {
        text(&mut page, event.doc);
        line(&mut page, &format!("---@class {}", event_class(event.name)));
        fields(&mut page, event.payload);
        page.push('\n');
    }
    for handle in HANDLES {
        object(&mut page, handle);
    }
    module(&mut page);
    page.push_str(TAIL);
    page
}

/// What `.luarc.json` has to say, for stubs that lie in `library`.
///
/// The last two are for `EmmyLua`, which reads this file too, and LuaLS passes over them: `list[1]` is
/// not taken for `nil`, and neither `if err` nor a local that a loop sets is called superfluous.
pub fn luarc(library: &str) -> String {
    let library = library.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        r#"{{
  "$schema": "https://raw.githubusercontent.com/LuaLS/vscode-lua/master/setting/schema.json",
  "runtime.version": "Lua 5.4",
  "runtime.builtin": {{ "io": "disable", "os": "disable", "debug": "disable" }},
  "workspace.library": ["{library}"],
  "workspace.checkThirdParty": false,
  "diagnostics.disable": ["unnecessary-if"],
  "strict.arrayIndex": false
}}
"#
    )
}

/// `postrider.event.token.refreshed`.
fn event_class(name: &str) -> String {
    format!("postrider.event.{name}")
}

fn aliases(page: &mut String) {
    for event in EVENTS {
        line(page, &format!("---| {:?} # {}", event.name, event.doc));
    }
    line(page, "---| string # your own: `app.` and a word\n");
}

fn all_records() -> Vec<&'static Record> {
    let mut found = records(ERROR.fields);
    for item in items() {
        let here = match &item.kind {
            Kind::Function {
                params, returns, ..
            } => [records(params), records(returns)].concat(),
            Kind::Value(what) => records(&[field("value", *what, "")]),
        };
        for record in here {
            if !found.iter().any(|known| known.class == record.class) {
                found.push(record);
            }
        }
    }
    found
}

fn class(page: &mut String, record: &Record) {
    text(page, record.doc);
    line(page, &format!("---@class {}", record.class));
    fields(page, record.fields);
    page.push('\n');
}

/// The table of `pr.account{…}`, and the tables in it.
fn account_settings(page: &mut String, settings: &[Setting]) {
    text(
        page,
        "What `pr.account` takes where a script describes an account itself.",
    );
    line(page, &format!("---@class {}", section_class("")));
    line(page, "---@field name string What the account is called.");
    section(page, settings, "");
    let mut done = Vec::new();
    for setting in settings {
        let name = setting.section();
        // The forms of a secret are the same everywhere: a `pr.secret` says them shorter.
        let is_secret = settings.iter().any(|above| {
            above.key == name.trim_end_matches('.') && !matches!(above.what, Type::Table)
        });
        if name.is_empty() || is_secret || done.contains(&name) {
            continue;
        }
        done.push(name);
        text(
            page,
            &format!("`{}` of an account.", name.trim_end_matches('.')),
        );
        line(page, &format!("---@class {}", section_class(name)));
        section(page, settings, name);
    }
}

fn section(page: &mut String, settings: &[Setting], section: &str) {
    let mut done = Vec::new();
    for setting in settings.iter().filter(|here| here.section() == section) {
        // Two plugins may take one key.
        if done.contains(&setting.name()) {
            continue;
        }
        done.push(setting.name());
        let below = format!("{}.", setting.key);
        let what = match setting.what {
            Type::Table if settings.iter().any(|other| other.section() == below) => {
                section_class(&below)
            }
            Type::Text if !setting.words.is_empty() => {
                let words: Vec<String> = setting
                    .words
                    .iter()
                    .map(|word| format!("{word:?}"))
                    .collect();
                words.join("|")
            }
            what => what.lua(),
        };
        line(
            page,
            &format!("---@field {}? {what} {}", setting.name(), setting.doc),
        );
    }
    page.push('\n');
}

/// `postrider.AccountSettings`, `postrider.AccountSettings.server`.
fn section_class(section: &str) -> String {
    let class = Type::AccountSettings.lua();
    match section.trim_end_matches('.') {
        "" => class,
        section => format!("{class}.{section}"),
    }
}

fn fields(page: &mut String, fields: &[Field]) {
    for field in fields {
        let mark = if field.optional { "?" } else { "" };
        line(
            page,
            &format!(
                "---@field {}{mark} {} {}",
                field.name,
                field.what.lua(),
                field.doc
            ),
        );
    }
}

/// A class with its methods and values.
fn object(page: &mut String, handle: &Handle) {
    let local = handle.class.rsplit('.').next().unwrap_or(handle.class);
    text(page, handle.doc);
    line(page, &format!("---@class {}", handle.class));
    let members = || items().filter_map(|item| Some((item.member_of(handle)?, item)));
    for (name, item) in members() {
        if let Kind::Value(what) = &item.kind {
            line(
                page,
                &format!("---@field {name} {} {}", what.lua(), item.doc),
            );
        }
    }
    line(page, &format!("local {local} = {{}}\n"));
    for (name, item) in members() {
        function(page, item, &format!("{local}:{name}"));
    }
}

/// The module itself, and the tables in it.
fn module(page: &mut String) {
    line(page, "---What `require \"postrider\"` answers.");
    line(page, "---@class postrider");
    let own = || items().filter(|item| !HANDLES.iter().any(|handle| item.belongs_to(handle)));
    for item in own().filter(|item| !item.name.contains('.')) {
        value(page, item, item.name);
    }
    line(page, "local pr = {}\n");
    for item in own().filter(|item| !item.name.contains('.')) {
        function(page, item, &format!("pr.{}", item.name));
    }
    let mut done = Vec::new();
    for (family, _) in own().filter_map(|item| item.name.split_once('.')) {
        if done.contains(&family) {
            continue;
        }
        done.push(family);
        let members = || {
            own().filter_map(move |item| match item.name.split_once('.') {
                Some((of, name)) if of == family => Some((name, item)),
                _ => None,
            })
        };
        line(page, &format!("---@class postrider.{family}"));
        for (name, item) in members() {
            value(page, item, name);
        }
        line(page, &format!("pr.{family} = {{}}\n"));
        for (name, item) in members() {
            function(page, item, &format!("pr.{family}.{name}"));
        }
    }
}

fn value(page: &mut String, item: &Item, name: &str) {
    if let Kind::Value(what) = &item.kind {
        line(
            page,
            &format!("---@field {name} {} {}", what.lua(), item.doc),
        );
    }
}

fn function(page: &mut String, item: &Item, name: &str) {
    let Kind::Function {
        params,
        returns,
        waits,
        errors,
    } = &item.kind
    else {
        return;
    };
    text(page, item.doc);
    if *waits {
        text(page, "\nWaits: other tasks run meanwhile.");
    }
    codes(page, *errors);
    text(page, &format!("\n```lua\n{}\n```", item.example));
    for param in *params {
        let mark = if param.optional { "?" } else { "" };
        line(
            page,
            &format!(
                "---@param {}{mark} {} {}",
                param.name,
                param.what.lua(),
                param.doc
            ),
        );
    }
    for value in *returns {
        // A language server cannot know that `err` is there where the first result is not; as
        // `postrider.Error?` it would warn at each use.
        let what = match value.what {
            Type::Error => value.what.lua(),
            _ => value.lua_type(),
        };
        line(
            page,
            &format!("---@return {what} {} {}", value.name, value.doc),
        );
    }
    overloads(page, params, returns);
    let names: Vec<&str> = params.iter().map(|param| param.name).collect();
    line(
        page,
        &format!("function {name}({}) end\n", names.join(", ")),
    );
}

fn codes(page: &mut String, errors: Errors) {
    let how = match errors {
        Errors::Never => return,
        Errors::Returned(_) => "Answers `nil, err` with `err.code`:",
        Errors::Raised(_) => "Raises an error with `code`:",
    };
    text(page, &format!("\n{how}"));
    for error in errors.codes() {
        text(page, &format!("- `{}`: {}", error.code, error.when));
    }
}

/// What handles an event gets the table of that event.
fn overloads(page: &mut String, params: &[Field], returns: &[Field]) {
    if !params
        .iter()
        .any(|param| matches!(param.what, Type::EventHandler))
    {
        return;
    }
    let returns: Vec<String> = returns.iter().map(Field::lua_type).collect();
    for event in EVENTS {
        let class = event_class(event.name);
        let params: Vec<String> = params
            .iter()
            .map(|param| match param.what {
                Type::EventName => format!("{}: {:?}", param.name, event.name),
                Type::EventHandler => format!("{}: fun(event: {class})", param.name),
                what => format!("{}: {}", param.name, what.lua()),
            })
            .collect();
        let call = format!("fun({}): {}", params.join(", "), returns.join(", "));
        line(page, &format!("---@overload {call}"));
    }
}

/// Text as a comment of LuaLS.
fn text(page: &mut String, text: &str) {
    for row in text.lines() {
        line(page, &format!("---{row}"));
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes all that is written to it");
}

const HEAD: &str = r#"---@meta postrider

-- Written by `postrider types`: edits are lost. `require "postrider"` answers what is below.

---A span of time: text such as `"45m"` or `"1h30m"`, or a number of seconds.
---@alias postrider.Duration string|number

---A point in time: seconds since 1970, or text such as `"2026-12-31T08:00:00+01:00"`.
---@alias postrider.Time string|number

---Five fields, as cron takes them: `"0 8 * * mon-fri"`.
---@alias postrider.Cron string

---A time zone: `"Europe/Paris"`.
---@alias postrider.Zone string

---What `pr.on` can wait for.
---@alias postrider.EventName
"#;

/// What is left of the libraries that [`luarc`] switches off.
const TAIL: &str = r"---@class oslib
os = {}

---The CPU time the script has used, in seconds.
---@return number seconds
function os.clock() end

---@param format? string
---@param time? integer
---@return string|table date
function os.date(format, time) end

---@param later integer
---@param earlier integer
---@return number seconds
function os.difftime(later, earlier) end

---@param date? table
---@return integer time
function os.time(date) end

---@class debuglib
debug = {}

---@param message? any
---@param level? integer
---@return string traceback
function debug.traceback(message, level) end

return pr
";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Vec<Setting> {
        let setting = |key: &str, what, words| Setting {
            key: key.to_owned(),
            plugin: None,
            what,
            words,
            doc: "What it is.",
        };
        vec![
            setting("username", Type::Text, vec![]),
            setting("server", Type::Table, vec![]),
            setting("server.tls", Type::Text, vec!["starttls", "implicit"]),
            setting("auth", Type::Table, vec![]),
            setting("auth.password", crate::SECRET_SETTING, vec![]),
            setting("auth.password.env", Type::Text, vec![]),
        ]
    }

    #[test]
    fn the_keys_of_an_account_are_completed() {
        let page = stubs(&settings());
        for line in [
            "---@field name string",
            "---@field username? string",
            "---@field server? postrider.AccountSettings.server",
            "---@field tls? \"starttls\"|\"implicit\"",
            "---@field password? postrider.Secret|table",
        ] {
            assert!(page.contains(line), "{line}");
        }
        assert!(!page.contains("AccountSettings.auth.password"));
    }

    #[test]
    fn every_name_is_in_the_stubs() {
        let page = stubs(&settings());
        for item in items() {
            let word = item.name.rsplit(['.', ':']).next().unwrap();
            let found = match item.kind {
                Kind::Function { .. } => page.contains(&format!("{word}(")),
                Kind::Value(_) => page.contains(&format!("---@field {word} ")),
            };
            assert!(found, "{}", item.name);
        }
    }

    #[test]
    fn the_stubs_are_lua() {
        let page = stubs(&settings());
        let parsed = full_moon::parse_fallible(&page, full_moon::LuaVersion::lua54());
        assert!(parsed.errors().is_empty(), "{:?}", parsed.errors());
    }

    #[test]
    fn what_is_switched_off_is_told_anew() {
        let page = stubs(&settings());
        for (library, names) in crate::STANDARD {
            if luarc("").contains(&format!("{library:?}: \"disable\"")) {
                for name in *names {
                    assert!(
                        page.contains(&format!("function {library}.{name}(")),
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_class_that_is_named_is_defined() {
        let page = stubs(&settings());
        for named in page.split("postrider.").skip(1) {
            let word: String = named
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            if word.starts_with(|c: char| c.is_ascii_uppercase()) {
                assert!(
                    page.contains(&format!("---@class postrider.{word}\n"))
                        || page.contains(&format!("---@alias postrider.{word}")),
                    "{word}"
                );
            }
        }
    }

    #[test]
    fn the_settings_of_the_editor_are_json_whatever_the_directory_is_called() {
        assert!(luarc("a\"b\\c").contains(r#"["a\"b\\c"]"#));
    }
}
