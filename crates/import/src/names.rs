//! Names for accounts and gateways.

use std::collections::BTreeMap;

/// What a name may have (the configuration's grammar).
const NAME_OCTETS: usize = 64;

/// Names that do not collide, all with one prefix.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: String,
    /// With the number that comes next behind each.
    used: BTreeMap<String, usize>,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: plain(prefix),
            used: BTreeMap::new(),
        }
    }

    /// A name for the mailbox `address`: its local part, or all of it where that is taken.
    pub(crate) fn of_mailbox(&mut self, address: &str) -> String {
        let local = address.split('@').next().unwrap_or_default();
        let short = self.fit(local);
        if self.used.contains_key(&short) {
            return self.of(address);
        }
        self.used.insert(short.clone(), 2);
        short
    }

    /// A name as near to `wanted` as one may be.
    pub(crate) fn of(&mut self, wanted: &str) -> String {
        let base = self.fit(wanted);
        let mut name = base.clone();
        let mut number = self.used.get(&base).copied().unwrap_or(2);
        while self.used.contains_key(&name) {
            let suffix = format!("-{number}");
            let room = NAME_OCTETS.saturating_sub(suffix.len());
            name = base.chars().take(room).chain(suffix.chars()).collect();
            number += 1;
        }
        self.used.insert(base, number);
        self.used.entry(name.clone()).or_insert(2);
        name
    }

    fn fit(&self, wanted: &str) -> String {
        let wanted = plain(wanted);
        let wanted = wanted.trim_matches('-');
        let wanted = if wanted.is_empty() { "account" } else { wanted };
        let whole = self.prefix.chars().chain(wanted.chars());
        whole.take(NAME_OCTETS).collect()
    }
}

/// Letters, digits, `-` and `_`.
fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.chars()
        .map(|c| if fits(c) { c.to_ascii_lowercase() } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_local_part_and_never_two_accounts() {
        let mut names = Names::new("old-");
        assert_eq!(names.of_mailbox("Alerts@contoso.com"), "old-alerts");
        assert_eq!(
            names.of_mailbox("alerts@example.org"),
            "old-alerts-example-org"
        );
        assert_eq!(
            names.of_mailbox("alerts@example.org"),
            "old-alerts-example-org-2"
        );
        assert_eq!(names.of_mailbox("@contoso.com"), "old-account");
        assert_eq!(names.of(&"x".repeat(100)).len(), 64);
        assert_eq!(names.of(&"x".repeat(100)).len(), 64);
    }
}
