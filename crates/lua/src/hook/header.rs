//! The header of a finished message, as a hook sees and changes it: `subject` and `headers`.
//!
//! What a hook does not touch stays as it was, octet by octet.

use std::collections::BTreeMap;
use std::ops::Range;

use lettre::message::header::{HeaderName, HeaderValue, Headers};
use mail_parser::parsers::MessageStream;
use mlua::{Lua, Table, Value};

use crate::call::Fields;
use crate::fault::Fault;

/// A word beyond this cannot be folded onto a line of 998 octets (RFC 5322 §2.1.1).
const WORD_OCTETS: usize = 900;

/// The values of each name that a hook changed; none for one that it took out.
pub(super) type Changes = BTreeMap<String, Vec<String>>;

/// Puts what stands in the header of `raw` into the table.
pub(super) fn show(lua: &Lua, table: &Table, raw: &[u8]) -> mlua::Result<()> {
    let headers = lua.create_table()?;
    for (name, values) in values(raw) {
        if name == "subject" {
            table.raw_set("subject", values.first().map(String::as_str))?;
        }
        headers.raw_set(name, values)?;
    }
    table.raw_set("headers", headers)
}

/// What the hook changed of it; where the message stays a finished one, `subject` and `headers`
/// are taken out.
pub(super) fn take(table: &Table, raw: &[u8]) -> Result<Changes, Fault> {
    let before = values(raw);
    let now = named(table)?;
    let subject = Fields::unchecked(table, "").text("subject")?;
    let is_there = |key| Ok::<_, Fault>(!table.raw_get::<Value>(key)?.is_nil());
    let stays = is_there("raw")? || is_there("raw_file")?;
    if stays || now == before {
        table.raw_set("headers", Value::Nil)?;
    }
    if !stays {
        return Ok(Changes::new());
    }
    table.raw_set("subject", Value::Nil)?;
    let mut changes: Changes = now
        .iter()
        .filter(|(name, values)| before.get(*name) != Some(values))
        .map(|(name, values)| (name.clone(), values.clone()))
        .collect();
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        changes.insert(name.clone(), Vec::new());
    }
    let shown = before.get("subject").and_then(|all| all.first());
    if subject.as_ref() != shown {
        changes.insert("subject".to_owned(), subject.into_iter().collect());
    }
    Ok(changes)
}

/// The hook's `headers`, by name in small letters.
fn named(table: &Table) -> Result<Changes, Fault> {
    let fields = Fields::unchecked(table, "");
    let headers = match fields.value("headers")? {
        Value::Nil => return Ok(Changes::new()),
        Value::Table(headers) => headers,
        other => return Err(fields.wrong("headers", "a table", &other)),
    };
    let values = Fields::unchecked(&headers, "headers.");
    let mut named = Changes::new();
    for (name, _) in fields.named("headers", &headers)? {
        let all = values.texts(&name)?;
        if named.insert(name.to_ascii_lowercase(), all).is_some() {
            return Err(Fault::Misuse(format!(
                "field 'headers.{name:.60}' is there twice: names are the same in small letters and in capitals"
            )));
        }
    }
    Ok(named)
}

/// Makes the changes: each where the first of its name stands, or behind all others.
pub(super) fn change(raw: &mut Vec<u8>, changes: &Changes) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let fields = fields(raw);
    let end = fields.last().map_or(0, |field| field.span.end);
    let mut new = Vec::with_capacity(raw.len() + 256);
    let mut made = Vec::new();
    for field in &fields {
        match changes.get(&field.name) {
            None => new.extend_from_slice(&raw[field.span.clone()]),
            Some(_) if made.contains(&&field.name) => {}
            Some(values) => {
                write(&mut new, &field.name, values)?;
                made.push(&field.name);
            }
        }
    }
    if !new.is_empty() && !new.ends_with(b"\n") {
        new.extend_from_slice(b"\r\n");
    }
    for (name, values) in changes.iter().filter(|(name, _)| !made.contains(name)) {
        write(&mut new, name, values)?;
    }
    if fields.is_empty() && !raw.starts_with(b"\r\n") {
        new.extend_from_slice(b"\r\n");
    }
    new.extend_from_slice(&raw[end..]);
    *raw = new;
    Ok(())
}

fn write(out: &mut Vec<u8>, name: &str, values: &[String]) -> Result<(), Fault> {
    for value in values {
        let wrong = |why: &str| Fault::Misuse(format!("field 'headers.{name:.60}' {why}"));
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(wrong("has a control character"));
        }
        if value
            .split([' ', '\t'])
            .any(|word| word.len() > WORD_OCTETS)
        {
            return Err(wrong("has a word that fits no line"));
        }
        let name = HeaderName::new_from_ascii(capitalized(name))
            .ok()
            .filter(|_| name.bytes().all(|b| b.is_ascii_graphic() && b != b':'))
            .ok_or_else(|| wrong("is no name of a header field"))?;
        let mut field = Headers::new();
        field.insert_raw(HeaderValue::new(name, value.clone()));
        out.extend_from_slice(field.to_string().as_bytes());
    }
    Ok(())
}

/// `x-ups-alarm` as people write it: some old readers care.
fn capitalized(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut word = word.to_owned();
        if let Some(first) = word.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        word
    });
    words.collect::<Vec<_>>().join("-")
}

struct Field {
    /// In small letters.
    name: String,
    /// Decoded, on one line.
    text: String,
    /// Where it stands, with the end of its last line.
    span: Range<usize>,
}

fn values(raw: &[u8]) -> Changes {
    let mut values = Changes::new();
    for field in fields(raw) {
        values.entry(field.name).or_default().push(field.text);
    }
    values
}

/// The fields in order. A line that is neither a field nor the end belongs to the field before it,
/// or ends a header that has none.
fn fields(raw: &[u8]) -> Vec<Field> {
    let mut spans: Vec<(&str, Range<usize>)> = Vec::new();
    let mut end = 0;
    for line in raw.split_inclusive(|&octet| octet == b'\n') {
        let begin = end;
        end += line.len();
        if line.trim_ascii_end().is_empty() && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            break;
        }
        match (name(line), spans.last_mut()) {
            (Some(name), _) => spans.push((name, begin..end)),
            (None, Some((_, span))) => span.end = end,
            (None, None) => break,
        }
    }
    let field = |(name, span): (&str, Range<usize>)| {
        let line = &raw[span.clone()];
        let colon = line.iter().position(|&octet| octet == b':');
        Field {
            name: name.to_ascii_lowercase(),
            text: decoded(&line[colon.map_or(0, |colon| colon + 1)..]),
            span,
        }
    };
    spans.into_iter().map(field).collect()
}

/// The name of the field that this line begins. A blank before the colon was allowed once (RFC
/// 5322 §4.5).
fn name(line: &[u8]) -> Option<&str> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let name = name.trim_end_matches([' ', '\t']);
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    is_name.then_some(name)
}

/// Unfolded and decoded (RFC 2047).
fn decoded(value: &[u8]) -> String {
    // Without its end the parser would take it for cut off.
    let line = [value.trim_ascii_end(), b"\r\n"].concat();
    let parsed = MessageStream::new(&line).parse_unstructured();
    let text = parsed.into_text().unwrap_or_default();
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAW: &[u8] = b"Received: from a\r\n\tby b\r\nSubject: =?utf-8?q?T=C3=BCr?= offen\r\n\
        From: \"Scanner\" <s@contoso.com>\r\nreceived: from c\r\n\r\nSubject: body\r\n";

    fn changed(raw: &[u8], changes: &[(&str, &[&str])]) -> String {
        let changes = changes.iter().map(|(name, values)| {
            let values = values.iter().map(|&value| value.to_owned()).collect();
            ((*name).to_owned(), values)
        });
        let mut raw = raw.to_owned();
        assert!(change(&mut raw, &changes.collect()).is_ok());
        String::from_utf8(raw).unwrap()
    }

    #[test]
    fn fields_are_read_decoded_and_on_one_line() {
        let values = values(RAW);
        assert_eq!(values["subject"], ["Tür offen"]);
        assert_eq!(values["received"].len(), 2);
        assert_eq!(values["from"], ["\"Scanner\" <s@contoso.com>"]);
        assert_eq!(values.len(), 3);
    }

    #[test]
    fn what_is_not_changed_stays_octet_by_octet() {
        assert_eq!(changed(RAW, &[]).as_bytes(), RAW);
        assert_eq!(
            changed(RAW, &[("subject", &["Tür zu"]), ("x-ups", &["1", "2"])]),
            "Received: from a\r\n\tby b\r\nSubject: =?utf-8?b?VMO8cg==?= zu\r\n\
             From: \"Scanner\" <s@contoso.com>\r\nreceived: from c\r\nX-Ups: 1\r\nX-Ups: 2\r\n\
             \r\nSubject: body\r\n"
        );
        assert_eq!(
            changed(RAW, &[("received", &[]), ("subject", &[])]),
            "From: \"Scanner\" <s@contoso.com>\r\n\r\nSubject: body\r\n"
        );
    }

    #[test]
    fn a_message_without_a_header_gets_one() {
        assert_eq!(
            changed(b"\r\nbody\r\n", &[("subject", &["x"])]),
            "Subject: x\r\n\r\nbody\r\n"
        );
    }

    #[test]
    fn no_value_and_no_name_begins_a_field_of_its_own() {
        for (name, value) in [
            ("subject", "a\r\nBcc: b@example.org"),
            ("subject", "a\nb"),
            ("x y", "a"),
            ("x:y", "a"),
            ("", "a"),
            ("x\r\ny", "a"),
        ] {
            let changes = Changes::from([(name.to_owned(), vec![value.to_owned()])]);
            let mut raw = RAW.to_vec();
            assert!(change(&mut raw, &changes).is_err(), "{name:?}: {value:?}");
            assert_eq!(raw, RAW);
        }
    }

    /// Whatever ends a header line, or seems to.
    fn rows() -> impl Strategy<Value = Vec<u8>> {
        let row = prop_oneof![
            Just(b"Subject: a\r\n".to_vec()),
            Just(b"X-A:\r\n".to_vec()),
            Just(b" folded\r\n".to_vec()),
            Just(b"no field\r\n".to_vec()),
            Just(b": nameless\r\n".to_vec()),
            Just(b"X-B : blank\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"X-C: =?utf-8?b?w".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        proptest::collection::vec(row, 0..12).prop_map(|rows| rows.concat())
    }

    proptest! {
        #[test]
        fn a_change_leaves_the_rest_of_any_message(raw in rows()) {
            let before = values(&raw);
            let mut same = raw.clone();
            prop_assert!(change(&mut same, &Changes::new()).is_ok());
            prop_assert_eq!(&same, &raw);

            let changes = Changes::from([("x-new".to_owned(), vec!["é 1".to_owned()])]);
            let mut changed = raw.clone();
            prop_assert!(change(&mut changed, &changes).is_ok());
            let mut after = values(&changed);
            prop_assert_eq!(after.remove("x-new"), Some(vec!["é 1".to_owned()]));
            prop_assert_eq!(after, before);
        }
    }
}
