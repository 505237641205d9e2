//! Amounts of memory as settings write them: `"256MiB"`, or a number of octets.

use crate::grammar::Fault;
use crate::problem::quote;
use crate::tree::{Node, NodeKind};

const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
/// A Lua state with the modules of a script in it.
const LEAST: usize = 1 << 20;
/// More than any machine gives to a script.
const MOST: usize = 64 << 30;

/// What `text` says: a whole number and its unit.
pub(crate) fn parse(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// The octets that `node` says, in bounds.
pub(crate) fn from_node(node: &Node) -> Result<usize, Fault> {
    let octets = match &node.kind {
        NodeKind::Text(text) => parse(text).ok_or_else(|| unreadable(text))?,
        NodeKind::Integer(octets) => usize::try_from(*octets).unwrap_or_default(),
        _ => {
            return Err(Fault::new(format!(
                "expected an amount like \"256MiB\", found {}",
                node.type_name()
            )));
        }
    };
    if (LEAST..=MOST).contains(&octets) {
        Ok(octets)
    } else {
        Err(Fault::new("is not from 1MiB to 64GiB"))
    }
}

fn unreadable(text: &str) -> Fault {
    let message = format!("{} is not an amount like \"256MiB\"", quote(text));
    let bare = text.trim();
    let digits = bare.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = bare[digits.len()..].trim().to_ascii_uppercase();
    // Megabytes are meant to be mebibytes nearly everywhere.
    let meant = UNITS
        .iter()
        .find(|(name, _)| unit.starts_with(&name[..1]) && unit.len() <= 3);
    match meant {
        Some((unit, _)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Fault::with(message, format!("write \"{digits}{unit}\""))
        }
        _ => Fault::new(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two() {
        assert_eq!(parse("1KiB"), Some(1024));
        assert_eq!(parse("256MiB"), Some(256 << 20));
        assert_eq!(parse("2GiB"), Some(2 << 30));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "MiB",
            "256",
            "256 MiB",
            "-1MiB",
            "1.5GiB",
            "1mib",
            "256MB",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
            "1MiBß",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_unit_that_was_meant_is_suggested() {
        let suggestion = |text: &str| unreadable(text).suggestion;
        assert_eq!(suggestion("256MB").as_deref(), Some("write \"256MiB\""));
        assert_eq!(suggestion("1 g").as_deref(), Some("write \"1GiB\""));
        assert_eq!(suggestion("512 mib ").as_deref(), Some("write \"512MiB\""));
        assert_eq!(suggestion("1.5MB"), None);
        assert_eq!(suggestion("many"), None);
        assert_eq!(suggestion("ß"), None);
    }
}
