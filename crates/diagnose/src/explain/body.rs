//! Error bodies: JSON as token endpoints, Graph and Postrider itself answer, and the challenges
//! that come with a refused `AUTH XOAUTH2`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Finding, Kind, Text, oauth, smtp};
use crate::catalogue::CATALOGUE;
use crate::graph;
use crate::meaning::{Diagnosis, Subject};

/// As many beginnings of an object are tried.
const MAX_OBJECTS: usize = 64;

/// Takes every JSON object that is an error body.
pub(super) fn find(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let mut from = 0;
    for _ in 0..MAX_OBJECTS {
        let Some(start) = text.left[from..].find('{').map(|at| from + at) else {
            return;
        };
        let mut values = serde_json::Deserializer::from_str(&text.left[start..]).into_iter();
        let value = values.next();
        let span = start..start + values.byte_offset();
        from = start + 1;
        let Some(Ok(Value::Object(object))) = value else {
            continue;
        };
        if let Some((kind, diagnosis)) = meaning(&object, subject) {
            found.push(Finding::new(kind, text, span.clone(), diagnosis));
            from = span.end;
            text.take(span);
        }
    }
}

/// Takes `334 eyJ…`: the JSON that Gmail explains itself with.
pub(super) fn challenges(text: &mut Text, subject: Subject<'_>, found: &mut Vec<Finding>) {
    let starts: Vec<usize> = text.left.match_indices("334 ").map(|(at, _)| at).collect();
    for start in starts.into_iter().take(MAX_OBJECTS) {
        let rest = &text.left[start + 4..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c))
            .unwrap_or(rest.len());
        let decoded = STANDARD.decode(&rest[..end]).ok();
        let object = decoded.and_then(|octets| serde_json::from_slice(&octets).ok());
        if let Some(Value::Object(object)) = object
            && let Some((kind, diagnosis)) = meaning(&object, subject)
        {
            let span = start..start + 4 + end;
            found.push(Finding::new(kind, text, span.clone(), diagnosis));
            text.take(span);
        }
    }
}

/// What an object means, if it is an error body.
fn meaning(object: &Map<String, Value>, subject: Subject<'_>) -> Option<(Kind, Diagnosis)> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    if object.contains_key("schemes") && object.contains_key("status") {
        let challenge = Value::Object(object.clone()).to_string();
        return Some((Kind::Smtp, smtp(535, None, &challenge, subject)));
    }
    match object.get("error") {
        Some(Value::String(error)) => {
            let number = object
                .get("error_codes")
                .and_then(|codes| codes.get(0)?.as_u64());
            let description = match (number, text("error_description")) {
                (Some(number), Some(said)) if !said.contains("AADSTS") => {
                    Some(format!("AADSTS{number}: {said}"))
                }
                (Some(number), None) => Some(format!("AADSTS{number}")),
                (_, said) => said.map(str::to_owned),
            };
            let diagnosis = oauth(error, text("suberror"), description.as_deref(), subject);
            let is_one = description.is_some() || diagnosis.known;
            is_one.then_some((Kind::Oauth, diagnosis))
        }
        Some(Value::Object(error)) => coded(error, subject),
        _ => coded(object, subject).filter(|(_, diagnosis)| diagnosis.known),
    }
}

/// What `{"code": …, "message": …}` means, of Graph or of Postrider.
fn coded(error: &Map<String, Value>, subject: Subject<'_>) -> Option<(Kind, Diagnosis)> {
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let code = text("code")?;
    if let Some(reply) = error.get("smtp") {
        let number = reply.get("code")?.as_u64()?;
        let said = reply.get("text").and_then(Value::as_str);
        let enhanced = reply.get("enhanced").and_then(Value::as_str);
        let number = u16::try_from(number).ok()?;
        let diagnosis = smtp(number, enhanced, said.unwrap_or_default(), subject);
        return Some((Kind::Smtp, diagnosis));
    }
    if let Some(meaning) = CATALOGUE.by_code(code).next() {
        return Some((Kind::Postrider, meaning.diagnosis(subject)));
    }
    let message = text("message")?;
    Some((Kind::Graph, graph(0, Some(code), message, subject)))
}
