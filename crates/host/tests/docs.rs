//! The book's reference pages say what the code knows: each is rendered from the table the
//! code itself reads, and compared.
//!
//! `cargo xtask docs` (this test with `POSTRIDER_WRITE_DOCS` set) rewrites the pages.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

use postrider_config::{KeyReference, Preset, Presets};
use toml_edit::{DocumentMut, Item, Table, Value};

/// A table of settings: the keys directly below `prefix` that belong to `plugin`.
struct Section {
    heading: &'static str,
    prefix: &'static str,
    plugin: Option<&'static str>,
    about: &'static str,
}

const fn section(
    heading: &'static str,
    prefix: &'static str,
    plugin: Option<&'static str>,
    about: &'static str,
) -> Section {
    Section {
        heading,
        prefix,
        plugin,
        about,
    }
}

const SECTIONS: &[Section] = &[
    section(
        "`[account.NAME]`",
        "account.NAME",
        None,
        "`NAME` is yours: letters, digits, `-` and `_`. Commands and scripts call the account by it.",
    ),
    section("`[account.NAME.server]`", "account.NAME.server", None, ""),
    section(
        "`[account.NAME.timeouts]`",
        "account.NAME.timeouts",
        None,
        "A duration is text such as `\"30s\"`, `\"1h30m\"` or `\"250ms\"`, or a number of seconds; \
         24 hours at most.",
    ),
    section(
        "`[account.NAME.rotation]`",
        "account.NAME.rotation",
        None,
        "",
    ),
    section(
        "`[account.NAME.renewal]`",
        "account.NAME.renewal",
        None,
        "Without this section nothing is renewed unasked: see [Renewing secrets](rotation.md).",
    ),
    section(
        "`[account.NAME.auth]`",
        "account.NAME.auth",
        None,
        "These belong to the host. All other keys of `auth` are the plugin's: the two that ship are \
         below, `postrider plugin inspect NAME` lists those of any other.",
    ),
    section(
        "`auth` with `plugin = \"oauth\"`",
        "account.NAME.auth",
        Some("oauth"),
        "",
    ),
    section(
        "`auth` with `plugin = \"basic\"`",
        "account.NAME.auth",
        Some("basic"),
        "",
    ),
    section(
        "`[gateway.NAME]`",
        "gateway.NAME",
        None,
        "`NAME` is yours. What a device needs to know is in [The gateway](gateway.md). Nothing here \
         lets anybody send without a password.",
    ),
    section(
        "`[gateway.NAME.rehearse]`",
        "gateway.NAME.rehearse",
        None,
        "",
    ),
    section(
        "`[gateway.NAME.device.DEVICE]`",
        "gateway.NAME.device.DEVICE",
        None,
        "Only what is different for this device: the rest is the gateway's. `DEVICE` is the user \
         name that it signs in with: letters, digits and `-_.@+`; a name with a dot or an `@` stands in \
         quotes.",
    ),
    section("`[plugins]`", "plugins", None, ""),
    section("`[plugins.pins]`", "plugins.pins", None, ""),
    section(
        "`[vault]`",
        "vault",
        None,
        "At most one of these. What seals the vault once it is made is changed by `postrider vault \
         rekey`.",
    ),
    section(
        "`[scripts]`",
        "scripts",
        None,
        "`env`, `run` and `fs` hold for `postrider run` too: what they do not name, no script reaches.",
    ),
    section("`[scripts.fs]`", "scripts.fs", None, ""),
    section(
        "`[scripts.limits]`",
        "scripts.limits",
        None,
        "A call is one handler, hook or schedule at work; in `postrider run`, the script itself too. \
         One that exceeds a limit ends alone, with an error that names script, line and limit.",
    ),
    section(
        "`[scripts.limits_for.FILE]`",
        "scripts.limits_for.FILE",
        None,
        "The same for one script: `[scripts.limits_for.\"report.lua\"]`.",
    ),
    section("`[serve]`", "serve", None, ""),
    section("`[queue]`", "queue", None, ""),
    section("`[sendmail]`", "sendmail", None, ""),
];

/// What the value of a secret is; the forms below it are the same for every secret.
const SECRET: &str = "a reference to a secret";

#[test]
fn the_configuration_reference_lists_what_the_checker_knows() {
    hold("configuration.md", &configuration());
}

#[test]
fn the_lua_reference_lists_what_a_script_finds() {
    hold("lua.md", &postrider_lua_api::reference());
}

#[test]
fn the_code_reference_lists_what_the_catalogue_knows() {
    hold("codes.md", &codes());
}

/// What is not in the summary is not in the book.
#[test]
fn the_summary_names_every_page() {
    let summary = read("docs/src/SUMMARY.md");
    for entry in fs::read_dir(root().join("docs/src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "SUMMARY.md" {
            assert!(
                summary.contains(&format!("({name})")),
                "{name} is not in SUMMARY.md"
            );
        }
    }
}

/// The page is what was rendered; or becomes it, when asked to.
#[track_caller]
fn hold(page: &str, rendered: &str) {
    let path = format!("docs/src/{page}");
    if env::var_os("POSTRIDER_WRITE_DOCS").is_some() {
        fs::write(root().join(&path), rendered).expect("the book can be written");
    }
    let written = read(&path);
    let lines = || {
        written
            .lines()
            .chain([""])
            .zip(rendered.lines().chain([""]))
    };
    if let Some((number, (written, rendered))) = (1..).zip(lines()).find(|(_, (a, b))| a != b) {
        panic!(
            "{path}, line {number}:\n  written:  {written}\n  rendered: {rendered}\n\
             run `cargo xtask docs` and commit what it changes"
        );
    }
    assert_eq!(written, rendered, "{path}");
}

/// A file of the project.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("crates/host lies two below the root")
}

fn configuration() -> String {
    let keys = postrider_config::reference();
    let secrets: Vec<&str> = keys
        .iter()
        .filter(|key| key.value == SECRET)
        .map(|key| key.key.as_str())
        .collect();
    // Below each secret hang the same forms of reference: they are shown once.
    let (forms, mut left): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| secrets.contains(&place(key).0));
    // Tables have headings of their own.
    left.retain(|key| key.value != "a table");

    let mut page = vec![CONFIGURATION_HEAD.to_owned()];
    for Section {
        heading,
        prefix,
        plugin,
        about,
    } in SECTIONS
    {
        let (here, elsewhere): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|key| place(key).0 == *prefix && key.plugin == *plugin);
        left = elsewhere;
        assert!(!here.is_empty(), "{heading} has no keys");
        page.push(format!("\n## {heading}\n"));
        if !about.is_empty() {
            page.push(format!("{about}\n"));
        }
        page.push("| key | value | |\n|---|---|---|".to_owned());
        page.extend(here.into_iter().map(row));
    }
    let left: Vec<&str> = left.iter().map(|key| key.key.as_str()).collect();
    assert!(left.is_empty(), "no section holds {left:?}");

    page.push(SECRETS_HEAD.to_owned());
    let rows_of = |secret: &str| -> Vec<String> {
        forms
            .iter()
            .filter(|key| place(key).0 == secret)
            .map(|key| row(key))
            .collect()
    };
    let rows = rows_of(secrets[0]);
    for secret in secrets {
        assert_eq!(rows_of(secret), rows, "{secret} has other forms");
    }
    page.extend(rows);

    page.push(PROVIDERS_HEAD.to_owned());
    page.extend(Presets::all().iter().map(provider));
    page.join("\n") + "\n"
}

/// The table a key is in, and its name there.
fn place(key: &KeyReference) -> (&str, &str) {
    key.key.rsplit_once('.').unwrap_or(("", &key.key))
}

fn row(key: &KeyReference) -> String {
    let value = match key.words.as_slice() {
        [] if key.value == SECRET => format!("[{SECRET}](#secrets)"),
        [] => key.value.to_owned(),
        _ if key.value == "the name of a provider" => format!("[{}](#providers)", key.value),
        words => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
    };
    format!("| `{}` | {value} | {} |", place(key).1, key.doc)
}

fn provider(preset: &Preset) -> String {
    let server = preset.server.map_or_else(
        || "you name it".to_owned(),
        |(host, port, tls)| format!("`{host}:{port}`, {tls}"),
    );
    let limits = [
        preset.connections.map(u32::from),
        preset.messages_per_minute,
        preset.recipients_per_day,
        preset.recipients_per_message,
    ]
    .map(|limit| limit.map_or_else(|| "—".to_owned(), |limit| limit.to_string()));
    format!(
        "| `{}` | {} | {server} | {} |",
        preset.name,
        preset.title,
        limits.join(" | ")
    )
}

/// Each code of the catalogue once, by name, with all that leads to it.
fn codes() -> String {
    let catalogue: DocumentMut = read("crates/diagnose/src/catalogue.toml")
        .parse()
        .expect("the catalogue is TOML");
    let mut codes: BTreeMap<&str, Vec<(String, Vec<String>)>> = BTreeMap::new();
    for list in ["smtp", "oauth", "graph", "network"] {
        for entry in catalogue[list]
            .as_array_of_tables()
            .expect("a list of entries")
        {
            let meanings = codes.entry(text(entry, "code")).or_default();
            let meaning = meaning(entry);
            match meanings.iter_mut().find(|(known, _)| *known == meaning) {
                Some((_, occasions)) => occasions.push(occasion(entry)),
                None => meanings.push((meaning, vec![occasion(entry)])),
            }
        }
    }
    let mut page = vec![CODES_HEAD.to_owned()];
    for (code, meanings) in codes {
        page.push(format!("\n## `{code}`"));
        for (meaning, occasions) in meanings {
            page.push(format!("\n{}: {meaning}", occasions.join(" or ")));
        }
    }
    page.join("\n") + "\n"
}

/// Cause, remedy, who, and what follows.
fn meaning(entry: &Table) -> String {
    let who = match text(entry, "who") {
        "you" => "you",
        "mailbox_owner" => "the mailbox's owner",
        "exchange_admin" => "an Exchange administrator",
        "entra_admin" => "an Entra administrator",
        "server_admin" => "the mail server's administrator",
        "network_admin" => "whoever runs the network",
        "recipient" => "the recipient's side",
        "provider" => "the provider",
        other => panic!("who is {other}?"),
    };
    let then = match text(entry, "verdict") {
        "permanent" => "the same again fails again",
        "retry" => "`retryable`",
        "reauthorize" => "somebody has to sign in",
        "reconfigure" => "a setting has to change",
        "admin" => "an administrator has to act first",
        other => panic!("what does {other} mean?"),
    };
    let fresh = entry.get("fresh_token").and_then(Item::as_bool);
    let fresh = match fresh {
        Some(true) => ", unless a fresh token does",
        _ => "",
    };
    format!(
        "{}.\n\n- do: {}\n- who: {who}\n- then: {then}{fresh}\n- known from: {}",
        filled(text(entry, "cause")),
        filled(text(entry, "remedy")),
        text(entry, "source"),
    )
}

/// What the entry matches, in the order of the wire.
fn occasion(entry: &Table) -> String {
    let mut parts = Vec::new();
    let status = [list(entry, "reply"), list(entry, "enhanced")].map(|any| any.join("/"));
    let status = status.join(" ");
    if !status.trim().is_empty() {
        parts.push(format!("`{}`", status.trim()));
    }
    for aadsts in list(entry, "aadsts") {
        parts.push(format!("`AADSTS{aadsts}`"));
    }
    for key in ["status", "error", "suberror", "trouble"] {
        parts.extend(list(entry, key).iter().map(|value| format!("`{value}`")));
    }
    parts.extend(
        list(entry, "port")
            .iter()
            .map(|port| format!("port {port}")),
    );
    let contains: Vec<String> = list(entry, "contains")
        .iter()
        .map(|part| format!("“{part}”"))
        .collect();
    parts.push(contains.join(", "));
    parts.join(" ").trim_end().to_owned()
}

/// The members of a condition.
fn list(entry: &Table, key: &str) -> Vec<String> {
    let values = entry.get(key).and_then(Item::as_array);
    let shown = |value: &Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string().trim().to_owned(),
    };
    values.into_iter().flatten().map(shown).collect()
}

fn text<'t>(entry: &'t Table, key: &str) -> &'t str {
    entry.get(key).and_then(Item::as_str).unwrap_or_default()
}

/// Advice with the names of what is filled in.
fn filled(text: &str) -> String {
    [
        "account",
        "username",
        "sender",
        "tenant",
        "client_id",
        "server",
    ]
    .into_iter()
    .fold(text.to_owned(), |text, name| {
        text.replace(&format!("{{{name}}}"), &format!("*{name}*"))
    })
}

const CONFIGURATION_HEAD: &str = "\
# Configuration reference

<!-- Generated from the tables in crates/config/src/keys.rs and presets.rs by
     crates/host/tests/docs.rs: edit those, then run `cargo xtask docs`. -->

The file is `postrider.toml`. It is looked for at `--config FILE`, then `$POSTRIDER_CONFIG`, and
when neither is given at `./postrider.toml`, `~/.config/postrider/postrider.toml` and
`/etc/postrider/postrider.toml`; the first that exists is used. A variable that is set to nothing
counts as not set. Relative paths in the file start at its own directory. An unknown key is an error,
and `postrider check` reports every error of the file at once. [Accounts](accounts.md) says which
settings to choose and why.

State, which is the vault and the sandboxes' files, is kept in `--state-dir DIR`, else `$POSTRIDER_STATE_DIR`, else
`/var/lib/postrider` for root and `~/.local/state/postrider` for others.";

const SECRETS_HEAD: &str = "
## Secrets

A secret never stands in the file. In its place stands a table with one key, which says where the
secret is: `client_secret = { vault = \"alerts/client_secret\" }`. It is read when the account needs
it; one line break at its end is taken off. Beside that key may stand `expires`.

| key | value | |
|---|---|---|";

const PROVIDERS_HEAD: &str = "
## Providers

What `provider = \"…\"` presets: the server, and `connections`, `messages_per_minute`,
`recipients_per_day` and `recipients_per_message`. Whatever you set yourself wins.

| provider | | server | connections | messages a minute | recipients a day | recipients a message |
|---|---|---|---|---|---|---|";

const CODES_HEAD: &str = "\
# Error codes

<!-- Generated from crates/diagnose/src/catalogue.toml by crates/host/tests/docs.rs: edit that,
     then run `cargo xtask docs`. -->

Every error has a `code`. It is stable: match it, never the text. This page lists the codes that come
from what a server answered; those of Postrider itself are in
[Troubleshooting](troubleshooting.md#codes-of-postrider-itself). Where two entries fit an answer, the
more special one counts. *account*, *username*, *sender*, *tenant*, *client_id* and *server* are those of your
account.

An answer that fits no entry is `smtp.temporary` (a reply 4xx), `smtp.rejected` (5xx),
`smtp.unexpected` (any other), from a token endpoint `auth.failed`, from Graph `graph.failed`.";
