//! Every form in which a secret could show, and where it does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Secrets to look for, each in all its forms.
#[derive(Default)]
pub(crate) struct Needles(Vec<Needle>);

struct Needle {
    name: String,
    secret: Vec<u8>,
    forms: BTreeSet<String>,
}

impl Needles {
    /// Looks for `secret` from now on. A short one could stand anywhere by chance.
    pub(crate) fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        assert!(secret.len() >= 16, "{name} is too short to be told apart");
        if self.0.iter().all(|known| known.secret != secret) {
            self.0.push(Needle {
                name: name.to_owned(),
                secret: secret.to_owned(),
                forms: forms(secret),
            });
        }
    }

    /// How many secrets are looked for.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Which secrets stand in `text`, by name and form.
    pub(crate) fn found_in(&self, text: &[u8]) -> Vec<String> {
        // All forms are ASCII, which survives this wherever it stands.
        let text = String::from_utf8_lossy(text);
        let found = self.0.iter().filter_map(|needle| {
            let form = needle.forms.iter().find(|form| text.contains(*form))?;
            Some(format!("{} as {form}", needle.name))
        });
        found.collect()
    }
}

/// Plain, percent-encoded, escaped as in JSON, hexadecimal and base64 at each of the three places
/// in a longer text.
fn forms(secret: &[u8]) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    if let Ok(plain) = str::from_utf8(secret) {
        let json = serde_json::to_string(plain).unwrap();
        forms.insert(json[1..json.len() - 1].to_owned());
        forms.insert(plain.to_owned());
        for upper in [true, false] {
            let percent = percent_encoded(plain, upper);
            forms.insert(percent.replace("%20", "+"));
            forms.insert(percent);
        }
    }
    let mut hex = String::new();
    for octet in secret {
        let _ = write!(hex, "{octet:02x}");
    }
    forms.insert(hex.to_uppercase());
    forms.insert(hex);
    for before in 0..3 {
        let mut longer = vec![0; before];
        longer.extend(secret);
        // What depends on the neighbours is left out.
        let (first, end) = ((before * 8).div_ceil(6), longer.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            forms.insert(engine.encode(&longer)[first..end].to_owned());
        }
    }
    forms
}

/// RFC 3986 §2.1, with all but the unreserved characters encoded.
fn percent_encoded(text: &str, upper: bool) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        let _ = match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(encoded, "{}", char::from(octet))
            }
            _ if upper => write!(encoded, "%{octet:02X}"),
            _ => write!(encoded, "%{octet:02x}"),
        };
    }
    encoded
}
