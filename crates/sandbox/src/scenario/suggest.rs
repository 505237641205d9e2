//! "Did you mean": the nearest of the names a scenario could have held.

/// `; did you mean …?` if one of the known names is near enough to what was written.
pub(super) fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |name: &str| {
        strsim::jaro_winkler(&written.to_ascii_lowercase(), &name.to_ascii_lowercase())
    };
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

/// The same at the end of an error of serde's, which lists what it knows after a name that it
/// does not: "unknown field `x`, expected one of `a`, `b`".
pub(super) fn of_serde(message: &str) -> String {
    let message = message.trim_end();
    let found = ["unknown field `", "unknown variant `"]
        .iter()
        .find_map(|start| message.split_once(start)?.1.split_once("`, expected "));
    match found {
        Some((written, known)) => {
            // Between backticks stand the names, between those the words around them.
            let known = known.split('`').skip(1).step_by(2);
            format!("{message}{}", suggestion(written, known))
        }
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_word_and_a_stranger_finds_none() {
        let listed = "unknown field `conections`, expected one of `over_rate`, `connections`";
        assert_eq!(
            of_serde(listed),
            format!("{listed}; did you mean `connections`?")
        );
        let two = "unknown variant `hid`, expected `hide` or `show`";
        assert_eq!(of_serde(two), format!("{two}; did you mean `hide`?"));
        for stays in [
            "unknown field `zzz`, expected `over_rate`",
            "unknown field `x`, there are no fields",
            "missing field `upn`",
            "",
        ] {
            assert_eq!(of_serde(stays), stays);
        }
    }
}
