//! A message's header: its fields in order, each as it was written.

use super::address_list::addresses;
use super::intake::room_for_whole_characters;
use crate::body::MAX_LINE_OCTETS;

/// One field (RFC 5322 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: String,
    /// What stands behind the colon; folded lines are parted by CRLF. No CRLF at its end.
    value: Vec<u8>,
}

/// The fields in order. [`Intake`](super::Intake) reads one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header(Vec<Field>);

/// Whether a line that begins like this is a field: a name, a colon. A blank before the colon was
/// allowed once (RFC 5322 §4.5).
pub(super) fn is_field_start(line: &[u8]) -> bool {
    name(line).is_some()
}

/// The name, and how much of the line it takes with its colon.
fn name(line: &[u8]) -> Option<(&str, usize)> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let name = name.trim_end_matches([' ', '\t']);
    let is_name = !name.is_empty() && name.bytes().all(|octet| matches!(octet, b'!'..=b'~'));
    is_name.then_some((name, colon + 1))
}

impl Field {
    /// A field of our own. `value` holds neither CR nor LF, but for folds: what somebody else wrote
    /// was a field's value on one line before.
    pub fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: format!(" {value}").into_bytes(),
        }
    }

    /// The field that a line is or begins.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (name, start) = name(line)?;
        Some(Self {
            name: name.to_owned(),
            value: line[start..].to_owned(),
        })
    }

    /// A further line of it, with the blank it begins with.
    pub(super) fn fold(&mut self, line: &[u8]) {
        self.value.extend_from_slice(b"\r\n");
        self.value.extend_from_slice(line);
    }

    /// Whether it has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value on one line; octets that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.value).replace("\r\n", "");
        text.trim().to_owned()
    }

    /// The addresses in it, as they are written; what is none, too.
    pub fn addresses(&self) -> Vec<String> {
        addresses(&self.text())
    }

    /// Lines longer than SMTP carries are folded: at their last blank, else anywhere.
    fn write_to(&self, out: &mut Vec<u8>) {
        let field = [self.name.as_bytes(), b":", &self.value].concat();
        for line in field.split(|&octet| octet == b'\n') {
            let mut rest = line.trim_ascii_end().to_owned();
            while rest.len() > MAX_LINE_OCTETS {
                let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
                // Some text must stand before it on its line, or nothing is won.
                let text = rest.iter().position(|octet| !is_blank(octet));
                let blank = rest[..=MAX_LINE_OCTETS].iter().rposition(is_blank);
                let blank = blank.filter(|&at| at > text.unwrap_or(0).max(self.name.len() + 1));
                let later = if let Some(blank) = blank {
                    rest.split_off(blank)
                } else {
                    let later = rest.split_off(room_for_whole_characters(&rest));
                    [b" ", &later[..]].concat()
                };
                out.extend_from_slice(rest.trim_ascii_end());
                out.extend_from_slice(b"\r\n");
                rest = later;
            }
            out.extend_from_slice(&rest);
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl Header {
    /// Puts it behind all others.
    pub fn push(&mut self, field: Field) {
        self.0.push(field);
    }

    /// Puts it before all others.
    pub fn put_first(&mut self, field: Field) {
        self.0.insert(0, field);
    }

    /// The last one, to be folded.
    pub(super) fn last_mut(&mut self) -> Option<&mut Field> {
        self.0.last_mut()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of this name.
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.is(name))
    }

    /// How many there are of this name.
    pub fn count(&self, name: &str) -> usize {
        self.fields().filter(|field| field.is(name)).count()
    }

    /// Takes out all of this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|field| !field.is(name));
    }

    /// Calls the first of this name otherwise, and takes out further ones.
    pub fn rename(&mut self, name: &str, new: &str) {
        if let Some(field) = self.0.iter_mut().find(|field| field.is(name)) {
            new.clone_into(&mut field.name);
        }
        self.remove(name);
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// Writes it, each line ended by CRLF; no empty line.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        for field in &self.0 {
            field.write_to(out);
        }
    }
}
