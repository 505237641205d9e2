//! The one shape that is checked: TOML with its places, or a script's JSON without.

use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml_edit::{Item, TableLike};

use crate::problem::Problems;

/// A script's table may nest this deep. (The TOML parser has its own bound.)
const DEPTH: usize = 16;

/// A value and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) span: Option<Range<usize>>,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Null,
    Flag(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Date(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Option<Range<usize>>,
    pub(crate) node: Node,
}

impl Node {
    /// A parsed file's root.
    pub(crate) fn from_toml(root: &toml_edit::Table) -> Self {
        Self::table(root, root.span())
    }

    fn table(table: &dyn TableLike, span: Option<Range<usize>>) -> Self {
        let entries = table
            .iter()
            .map(|(key, item)| {
                let key_span = table.key(key).and_then(toml_edit::Key::span);
                let mut node = Self::from_item(item);
                // A table that only exists through its children is where it is named.
                node.span = node.span.or_else(|| key_span.clone());
                Entry {
                    key: key.to_owned(),
                    key_span,
                    node,
                }
            })
            .collect();
        Self {
            kind: NodeKind::Table(entries),
            span,
        }
    }

    /// A part of a document; without places if the document is one for editing.
    pub(crate) fn from_item(item: &Item) -> Self {
        let span = item.span();
        match item {
            Item::None => Self {
                kind: NodeKind::Null,
                span,
            },
            Item::Value(value) => Self::value(value),
            Item::Table(table) => Self::table(table, span),
            Item::ArrayOfTables(tables) => Self {
                kind: NodeKind::List(
                    tables
                        .iter()
                        .map(|table| Self::table(table, table.span()))
                        .collect(),
                ),
                span,
            },
        }
    }

    fn value(value: &toml_edit::Value) -> Self {
        use toml_edit::Value;
        let kind = match value {
            Value::String(text) => NodeKind::Text(text.value().clone()),
            Value::Integer(number) => NodeKind::Integer(*number.value()),
            Value::Float(number) => NodeKind::Float(*number.value()),
            Value::Boolean(flag) => NodeKind::Flag(*flag.value()),
            Value::Datetime(date) => NodeKind::Date(date.value().to_string()),
            Value::Array(values) => NodeKind::List(values.iter().map(Self::value).collect()),
            Value::InlineTable(table) => return Self::table(table, value.span()),
        };
        Self {
            kind,
            span: value.span(),
        }
    }

    /// A script's value; `name` is whose, for the message when it nests too deep.
    pub(crate) fn from_json(value: Value, name: &str, problems: &mut Problems) -> Option<Self> {
        let node = Self::json(value, DEPTH);
        if node.is_none() {
            problems.add(
                format!("account.{name}"),
                None,
                format!("tables nest more than {DEPTH} deep"),
            );
        }
        node
    }

    fn json(value: Value, depth: usize) -> Option<Self> {
        let below = depth.checked_sub(1)?;
        let kind = match value {
            Value::Null => NodeKind::Null,
            Value::Bool(flag) => NodeKind::Flag(flag),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => NodeKind::Integer(integer),
                None => NodeKind::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => NodeKind::Text(text),
            Value::Array(values) => NodeKind::List(
                values
                    .into_iter()
                    .map(|value| Self::json(value, below))
                    .collect::<Option<_>>()?,
            ),
            Value::Object(entries) => NodeKind::Table(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        Some(Entry {
                            key,
                            key_span: None,
                            node: Self::json(value, below)?,
                        })
                    })
                    .collect::<Option<_>>()?,
            ),
        };
        Some(Self { kind, span: None })
    }

    /// What a plugin receives for this value.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            NodeKind::Null => Value::Null,
            NodeKind::Flag(flag) => Value::Bool(*flag),
            NodeKind::Integer(number) => Value::from(*number),
            NodeKind::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            NodeKind::Text(text) | NodeKind::Date(text) => Value::from(text.as_str()),
            NodeKind::List(nodes) => nodes.iter().map(Self::to_json).collect(),
            NodeKind::Table(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            NodeKind::Table(entries) => Some(entries),
            // An empty Lua table is both.
            NodeKind::List(nodes) if nodes.is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// The entry of that key, in a table.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn list(&self) -> Option<&[Node]> {
        match &self.kind {
            NodeKind::List(nodes) => Some(nodes),
            NodeKind::Table(entries) if entries.is_empty() => Some(&[]),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number; `587.0`, as Lua may write it, is one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self.kind {
            NodeKind::Integer(number) => Some(number),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "whole and within the range that f64 counts exactly"
            )]
            NodeKind::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Some(number as i64)
            }
            _ => None,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            NodeKind::Null => "nothing",
            NodeKind::Flag(_) => "a boolean",
            NodeKind::Integer(_) => "an integer",
            NodeKind::Float(_) => "a fraction",
            NodeKind::Text(_) => "a string",
            NodeKind::Date(_) => "a date",
            NodeKind::List(_) => "an array",
            NodeKind::Table(_) => "a table",
        }
    }
}
