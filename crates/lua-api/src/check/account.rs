//! The table of `pr.account{…}`, against the keys that the configuration knows.

use full_moon::ast::{Expression, Field as Entry, TableConstructor};
use full_moon::tokenizer::Position;

use super::literal::{Literal, choices, keys, named, position, text};
use super::walk::Walker;
use crate::item::Type;
use crate::nearest;
use crate::setting::Setting;

/// The table with the plugin's name and its settings.
const AUTH: &str = "auth.";

/// What decides which keys stand beside it.
const PLUGIN: &str = "plugin";

impl Walker<'_> {
    /// An account that a script describes itself.
    pub(super) fn account(&mut self, table: &TableConstructor) {
        if self.validators.settings.is_empty() {
            return;
        }
        self.settings("", None, table);
        self.requires("an account", "name", table);
    }

    /// One table of it; `section` is `server.`, or nothing for the account's own.
    fn settings(&mut self, section: &str, plugin: Option<&str>, table: &TableConstructor) {
        let validators = self.validators;
        let known: Vec<&Setting> = validators
            .settings
            .iter()
            .filter(|setting| setting.section() == section)
            .filter(|setting| setting.plugin.is_none() || setting.plugin == plugin)
            .collect();
        // Another plugin's settings are described by its own schema.
        let foreign = section == AUTH && !known.iter().any(|setting| setting.plugin.is_some());
        for entry in table.fields() {
            if let Entry::NoKey(value) = entry {
                let at = position(value);
                let place = if section.is_empty() {
                    "an account"
                } else {
                    section.trim_end_matches('.')
                };
                let message = format!("{place} has named fields only");
                self.report(at, "script.unknown_field", message, None);
            }
            let Some((name, value, at)) = named(entry) else {
                continue;
            };
            if let Some(setting) = known.iter().find(|setting| setting.name() == name) {
                self.setting(setting, plugin, value, at);
            } else if section.is_empty() && name == "name" {
                self.held(Type::Text, false, value, at, "field 'name'");
            } else if !foreign {
                let names = known.iter().map(|setting| setting.name());
                let near = nearest(&name, names.chain(section.is_empty().then_some("name")));
                let message = match plugin {
                    Some(plugin) if section == AUTH => {
                        format!("unknown field '{name:.60}' of the plugin {plugin}")
                    }
                    _ => format!("unknown field '{section}{name:.60}'"),
                };
                self.report(at, "script.unknown_field", message, near);
            }
        }
    }

    /// One key with its value.
    fn setting(
        &mut self,
        setting: &Setting,
        plugin: Option<&str>,
        value: &Expression,
        at: Position,
    ) {
        let place = format!("field '{}'", setting.key);
        let section = format!("{}.", setting.key);
        let is_section = self
            .validators
            .settings
            .iter()
            .any(|below| below.key.starts_with(&section));
        // A table whose keys are known, and something else instead: that is a secret.
        let is_secret = is_section && !matches!(setting.what, Type::Table);
        if is_secret && matches!(Literal::of(value), Literal::Text(_) | Literal::SomeText) {
            let message = format!(
                "{place} is no secret itself: pr.secret.env \"NAME\" and others say where it is"
            );
            self.report(at, "script.wrong_type", message, None);
            return;
        }
        self.held(setting.what, true, value, at, &place);
        for choice in choices(value) {
            match Literal::of(choice) {
                Literal::Text(token) => {
                    let at = token.token().start_position();
                    if let Some(word) = text(token) {
                        self.word(setting, &word, at);
                    }
                }
                Literal::Table(table) if section == AUTH => {
                    self.requires("field 'auth'", PLUGIN, table);
                    let named = named_plugin(table);
                    self.settings(&section, named.as_deref(), table);
                }
                Literal::Table(table) if is_section => self.settings(&section, plugin, table),
                Literal::Table(table) => {
                    for item in table.fields() {
                        if let Entry::NoKey(Expression::String(token)) = item
                            && let Some(word) = text(token)
                        {
                            self.word(setting, &word, token.token().start_position());
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A word, where there are only some.
    fn word(&mut self, setting: &Setting, word: &str, at: Position) {
        let words = &setting.words;
        if words.is_empty() || words.contains(&word) {
            return;
        }
        let message = format!(
            "field '{}' must be one of {}, got '{word:.60}'",
            setting.key,
            words.join(", ")
        );
        let near = nearest(word, words.iter().copied());
        self.report(at, "script.unknown_word", message, near);
    }

    /// A key that has to be there, as far as all keys can be read.
    fn requires(&mut self, place: &str, name: &str, table: &TableConstructor) {
        let readable = table
            .fields()
            .iter()
            .all(|entry| named(entry).is_some() || matches!(entry, Entry::NoKey(_)));
        if readable && !keys(table).any(|key| key == name) {
            let at = table.braces().tokens().0.token().start_position();
            let message = format!("{place} lacks the field '{name}'");
            self.report(at, "script.missing_field", message, None);
        }
    }
}

/// The plugin that an `auth` names, if it can be read.
fn named_plugin(table: &TableConstructor) -> Option<String> {
    let (_, value, _) = table
        .fields()
        .iter()
        .filter_map(named)
        .find(|(name, ..)| name == PLUGIN)?;
    match Literal::of(value) {
        Literal::Text(token) => text(token),
        _ => None,
    }
}
