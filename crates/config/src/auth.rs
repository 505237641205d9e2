//! The `auth` table: a plugin's name, its settings and its secrets.
//!
//! The keys of plugins that ship are known here. Another plugin's settings are handed on for
//! its own schema to judge; its secrets must be references all the same.

use std::collections::BTreeMap;

use serde_json::Map;

use crate::account::Auth;
use crate::check::Context;
use crate::grammar::{self, Fault};
use crate::keys::{self, Kind};
use crate::oauth;
use crate::presets::Provider;
use crate::problem::Problems;
use crate::secret::{self, Reference};
use crate::section::{Section, report, show_key};
use crate::tree::{Entry, Node, NodeKind};

/// Checks an account's `auth`. `None`, or any problem reported, means it may not be used.
pub(crate) fn check(
    account: &Section<'_>,
    provider: &Provider<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Option<Auth> {
    let Some(node) = account.node("auth") else {
        if !account.has("auth") {
            let fault = Fault::with(
                "`auth` is missing",
                "write auth = { plugin = \"oauth\", … } or auth = { plugin = \"basic\", … }",
            );
            account.missing(fault, problems);
        }
        return None;
    };
    let place = account.place("auth");
    let fields = node
        .entry("plugin")
        .and_then(|entry| keys::plugin(entry.node.text()?));
    let section = match fields {
        Some(fields) => Section::open(node, place, &[keys::AUTH, fields], context, problems)?,
        None => Section::open_among_others(node, place, &[keys::AUTH], context, problems)?,
    };
    if !section.has("plugin") {
        let names = "write plugin = \"oauth\" or plugin = \"basic\"";
        let fault = Fault::with("`plugin` is missing", names);
        section.missing(fault, problems);
    }
    let mut auth = Auth {
        plugin: section.text("plugin")?.to_owned(),
        settings: Map::new(),
        secrets: BTreeMap::new(),
        expires: BTreeMap::new(),
        allow_hosts: section.texts("allow_hosts").unwrap_or_default(),
    };
    if fields.is_none() {
        third_party(&section, node, &mut auth, context, problems);
        return Some(auth);
    }
    shipped(&section, &mut auth, context);
    match auth.plugin.as_str() {
        "oauth" => oauth::complete(&section, provider, &mut auth.settings, problems),
        _ => oauth::require(
            &section,
            "password",
            &format!("write password = {}", keys::REFERENCE_FORMS),
            problems,
        ),
    }
    Some(auth)
}

/// Takes over what is well formed.
fn shipped(section: &Section<'_>, auth: &mut Auth, context: &Context<'_>) {
    for (field, node) in section.sound() {
        if keys::AUTH.iter().any(|own| own.name == field.name) {
            continue;
        }
        let name = field.name.to_owned();
        if matches!(field.kind, Kind::Secret) {
            // Well formed, so there is nothing left to report.
            let secret = secret::from_node(
                &section.key(field.name),
                node,
                context,
                &mut Problems::default(),
            );
            keep(auth, name, secret);
        } else {
            auth.settings.insert(name, node.to_json());
        }
    }
}

/// Takes over all that is no key of the host's: references become secrets, the rest is handed
/// on as it is.
fn third_party(
    section: &Section<'_>,
    node: &Node,
    auth: &mut Auth,
    context: &Context<'_>,
    problems: &mut Problems,
) {
    for entry in node.entries().unwrap_or_default() {
        if section.has(&entry.key) {
            continue;
        }
        let key = section.key(&show_key(&entry.key));
        if let Err(fault) = grammar::line(&entry.key, 64) {
            report(key, entry.key_span.clone(), fault, problems);
        } else if keys::looks_secret(&entry.key) || secret::is_reference(&entry.node) {
            let secret = secret::from_node(&key, &entry.node, context, problems);
            keep(auth, entry.key.clone(), secret);
        } else if plain(&key, &entry.node, problems) {
            auth.settings
                .insert(entry.key.clone(), entry.node.to_json());
        }
    }
}

fn keep(auth: &mut Auth, name: String, reference: Option<Reference>) {
    let Some(Reference { secret, expires }) = reference else {
        return;
    };
    auth.expires
        .extend(expires.map(|expires| (name.clone(), expires)));
    auth.secrets.insert(name, secret);
}

/// Whether an entry of a nested table is a secret, or a reference that nobody would resolve.
fn holds_secret(entry: &Entry) -> bool {
    keys::looks_secret(&entry.key)
        && (entry.node.text().is_some() || secret::is_reference(&entry.node))
}

/// Whether all text below `node` may be handed to a plugin.
fn plain(key: &str, node: &Node, problems: &mut Problems) -> bool {
    let mut sound = true;
    let fault = match &node.kind {
        NodeKind::List(nodes) => {
            for node in nodes {
                sound &= plain(key, node, problems);
            }
            None
        }
        NodeKind::Table(entries) => {
            for entry in entries {
                let key = format!("{key}.{}", show_key(&entry.key));
                if holds_secret(entry) {
                    let fault = Fault::with(
                        "a secret stands directly under `auth`, as a reference",
                        format!("write {}", keys::REFERENCE_FORMS),
                    );
                    report(key, entry.node.span.clone(), fault, problems);
                    sound = false;
                } else {
                    sound &= plain(&key, &entry.node, problems);
                }
            }
            None
        }
        NodeKind::Text(text) if !text.is_empty() => grammar::line(text, grammar::TEXT_OCTETS).err(),
        NodeKind::Float(number) if !number.is_finite() => Some(Fault::new("is not a number")),
        _ => None,
    };
    if let Some(fault) = fault {
        report(key.to_owned(), node.span.clone(), fault, problems);
        return false;
    }
    sound
}
