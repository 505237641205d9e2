//! Changing a settings file from a program: comments and order stay, and what is written has
//! been checked.
//!
//! An edit is made to the file as it is at that moment, under a lock that all of Postrider's
//! processes respect, and replaces it in one step; a change made by an editor in between is
//! noticed, and the edit is made again on top of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, RawString, Table, TableLike};

use crate::config::Config;
use crate::keys::{is_setting_of_gateway, looks_secret};
use crate::presets::Presets;
use crate::problem::ConfigErrors;
use crate::replace;
use crate::secret;
use crate::section::show_key;
use crate::tree::Node;

/// No setting lies or nests deeper.
const DEPTH: usize = 16;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Gives `key` a value; what is missing of its tables is made.
    Set {
        /// Dotted: `account.ops.sender`.
        key: String,
        /// Text, number, boolean, array or table; never null.
        value: Value,
    },
    /// Takes `key` out, with all below it.
    Remove {
        /// Dotted.
        key: String,
    },
}

/// Why an edit was not made. The file is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum EditError {
    /// The key cannot be edited: not a dotted key, or its table is no table.
    Key {
        /// The key as given.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// The value cannot stand in a settings file.
    Value {
        /// The key it was meant for.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// The file is not right, or would not be afterwards.
    Invalid(ConfigErrors),
    /// What the key holds is a secret and is not given out.
    Secret {
        /// The key.
        key: String,
    },
    /// The file cannot be read or replaced.
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        message: String,
        /// Why.
        source: Option<io::Error>,
    },
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { key, message } | Self::Value { key, message } => {
                write!(f, "{key}: {message}")
            }
            Self::Invalid(errors) => {
                write!(f, "the settings would not be valid")?;
                match errors.problems.as_slice() {
                    [] => Ok(()),
                    [only] => write!(f, ": {only}"),
                    [first, rest @ ..] => write!(f, ": {first} (and {} more)", rest.len()),
                }
            }
            Self::Secret { key } => write!(f, "{key}: holds a secret itself, which is not shown"),
            Self::File { path, message, .. } => write!(f, "{}: {message}", path.display()),
        }
    }
}

impl std::error::Error for EditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => source.as_ref().map(|error| error as _),
            _ => None,
        }
    }
}

/// Gives `key` a value. A file that does not exist is made, readable by its owner only.
pub fn set(path: &Path, key: &str, value: Value, presets: &Presets) -> Result<(), EditError> {
    let change = Change::Set {
        key: key.to_owned(),
        value,
    };
    apply(path, &[change], presets)
}

/// Takes `key` out; whether it was there.
pub fn remove(path: &Path, key: &str, presets: &Presets) -> Result<bool, EditError> {
    // What is taken out is not shown, so it may hold a secret, or what is called like one.
    let was_there = match get(path, key) {
        Ok(value) => value.is_some(),
        Err(EditError::Secret { .. }) => true,
        Err(error) => return Err(error),
    };
    if was_there {
        let key = key.to_owned();
        apply(path, &[Change::Remove { key }], presets)?;
    }
    Ok(was_there)
}

/// What `key` holds, as it is written: presets are not filled in. A secret's reference is a
/// table; a secret that stands in the file by mistake is not given out.
pub fn get(path: &Path, key: &str) -> Result<Option<Value>, EditError> {
    let keys = parse_key(key)?;
    let Some(text) = replace::read(path)? else {
        return Ok(None);
    };
    let document = parse(path, &text)?;
    let mut item = document.as_item();
    let mut path = Vec::new();
    for name in keys.iter().map(Key::get) {
        let table = item.as_table_like();
        let Some(below) = table.and_then(|table| table.get(name)) else {
            return Ok(None);
        };
        item = below;
        path.push(name);
        if is_secret(&path, &Node::from_item(item)) {
            return Err(EditError::Secret {
                key: key.to_owned(),
            });
        }
    }
    let node = Node::from_item(item);
    if holds_secret(&path, &node) {
        return Err(EditError::Secret {
            key: key.to_owned(),
        });
    }
    Ok(Some(node.to_json()))
}

/// Makes all of `changes` or none.
///
/// # Errors
/// [`EditError::Invalid`] when the file would not be valid afterwards; see [`EditError`].
pub fn apply(path: &Path, changes: &[Change], presets: &Presets) -> Result<(), EditError> {
    replace::edit(path, |text| {
        let (text, _) = changed(path, text, changes, presets)?;
        Ok(text)
    })
}

/// The settings as they would be after `changes`, of which none is made.
///
/// # Errors
/// Those of [`apply`].
pub fn preview(path: &Path, changes: &[Change], presets: &Presets) -> Result<Config, EditError> {
    let text = replace::read(path)?.unwrap_or_default();
    let (_, config) = changed(path, &text, changes, presets)?;
    Ok(config)
}

/// The file's text after `changes`, and what it says.
fn changed(
    path: &Path,
    text: &str,
    changes: &[Change],
    presets: &Presets,
) -> Result<(String, Config), EditError> {
    let mut document = parse(path, text)?;
    for change in changes {
        match change {
            Change::Set { key, value } => set_in(&mut document, key, value)?,
            Change::Remove { key } => remove_in(&mut document, key)?,
        }
    }
    let text = document.to_string();
    let config = Config::parse(&text, Some(path), presets).map_err(EditError::Invalid)?;
    Ok((text, config))
}

fn parse(path: &Path, text: &str) -> Result<DocumentMut, EditError> {
    text.parse::<DocumentMut>().map_err(|_| {
        // The checker shows the place, masked; the parser's own error quotes the file.
        match Config::parse(text, Some(path), &Presets::builtin()) {
            Err(errors) => EditError::Invalid(errors),
            Ok(_) => EditError::File {
                path: path.to_owned(),
                message: "is not TOML".to_owned(),
                source: None,
            },
        }
    })
}

fn parse_key(key: &str) -> Result<Vec<Key>, EditError> {
    Key::parse(key)
        .ok()
        .filter(|keys| keys.len() <= DEPTH)
        .ok_or_else(|| EditError::Key {
            key: show_key(key),
            message: "is not a dotted key like account.ops.sender".to_owned(),
        })
}

/// A key as it may stand in a message.
fn shown(keys: &[Key]) -> String {
    let parts: Vec<String> = keys.iter().map(|key| show_key(key.get())).collect();
    parts.join(".")
}

/// Whether `value` nests at most `depth` deep.
fn is_shallow(value: &Value, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else {
        return false;
    };
    match value {
        Value::Array(values) => values.iter().all(|value| is_shallow(value, below)),
        Value::Object(entries) => entries.values().all(|value| is_shallow(value, below)),
        _ => true,
    }
}

/// Whether `node` at `path` is called like a secret, and is no reference to one.
fn is_secret(path: &[&str], node: &Node) -> bool {
    path.last().is_some_and(|name| looks_secret(name))
        && !is_setting_of_gateway(path)
        && !secret::is_reference(node)
}

/// Whether a secret itself, not a reference to it, stands anywhere below `path`.
fn holds_secret(path: &[&str], node: &Node) -> bool {
    let mut listed = node.list().unwrap_or_default().iter();
    let mut entries = node.entries().unwrap_or_default().iter();
    listed.any(|node| holds_secret(path, node))
        || entries.any(|entry| {
            let path = [path, &[entry.key.as_str()]].concat();
            is_secret(&path, &entry.node) || holds_secret(&path, &entry.node)
        })
}

fn set_in(document: &mut DocumentMut, key: &str, value: &Value) -> Result<(), EditError> {
    let keys = parse_key(key)?;
    let Some((leaf, parents)) = keys.split_last() else {
        return Ok(());
    };
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut inline = false;
    for parent in parents {
        let slot = table.entry(parent.get()).or_insert_with(|| {
            if inline {
                return Item::Value(InlineTable::new().into());
            }
            // Only what holds values itself gets a header.
            let mut made = Table::new();
            made.set_implicit(true);
            Item::Table(made)
        });
        inline = slot.is_inline_table();
        table = slot.as_table_like_mut().ok_or_else(|| EditError::Key {
            key: shown(&keys),
            message: format!("`{}` is not a table", show_key(parent.get())),
        })?;
    }
    let unfit = |message| EditError::Value {
        key: shown(&keys),
        message,
    };
    if !is_shallow(value, DEPTH) {
        return Err(unfit(format!("tables nest more than {DEPTH} deep")));
    }
    let mut item = item(value, inline).map_err(unfit)?;
    if let Some(old) = table.get_mut(leaf.get()) {
        keep_surroundings(old, &mut item);
        *old = item;
    } else {
        if inline {
            close_up(table);
        }
        table.insert(leaf.get(), item);
    }
    Ok(())
}

/// Takes away the blank after the last value, which would come to stand before a comma.
fn close_up(table: &mut dyn TableLike) {
    if let Some((_, Item::Value(value))) = table.iter_mut().last() {
        let suffix = value.decor().suffix().and_then(RawString::as_str);
        if suffix.is_some_and(|text| text.trim().is_empty()) {
            value.decor_mut().set_suffix("");
        }
    }
}

/// The comments around a value, and a table's place, survive its replacement.
fn keep_surroundings(old: &Item, new: &mut Item) {
    match (old, new) {
        (Item::Value(old), Item::Value(new)) => *new.decor_mut() = old.decor().clone(),
        (Item::Table(old), Item::Table(new)) => {
            *new.decor_mut() = old.decor().clone();
            new.set_position(old.position());
        }
        _ => {}
    }
}

fn remove_in(document: &mut DocumentMut, key: &str) -> Result<(), EditError> {
    let keys = parse_key(key)?;
    let Some((leaf, parents)) = keys.split_last() else {
        return Ok(());
    };
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for parent in parents {
        match table
            .get_mut(parent.get())
            .and_then(Item::as_table_like_mut)
        {
            Some(below) => table = below,
            None => return Ok(()),
        }
    }
    table.remove(leaf.get());
    Ok(())
}

/// A value as TOML. A table becomes one with a header where it may and where it holds tables
/// itself or was asked for by name; else it stays in its line.
fn item(value: &Value, inline: bool) -> Result<Item, String> {
    let Value::Object(entries) = value else {
        return Ok(Item::Value(plain(value)?));
    };
    if inline {
        return Ok(Item::Value(plain(value)?));
    }
    let mut table = Table::new();
    for (key, value) in entries {
        let holds_tables = value
            .as_object()
            .is_some_and(|below| below.values().any(Value::is_object));
        table.insert(key, item(value, !holds_tables)?);
    }
    Ok(Item::Table(table))
}

fn plain(value: &Value) -> Result<toml_edit::Value, String> {
    Ok(match value {
        Value::Null => return Err("null is no setting; remove the key instead".to_owned()),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(fraction)) if !number.is_u64() => fraction.into(),
            _ => return Err("the number is too large".to_owned()),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => values
            .iter()
            .map(plain)
            .collect::<Result<Array, _>>()?
            .into(),
        Value::Object(entries) => {
            let mut table = InlineTable::new();
            for (key, value) in entries {
                table.insert(key, plain(value)?);
            }
            table.into()
        }
    })
}
