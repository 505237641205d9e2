//! The catalogue: entries of `catalogue.toml`, and which of them a refusal meets.
//!
//! The first entry whose conditions all hold is the answer. A condition is a list, of which one
//! member has to fit; texts are compared in lower case.

use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

use crate::meaning::{Diagnosis, Scope, Subject, Trouble, Verdict, Who};

pub(crate) static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    toml::from_str(include_str!("catalogue.toml"))
        .expect("the catalogue is part of the build, and a test reads it")
});

#[derive(Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) smtp: Vec<SmtpEntry>,
    pub(crate) status: Vec<StatusEntry>,
    pub(crate) oauth: Vec<OauthEntry>,
    pub(crate) graph: Vec<GraphEntry>,
    pub(crate) network: Vec<NetworkEntry>,
}

impl Catalogue {
    /// What a code of Postrider's own may mean: every entry that has it, the most general one,
    /// which is the last, first.
    pub(crate) fn by_code(&self, code: &str) -> impl Iterator<Item = &Meaning> {
        let smtp = self.smtp.iter().map(|entry| &entry.meaning);
        let oauth = self.oauth.iter().map(|entry| &entry.meaning);
        let graph = self.graph.iter().map(|entry| &entry.meaning);
        let network = self.network.iter().map(|entry| &entry.meaning);
        let all = smtp.chain(oauth).chain(graph).chain(network);
        all.rev().filter(move |meaning| meaning.code == code)
    }
}

/// What an entry says.
#[derive(Deserialize)]
pub(crate) struct Meaning {
    pub(crate) code: String,
    cause: String,
    remedy: String,
    who: Who,
    pub(crate) verdict: Verdict,
    #[serde(default)]
    fresh_token: bool,
    #[serde(default)]
    pub(crate) scope: Scope,
    pub(crate) pause_minutes: Option<u64>,
    source: String,
}

impl Meaning {
    pub(crate) fn diagnosis(&self, subject: Subject<'_>) -> Diagnosis {
        Diagnosis {
            code: self.code.clone(),
            known: true,
            cause: subject.fill(&self.cause),
            remedy: subject.fill(&self.remedy),
            who: self.who,
            verdict: self.verdict,
            fresh_token: self.fresh_token,
            source: self.source.clone(),
            scope: self.scope,
            pause: self.pause_minutes.map(Duration::from_mins),
        }
    }
}

/// An SMTP reply.
#[derive(Deserialize)]
pub(crate) struct SmtpEntry {
    #[serde(default)]
    pub(crate) reply: Vec<u16>,
    #[serde(default)]
    pub(crate) enhanced: Vec<String>,
    #[serde(default)]
    pub(crate) contains: Vec<Phrase>,
    #[serde(flatten)]
    pub(crate) meaning: Meaning,
}

impl SmtpEntry {
    pub(crate) fn matches(&self, reply: u16, enhanced: Option<&str>, lower_text: &str) -> bool {
        any(&self.reply, |wanted| *wanted == reply) && self.fits_status(enhanced, lower_text)
    }

    /// The same where the reply's code is not known: it has to be the status that decides.
    pub(crate) fn matches_status(&self, enhanced: &str, lower_text: &str) -> bool {
        !self.enhanced.is_empty() && self.fits_status(Some(enhanced), lower_text)
    }

    fn fits_status(&self, enhanced: Option<&str>, lower_text: &str) -> bool {
        any(&self.enhanced, |wanted| enhanced == Some(wanted))
            && any(&self.contains, |phrase| phrase.is_in(lower_text))
    }
}

/// What the subject of an enhanced status says of a reply that no entry knows (RFC 3463 §3).
#[derive(Deserialize)]
pub(crate) struct StatusEntry {
    pub(crate) subject: u16,
    pub(crate) cause: String,
    pub(crate) remedy: String,
    pub(crate) who: Who,
    pub(crate) source: String,
}

/// An error of a token or authorization endpoint.
#[derive(Deserialize)]
pub(crate) struct OauthEntry {
    #[serde(default)]
    pub(crate) error: Vec<String>,
    #[serde(default)]
    pub(crate) suberror: Vec<String>,
    #[serde(default)]
    pub(crate) aadsts: Vec<u64>,
    #[serde(default)]
    pub(crate) contains: Vec<Phrase>,
    #[serde(flatten)]
    pub(crate) meaning: Meaning,
}

impl OauthEntry {
    pub(crate) fn matches(
        &self,
        error: &str,
        suberror: Option<&str>,
        aadsts: Option<u64>,
        lower_text: &str,
    ) -> bool {
        any(&self.error, |wanted| wanted == error)
            && any(&self.suberror, |wanted| suberror == Some(wanted))
            && any(&self.aadsts, |wanted| aadsts == Some(*wanted))
            && any(&self.contains, |phrase| phrase.is_in(lower_text))
    }
}

/// An error of Microsoft Graph.
#[derive(Deserialize)]
pub(crate) struct GraphEntry {
    #[serde(default)]
    pub(crate) status: Vec<u16>,
    #[serde(default)]
    pub(crate) error: Vec<String>,
    #[serde(default)]
    pub(crate) contains: Vec<Phrase>,
    #[serde(flatten)]
    pub(crate) meaning: Meaning,
}

impl GraphEntry {
    pub(crate) fn matches(&self, status: u16, error: &str, lower_text: &str) -> bool {
        any(&self.status, |wanted| *wanted == status)
            && any(&self.error, |wanted| wanted.eq_ignore_ascii_case(error))
            && any(&self.contains, |phrase| phrase.is_in(lower_text))
    }
}

/// What goes wrong before a server can refuse anything.
#[derive(Deserialize)]
pub(crate) struct NetworkEntry {
    #[serde(default)]
    pub(crate) trouble: Vec<Trouble>,
    #[serde(default)]
    pub(crate) port: Vec<u16>,
    #[serde(default)]
    pub(crate) contains: Vec<Phrase>,
    #[serde(flatten)]
    pub(crate) meaning: Meaning,
}

impl NetworkEntry {
    pub(crate) fn matches(&self, trouble: Trouble, port: Option<u16>, lower_text: &str) -> bool {
        any(&self.trouble, |wanted| *wanted == trouble)
            && any(&self.port, |wanted| port == Some(*wanted))
            && any(&self.contains, |phrase| phrase.is_in(lower_text))
    }
}

/// A part of a text; `…` within it stands for anything.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(crate) struct Phrase(Vec<String>);

impl From<String> for Phrase {
    fn from(text: String) -> Self {
        Self(text.to_lowercase().split('…').map(str::to_owned).collect())
    }
}

impl Phrase {
    /// Where the phrase stands in `lower_text`.
    pub(crate) fn find(&self, lower_text: &str) -> Option<std::ops::Range<usize>> {
        let mut span: Option<std::ops::Range<usize>> = None;
        for part in &self.0 {
            let from = span.as_ref().map_or(0, |span| span.end);
            let at = from + lower_text[from..].find(part.as_str())?;
            let start = span.map_or(at, |span| span.start);
            span = Some(start..at + part.len());
        }
        span
    }

    fn is_in(&self, lower_text: &str) -> bool {
        self.find(lower_text).is_some()
    }

    /// A text that the phrase is in.
    #[cfg(test)]
    pub(crate) fn example(&self) -> String {
        self.0.join(" ")
    }
}

/// Whether one of `wanted` fits; no condition is none to fail.
fn any<T>(wanted: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}
