//! The Lua reference, rendered from the descriptions in [`crate::family`].

use std::fmt::Write as _;

use crate::item::{Errors, Family, Field, Item, Kind, Type, records};
use crate::{EVENTS, FAMILIES, STANDARD};

/// The Lua reference, as Markdown.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    for family in FAMILIES.iter().filter(|family| !family.items.is_empty()) {
        section(&mut page, family);
    }
    page.push_str(LIBRARY);
    for (library, names) in STANDARD {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        line(
            &mut page,
            &format!("| `{library}` | {} |", names.join(", ")),
        );
    }
    page.push_str(EPILOGUE);
    page
}

fn section(page: &mut String, family: &Family) {
    line(page, &format!("\n## {}", family.heading));
    if !family.intro.is_empty() {
        line(page, &format!("\n{}", family.intro));
    }
    for item in family.items {
        describe(page, item);
    }
}

fn describe(page: &mut String, item: &Item) {
    let name = item.full_name();
    match &item.kind {
        Kind::Value(what) => {
            let what = what.lua();
            line(
                page,
                &format!(
                    "\n### `{name}`\n\n{} *({what}, since {})*",
                    item.doc, item.since
                ),
            );
        }
        Kind::Function {
            params,
            returns,
            waits,
            errors,
        } => {
            let list = params
                .iter()
                .map(|param| param.name)
                .collect::<Vec<_>>()
                .join(", ");
            let waits = if *waits { "waits, " } else { "" };
            line(
                page,
                &format!(
                    "\n### `{name}({list})`\n\n{} *({waits}since {})*",
                    item.doc, item.since
                ),
            );
            table(page, "parameter", params);
            record_tables(page, params);
            table(page, "returns", returns);
            record_tables(page, returns);
            failures(page, *errors);
            if params
                .iter()
                .any(|param| matches!(param.what, Type::EventName))
            {
                events(page);
            }
        }
    }
    line(page, &format!("\n```lua\n{}\n```", item.example));
}

/// The keys of each table among `fields`, and of those within.
fn record_tables(page: &mut String, fields: &[Field]) {
    for record in records(fields) {
        line(page, &format!("\n**`{}`**: {}", record.class, record.doc));
        table(page, "field", record.fields);
    }
}

fn failures(page: &mut String, errors: Errors) {
    let how = match errors {
        Errors::Never => return,
        Errors::Returned(_) => "`err.code`",
        Errors::Raised(_) => "raises, with `code`",
    };
    line(page, &format!("\n| {how} | when |\n|---|---|"));
    for error in errors.codes() {
        line(page, &format!("| `{}` | {} |", error.code, error.when));
    }
}

/// Each event with what its handler gets.
fn events(page: &mut String) {
    for event in EVENTS {
        line(page, &format!("\n**`{}`**: {}", event.name, event.doc));
        table(page, "field", event.payload);
    }
    line(page, "\nTimes are seconds since 1970.");
}

fn table(page: &mut String, heading: &str, fields: &[Field]) {
    if fields.is_empty() {
        return;
    }
    line(page, &format!("\n| {heading} | type | |\n|---|---|---|"));
    for field in fields {
        let lua_type = field.lua_type().replace('|', "\\|");
        line(
            page,
            &format!("| `{}` | `{lua_type}` | {} |", field.name, field.doc),
        );
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes all that is written to it");
}

const INTRODUCTION: &str = "\
# Lua reference

<!-- Generated from the descriptions in crates/lua-api/src/family: edit those. -->

A script is Lua 5.4. `postrider run SCRIPT [ARGS…]` runs it; `require \"postrider\"` gives it what
this page describes:

```lua
local pr = require \"postrider\"
```

**When something is wrong.** Misuse (a wrong type, an unknown field) raises an error that begins
with the line of your script. An operation that fails answers `nil, err`, and `err` is a table:

| field | |
|---|---|
| `code` | dotted and stable, such as `smtp.rejected`: match this, never the text |
| `message` | what happened |
| `remedy`, `who` | what to do about it, and who can, where that is known |
| `retryable` | whether the same may succeed later |
| `account` | the account's name |
| `smtp` | `code`, `enhanced`, `text` of the server's reply, where one was the reason |
| `at`, `place` | the line of the script, and where in the dialogue |
| `details` | more, by operation |

`tostring(err)` is `script.lua:14: message (fix: remedy)`, so `assert(account:send {…})` prints
well. What nobody catches ends the script: with exit status 1 if the script raised it, 65 if the
script is no Lua, 70 if it exceeded a limit, else with the status of the failed operation (69
unavailable, 75 try again, 76 the verdict was lost, 77 credentials, 78 configuration).

**Waiting.** Functions marked *waits* let other tasks run meanwhile. They work in coroutines, in
`pcall` and in modules, but not inside `table.sort` or a metamethod called from C.

**Types** are written as LuaLS writes them. `postrider.Duration` is text such as `\"45m\"` or
`\"1h30m\"`, or a number of seconds; `postrider.Time` is a number of seconds since 1970, or text such
as `\"2026-12-31T08:00:00+01:00\"`; `postrider.Zone` is a time zone such as `\"Europe/Paris\"`;
`postrider.Cron` is the five fields of cron, such as `\"0 8 * * mon-fri\"`. **Paths** are relative to
the working directory.
";

const LIBRARY: &str = "
## Lua's own library

A script has this of it, and nothing that reaches the system:

| library | names |
|---|---|
";

const EPILOGUE: &str = "
`load` takes text only, as a string. `require \"a.b\"` runs `a/b.lua` or `a/b/init.lua` beside the
script, once. `print` writes to standard output. `setmetatable` refuses `__gc`.

## Limits

A script may use 256 MiB of memory and run Lua for 30 seconds, waiting not counted. One
`string.rep` makes at most 64 MiB, one `table.move` or `table.concat` goes over at most ten million
items, and one match of a pattern takes at most fifty million steps. What exceeds the last three
raises an error like any other; the first two end the script, and no `pcall` holds them up.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items;

    #[test]
    fn every_item_is_described() {
        let page = reference();
        for item in items() {
            assert!(page.contains(item.example), "{}", item.name);
        }
        for event in EVENTS {
            assert!(page.contains(event.doc), "{}", event.name);
        }
    }
}
