//! What a provider does with refresh tokens: how long an unused one lasts, and what becomes of
//! the old one when a new one is issued.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::account::{Auth, as_duration};
use crate::check::Context;
use crate::duration;
use crate::keys;
use crate::presets::{OAuth, Provider};
use crate::problem::Problems;
use crate::section::Section;

/// Entra ID's: 90 days from each use (the project's fact table of Microsoft 365, section B1).
const MICROSOFT_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// `[account.NAME.rotation]`, completed from the preset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// How long a refresh token lasts that is not used; `None`: not known.
    #[serde(serialize_with = "as_duration")]
    pub refresh_token_lifetime: Option<Duration>,
    /// How long a refresh token still works after it was replaced.
    pub reuse_grace: ReuseGrace,
}

/// How long a refresh token still works after it was replaced.
///
/// Where it does not, using it again makes the provider revoke the grant (RFC 9700 §4.14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseGrace {
    /// As long as it would have, had it not been replaced.
    Forever,
    /// So long; zero is what to assume of a provider that nothing is known of.
    For(Duration),
}

impl Default for ReuseGrace {
    fn default() -> Self {
        Self::For(Duration::ZERO)
    }
}

impl Serialize for ReuseGrace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forever => serializer.serialize_str("forever"),
            Self::For(grace) => serializer.serialize_str(&duration::format(*grace)),
        }
    }
}

/// Reads an account's `rotation` and adds what is known of its provider.
pub(crate) fn check(
    account: &Section<'_>,
    provider: &Provider<'_>,
    auth: Option<&Auth>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> Rotation {
    let known = if is_entra(provider, auth) {
        Rotation {
            refresh_token_lifetime: Some(MICROSOFT_LIFETIME),
            reuse_grace: ReuseGrace::Forever,
        }
    } else {
        Rotation::default()
    };
    let Some(section) = account.node("rotation").and_then(|node| {
        let place = account.place("rotation");
        Section::open(node, place, &[keys::ROTATION], context, problems)
    }) else {
        return known;
    };
    let grace = match section.text("reuse_grace") {
        Some("forever") => Some(ReuseGrace::Forever),
        _ => section.duration("reuse_grace").map(ReuseGrace::For),
    };
    Rotation {
        refresh_token_lifetime: section
            .duration("refresh_token_lifetime")
            .or(known.refresh_token_lifetime),
        reuse_grace: grace.unwrap_or(known.reuse_grace),
    }
}

/// Whether Entra ID issues the account's tokens: by its preset, or by an authority of its own.
fn is_entra(provider: &Provider<'_>, auth: Option<&Auth>) -> bool {
    let Some(auth) = auth.filter(|auth| auth.plugin == "oauth") else {
        return false;
    };
    matches!(provider.preset.oauth, OAuth::Microsoft { .. })
        || auth.settings.contains_key("authority")
}
