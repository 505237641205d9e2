//! "Did you mean": the nearest of the known names.

/// The known name that `typed` most likely meant, if one is near enough.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_finds_its_word_and_a_stranger_finds_none() {
        assert_eq!(nearest("alrets", ["alerts", "printer"]), Some("alerts"));
        assert_eq!(nearest("zzz", ["alerts", "printer"]), None);
        assert_eq!(nearest("a", []), None);
    }
}
