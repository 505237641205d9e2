//! The query's parameters: the few that are served. One that is not is refused, not ignored.

use serde_json::{Map, Value, json};

use super::Call;
use super::answer::{Answer, Refusal};

/// Objects on one page unless `$top` asks for fewer.
const PAGE: usize = 100;

/// The parameters of one call.
#[derive(Debug, Default)]
pub(super) struct Query {
    conditions: Vec<Condition>,
    select: Option<Vec<String>>,
    top: Option<usize>,
    skip: usize,
    pub(super) count: bool,
}

/// `property eq 'value'` or `startswith(property,'value')`
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    property: String,
    value: String,
    prefix: bool,
}

impl Query {
    pub(super) fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "$filter" => read.conditions = conditions(&value)?,
                "$select" => {
                    let names = value.split(',').map(|n| n.trim().to_owned());
                    read.select = Some(names.collect());
                }
                "$top" => {
                    let top = value.parse().ok().filter(|n| (1..=999).contains(n));
                    read.top = Some(top.ok_or_else(|| Refusal::bad("Invalid $top."))?);
                }
                "$skiptoken" => {
                    read.skip = value
                        .parse()
                        .map_err(|_| Refusal::bad("Invalid $skiptoken."))?;
                }
                "$count" => read.count = value == "true",
                other => {
                    return Err(Refusal::bad(format!(
                        "This sandbox does not know the parameter {}.",
                        crate::jwt::shown(other)
                    )));
                }
            }
        }
        Ok(read)
    }

    /// Whether a property is asked for by name.
    pub(super) fn selects(&self, property: &str) -> bool {
        self.select
            .as_ref()
            .is_some_and(|names| names.iter().any(|n| n == property))
    }

    fn admits(&self, object: &Value) -> bool {
        self.conditions.iter().all(|condition| {
            object[condition.property.as_str()]
                .as_str()
                .is_some_and(|found| {
                    let found = found.to_ascii_lowercase();
                    let wanted = condition.value.to_ascii_lowercase();
                    if condition.prefix {
                        found.starts_with(&wanted)
                    } else {
                        found == wanted
                    }
                })
        })
    }

    fn selected(&self, object: Value) -> Value {
        let (Some(names), Value::Object(object)) = (&self.select, &object) else {
            return object;
        };
        let chosen: Map<String, Value> = object
            .iter()
            .filter(|(name, _)| name.starts_with('@') || names.contains(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Value::Object(chosen)
    }
}

impl Call<'_> {
    /// One object, as far as it was asked for.
    pub(super) fn one(&self, object: Value) -> Answer {
        Answer::Found(self.query.selected(object))
    }

    /// Those objects of a collection that were asked for, a page at a time.
    pub(super) fn page(&self, path: &str, objects: Vec<Value>) -> Answer {
        let query = &self.query;
        let found: Vec<Value> = objects.into_iter().filter(|o| query.admits(o)).collect();
        let size = query.top.unwrap_or(PAGE);
        let total = found.len();
        let page: Vec<Value> = found
            .into_iter()
            .skip(query.skip)
            .take(size)
            .map(|object| query.selected(object))
            .collect();
        let mut body = json!({ "value": page });
        if query.count {
            body["@odata.count"] = total.into();
        }
        let next = query.skip.saturating_add(size);
        if next < total {
            body["@odata.nextLink"] = self.next_link(path, next).into();
        }
        Answer::Found(body)
    }

    fn next_link(&self, path: &str, skip: usize) -> String {
        let query = &self.query;
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        let conditions: Vec<String> = query.conditions.iter().map(Condition::to_text).collect();
        if !conditions.is_empty() {
            pairs.append_pair("$filter", &conditions.join(" and "));
        }
        if let Some(names) = &query.select {
            pairs.append_pair("$select", &names.join(","));
        }
        if let Some(top) = query.top {
            pairs.append_pair("$top", &top.to_string());
        }
        pairs.append_pair("$skiptoken", &skip.to_string());
        let authority = self.graph.state.authority();
        format!("{authority}v1.0/{path}?{}", pairs.finish())
    }
}

impl Condition {
    fn to_text(&self) -> String {
        let value = self.value.replace('\'', "''");
        if self.prefix {
            format!("startswith({},'{value}')", self.property)
        } else {
            format!("{} eq '{value}'", self.property)
        }
    }
}

fn conditions(filter: &str) -> Result<Vec<Condition>, Refusal> {
    let invalid = || Refusal::bad("Invalid filter clause.");
    let mut rest = filter.trim();
    let mut found = Vec::new();
    loop {
        let (condition, after) = condition(rest).ok_or_else(invalid)?;
        found.push(condition);
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(found);
        }
        rest = after.strip_prefix("and ").ok_or_else(invalid)?.trim_start();
    }
}

/// One condition, and what follows it.
fn condition(text: &str) -> Option<(Condition, &str)> {
    if let Some(inner) = text.strip_prefix("startswith(") {
        let (property, rest) = inner.split_once(',')?;
        let (value, rest) = literal(rest.trim_start())?;
        let rest = rest.trim_start().strip_prefix(')')?;
        return Some((
            Condition {
                property: name(property.trim())?,
                value,
                prefix: true,
            },
            rest,
        ));
    }
    let (property, rest) = text.split_once(' ')?;
    let rest = rest.trim_start().strip_prefix("eq ")?.trim_start();
    let (value, rest) = literal(rest)?;
    Some((
        Condition {
            property: name(property)?,
            value,
            prefix: false,
        },
        rest,
    ))
}

fn name(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then(|| text.to_owned())
}

/// `'it''s'`, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_whole_or_not_at_all() {
        let read = conditions("appId eq 'x' and startswith(displayName,'it''s')").unwrap();
        let written: Vec<_> = read.iter().map(Condition::to_text).collect();
        assert_eq!(written, ["appId eq 'x'", "startswith(displayName,'it''s')"]);
        assert_eq!(read[1].value, "it's");
        for slip in [
            "",
            "appId",
            "appId eq x",
            "appId eq 'x",
            "appId eq 'x' or 1 eq 1",
            "appId ne 'x'",
            "a/b eq 'x'",
        ] {
            assert!(conditions(slip).is_err(), "{slip}");
        }
    }
}
