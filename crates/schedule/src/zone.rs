//! Time zones by their names in the IANA database.

use std::fmt;

use jiff::tz::TimeZone;

/// A name that no time zone has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    name: String,
    nearest: Option<String>,
}

impl ZoneError {
    /// The name that was probably meant.
    pub fn nearest(&self) -> Option<&str> {
        self.nearest.as_deref()
    }
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.name.chars().take(60).collect();
        write!(f, "there is no time zone {shown:?}")?;
        match &self.nearest {
            Some(nearest) => write!(f, " (did you mean {nearest:?}?)"),
            None => write!(f, "; names are as in \"Europe/Paris\", or \"local\""),
        }
    }
}

impl std::error::Error for ZoneError {}

/// The time zone called `name`, as in `Europe/Paris`, or `local` for that of the system.
pub fn time_zone(name: &str) -> Result<TimeZone, ZoneError> {
    if name.eq_ignore_ascii_case("local") {
        return Ok(TimeZone::system());
    }
    TimeZone::get(name).map_err(|_| ZoneError {
        nearest: nearest(name),
        name: name.to_owned(),
    })
}

/// What `zone` is called.
pub(crate) fn zone_name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => "local".to_owned(),
    }
}

fn nearest(name: &str) -> Option<String> {
    if name.len() > 60 {
        return None;
    }
    let wanted = name.to_lowercase();
    let likeness = |known: &str| {
        let known = known.to_lowercase();
        // "Paris" is meant to be "Europe/Paris".
        let place = known.rsplit('/').next().unwrap_or(&known);
        strsim::jaro_winkler(&known, &wanted).max(strsim::jaro_winkler(place, &wanted))
    };
    jiff::tz::db()
        .available()
        .map(|known| (likeness(known.as_str()), known.to_string()))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_and_a_misspelt_one_is_suggested() {
        assert_eq!(
            zone_name(&time_zone("Europe/Paris").unwrap()),
            "Europe/Paris"
        );
        assert_eq!(zone_name(&time_zone("UTC").unwrap()), "UTC");
        assert!(time_zone("local").is_ok());

        assert_eq!(
            time_zone("Europe/Pariss").unwrap_err().nearest(),
            Some("Europe/Paris")
        );
        assert_eq!(
            time_zone("paris").unwrap_err().nearest(),
            Some("Europe/Paris")
        );
        let error = time_zone("Atlantis/Capital").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no time zone \"Atlantis/Capital\""),
            "{error}"
        );
    }
}
