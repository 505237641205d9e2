//! A table against its list of known keys: unknown ones, wrong types, malformed values.
//!
//! [`Section::open`] reports all of that; what is read from a section afterwards is well
//! formed or absent, so that rules across keys need not ask again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;

use crate::check::Context;
use crate::duration;
use crate::expiry;
use crate::grammar::{self, Fault};
use crate::keys::{Field, Kind};
use crate::memory;
use crate::network;
use crate::problem::{Problems, quote};
use crate::secret;
use crate::tree::{Entry, Node, NodeKind};

/// No single wait is longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// No token is said to last longer: ten years.
const LONGEST_LIFETIME: Duration = Duration::from_hours(10 * 366 * 24);
/// A key is "near" another above this likeness.
const NEAR: f64 = 0.75;
/// No setting needs a longer list.
const LIST_LENGTH: usize = 256;

type Span = Option<std::ops::Range<usize>>;

/// Where a table is named: what it lacks is reported there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// Its dotted key.
    pub(crate) path: String,
    pub(crate) span: Span,
}

impl Place {
    pub(crate) fn fault(&self, fault: Fault, problems: &mut Problems) {
        report(self.path.clone(), self.span.clone(), fault, problems);
    }
}

/// A table whose keys are known.
pub(crate) struct Section<'t> {
    place: Place,
    entries: Vec<Known<'t>>,
    misspelt: Vec<&'static str>,
}

struct Known<'t> {
    field: &'static Field,
    entry: &'t Entry,
    sound: bool,
}

impl<'t> Section<'t> {
    /// Checks `node` against `fields`; `None` when it is no table. Other keys are unknown.
    pub(crate) fn open(
        node: &'t Node,
        place: Place,
        fields: &[&'static [Field]],
        context: &Context<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = Self::open_among_others(node, place, fields, context, problems)?;
        for entry in node.entries().unwrap_or_default() {
            if section.known(&entry.key).is_none() {
                let meant = unknown_key(&section, entry, fields, problems);
                section.misspelt.extend(meant);
            }
        }
        Some(section)
    }

    /// The same where other keys are somebody else's to judge.
    pub(crate) fn open_among_others(
        node: &'t Node,
        place: Place,
        fields: &[&'static [Field]],
        context: &Context<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Some(table) = node.entries() else {
            let found = format!("expected a table, found {}", node.type_name());
            problems.add(place.path, node.span.clone(), found);
            return None;
        };
        let mut section = Self {
            place,
            entries: Vec::new(),
            misspelt: Vec::new(),
        };
        for entry in table {
            let mut fields = fields.iter().flat_map(|fields| fields.iter());
            let Some(field) = fields.find(|field| field.name == entry.key) else {
                continue;
            };
            let value = Value {
                key: &section.key(field.name),
                context,
            };
            let sound = value.check(field.kind, &entry.node, problems);
            section.entries.push(Known {
                field,
                entry,
                sound,
            });
        }
        Some(section)
    }

    fn known(&self, name: &str) -> Option<&Known<'t>> {
        self.entries.iter().find(|known| known.field.name == name)
    }

    /// Whether the key is written at all, well formed or not; with a slip of the pen, too, so
    /// that one mistake is not reported twice.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.known(name).is_some() || self.misspelt.contains(&name)
    }

    /// The keys that are well formed.
    pub(crate) fn sound(&self) -> impl Iterator<Item = (&'static Field, &'t Node)> {
        self.entries
            .iter()
            .filter(|known| known.sound)
            .map(|known| (known.field, &known.entry.node))
    }

    /// The key's value, if it is well formed.
    pub(crate) fn node(&self, name: &str) -> Option<&'t Node> {
        let known = self.known(name).filter(|known| known.sound)?;
        Some(&known.entry.node)
    }

    /// The word that is written or, with a slip of the pen, meant: good for further checks.
    pub(crate) fn meant(&self, name: &str) -> Option<&'static str> {
        let known = self.known(name)?;
        let words = known.field.kind.words();
        nearest(known.entry.node.text()?, words.into_iter())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'t str> {
        self.node(name)?.text()
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        Some(texts(self.node(name)?))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.node(name)?.kind {
            NodeKind::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(crate) fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        T::try_from(self.node(name)?.integer()?).ok()
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        wait(self.node(name)?)
    }

    pub(crate) fn mailbox(&self, name: &str) -> Option<Mailbox> {
        grammar::mailbox(self.text(name)?).ok()
    }

    /// An amount of memory, in octets.
    pub(crate) fn memory(&self, name: &str) -> Option<usize> {
        memory::from_node(self.node(name)?).ok()
    }

    /// A path, made whole with `base`.
    pub(crate) fn path(&self, name: &str, base: &Path) -> Option<PathBuf> {
        Some(base.join(self.text(name)?))
    }

    /// Paths, each made whole with `base`.
    pub(crate) fn paths(&self, name: &str, base: &Path) -> Vec<PathBuf> {
        let texts = self.texts(name).unwrap_or_default();
        texts.iter().map(|text| base.join(text)).collect()
    }

    pub(crate) fn key(&self, name: &str) -> String {
        if self.place.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.place.path)
        }
    }

    /// Where the section that `name` opens is named.
    pub(crate) fn place(&self, name: &str) -> Place {
        let known = self.known(name);
        Place {
            path: self.key(name),
            span: known.and_then(|known| known.entry.key_span.clone()),
        }
    }

    /// Reports a problem with what is written at `name`; if it is not, with the section.
    pub(crate) fn fault(&self, name: &str, fault: Fault, problems: &mut Problems) {
        let span = match self.known(name) {
            Some(known) => known.entry.node.span.clone(),
            None => self.place.span.clone(),
        };
        report(self.key(name), span, fault, problems);
    }

    /// Reports that the section lacks something.
    pub(crate) fn missing(&self, fault: Fault, problems: &mut Problems) {
        self.place.fault(fault, problems);
    }
}

/// Reports `fault` at `key`.
pub(crate) fn report(key: String, span: Span, fault: Fault, problems: &mut Problems) {
    match fault.suggestion {
        Some(suggestion) => problems.suggest(key, span, fault.message, suggestion),
        None => problems.add(key, span, fault.message),
    }
}

/// The strings of a list.
fn texts(node: &Node) -> Vec<String> {
    node.list()
        .unwrap_or_default()
        .iter()
        .filter_map(Node::text)
        .map(str::to_owned)
        .collect()
}

/// The word nearest to `text`, if one is near.
pub(crate) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let text = text.to_ascii_lowercase();
    // Longer names than any key cost time and are near to none.
    if text.len() > 64 {
        return None;
    }
    words
        .map(|word| {
            (
                strsim::jaro_winkler(&text, &word.to_ascii_lowercase()),
                word,
            )
        })
        .filter(|(likeness, _)| *likeness > NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// Reports an unknown key, and returns the one that was probably meant.
fn unknown_key(
    section: &Section<'_>,
    entry: &Entry,
    fields: &[&'static [Field]],
    problems: &mut Problems,
) -> Option<&'static str> {
    let names = || {
        fields
            .iter()
            .flat_map(|fields| fields.iter())
            .filter(|field| !field.kind.is_refused())
            .map(|field| field.name)
    };
    let meant = nearest(&entry.key, names());
    let suggestion = match meant {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
    };
    problems.suggest(
        section.key(&show_key(&entry.key)),
        entry.key_span.clone().or_else(|| entry.node.span.clone()),
        "unknown key",
        suggestion,
    );
    meant
}

/// A key's name for a message: as TOML writes it, on one line, not long.
pub(crate) fn show_key(key: &str) -> String {
    if grammar::name(key).is_ok() {
        key.to_owned()
    } else {
        quote(key)
    }
}

/// A wait: text with units, or seconds.
fn wait(node: &Node) -> Option<Duration> {
    match &node.kind {
        NodeKind::Text(text) => duration::parse(text),
        NodeKind::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        NodeKind::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        _ => None,
    }
}

/// The check of one value.
struct Value<'k> {
    key: &'k str,
    context: &'k Context<'k>,
}

impl Value<'_> {
    /// Whether `node` is a well-formed `kind`; reports it if not. Tables are only tables here:
    /// whoever opens them checks what is in them.
    fn check(&self, kind: Kind, node: &Node, problems: &mut Problems) -> bool {
        match kind {
            Kind::Table(_)
            | Kind::LimitsFor
            | Kind::Accounts
            | Kind::Gateways
            | Kind::Devices
            | Kind::Pins
            | Kind::Auth => self.expect(node.entries().is_some(), kind, node, problems),
            Kind::Refused((why, instead)) => {
                self.accept(node, Err(Fault::with(why, instead)), problems)
            }
            Kind::DevicePassword => {
                let gateway = self.key.split('.').nth(1).unwrap_or("NAME");
                let fault = Fault::with(
                    "devices' passwords do not stand in this file",
                    format!(
                        "remove this key; make each device its password: postrider gateway \
                         credential add DEVICE --gateway {gateway}"
                    ),
                );
                self.accept(node, Err(fault), problems)
            }
            Kind::Flag => {
                let flag = matches!(node.kind, NodeKind::Flag(_));
                self.expect(flag, kind, node, problems)
            }
            Kind::Port => self.number(kind, 65_535, node, problems),
            Kind::Count { most } => self.number(kind, i64::from(most), node, problems),
            Kind::Memory => {
                let outcome = memory::from_node(node).map(drop);
                self.accept(node, outcome, problems)
            }
            Kind::Duration => self.wait(kind, LONGEST_WAIT, node, problems),
            Kind::Lifetime => self.wait(kind, LONGEST_LIFETIME, node, problems),
            Kind::Grace => self.grace(node, problems),
            Kind::Expiry => {
                let outcome = expiry::from_node(node).map(drop);
                self.accept(node, outcome, problems)
            }
            Kind::Secret | Kind::Passphrase => {
                secret::from_node(self.key, node, self.context, problems).is_some()
            }
            Kind::Listens if node.text().is_none() => self.list(kind, node, problems),
            Kind::SomeOf(_)
            | Kind::Words(_)
            | Kind::Networks
            | Kind::Senders
            | Kind::Domains
            | Kind::DeviceNames
            | Kind::Scopes
            | Kind::Hosts
            | Kind::Paths
            | Kind::Command
            | Kind::Variables
            | Kind::Programs
            | Kind::Logins => self.list(kind, node, problems),
            _ => {
                let Some(text) = node.text() else {
                    return self.expect(false, kind, node, problems);
                };
                self.accept(node, text_of(kind, text), problems)
            }
        }
    }

    fn number(&self, kind: Kind, most: i64, node: &Node, problems: &mut Problems) -> bool {
        let Some(number) = node.integer() else {
            return self.expect(false, kind, node, problems);
        };
        let fault = if (1..=most).contains(&number) {
            Ok(())
        } else {
            Err(Fault::new(format!("{number} is not from 1 to {most}")))
        };
        self.accept(node, fault, problems)
    }

    /// A wait of more than no time, at most `longest`.
    fn wait(&self, kind: Kind, longest: Duration, node: &Node, problems: &mut Problems) -> bool {
        if wait(node) == Some(Duration::ZERO) {
            let fault = Fault::new("no time at all is never enough");
            return self.accept(node, Err(fault), problems);
        }
        self.span(kind, longest, node, problems)
    }

    /// `forever`, or a time that may be none.
    fn grace(&self, node: &Node, problems: &mut Problems) -> bool {
        node.text() == Some("forever") || self.span(Kind::Grace, LONGEST_LIFETIME, node, problems)
    }

    fn span(&self, kind: Kind, longest: Duration, node: &Node, problems: &mut Problems) -> bool {
        let fault = match wait(node) {
            None => Err(Fault::new(match node.text() {
                Some(text) if matches!(kind, Kind::Grace) => format!(
                    "{} is neither \"forever\" nor a duration like \"30s\"",
                    quote(text)
                ),
                Some(text) => format!(
                    "{} is not a duration like \"30s\" or \"1h30m\"",
                    quote(text)
                ),
                None => format!("expected {}, found {}", kind.wanted(), node.type_name()),
            })),
            Some(wait) if wait > longest => Err(Fault::new(format!(
                "is longer than {}",
                if longest == LONGEST_WAIT {
                    "a day"
                } else {
                    "ten years"
                }
            ))),
            Some(_) => Ok(()),
        };
        self.accept(node, fault, problems)
    }

    fn list(&self, kind: Kind, node: &Node, problems: &mut Problems) -> bool {
        let Some(nodes) = node.list() else {
            let fault = match node.text() {
                Some(_) => Fault::with(
                    format!("expected {}, found a string", kind.wanted()),
                    "put it in brackets: [\"…\"]",
                ),
                None => Fault::new(format!(
                    "expected {}, found {}",
                    kind.wanted(),
                    node.type_name()
                )),
            };
            return self.accept(node, Err(fault), problems);
        };
        let may_be_empty = matches!(
            kind,
            Kind::Hosts
                | Kind::Paths
                | Kind::Variables
                | Kind::Programs
                | Kind::Logins
                | Kind::Words(_)
        );
        if nodes.is_empty() && !may_be_empty {
            return self.accept(node, Err(Fault::new("is empty")), problems);
        }
        if nodes.len() > LIST_LENGTH {
            let fault = Fault::new(format!("has more than {LIST_LENGTH} entries"));
            return self.accept(node, Err(fault), problems);
        }
        let mut sound = true;
        for item in nodes {
            sound &= match item.text() {
                Some(text) => self.accept(item, text_of(kind, text), problems),
                None => self.expect(false, Kind::Text, item, problems),
            };
        }
        sound
    }

    fn expect(&self, holds: bool, kind: Kind, node: &Node, problems: &mut Problems) -> bool {
        let fault = format!("expected {}, found {}", kind.wanted(), node.type_name());
        self.accept(
            node,
            holds.then_some(()).ok_or_else(|| Fault::new(fault)),
            problems,
        )
    }

    fn accept(&self, node: &Node, outcome: Result<(), Fault>, problems: &mut Problems) -> bool {
        match outcome {
            Ok(()) => true,
            Err(fault) => {
                report(self.key.to_owned(), node.span.clone(), fault, problems);
                false
            }
        }
    }
}

/// Whether `text` is a well-formed `kind`, or an item of such a list.
fn text_of(kind: Kind, text: &str) -> Result<(), Fault> {
    match kind {
        Kind::Mailbox => grammar::mailbox(text).map(drop),
        Kind::Host => grammar::host(text),
        Kind::Hosts => grammar::allowed_host(text),
        Kind::EhloName => grammar::ehlo_name(text),
        Kind::Path | Kind::Paths => grammar::path(text),
        Kind::Url => grammar::endpoint(text),
        Kind::Authority => grammar::authority(text),
        Kind::RedirectUri => grammar::redirect_uri(text),
        Kind::Tenant => grammar::tenant(text),
        Kind::Scopes => grammar::scope(text),
        Kind::Listen | Kind::Listens => grammar::listen(text).map(drop),
        Kind::Networks => network::parse(text).map(drop),
        Kind::Senders => grammar::sender(text),
        Kind::Domains => grammar::domain(text),
        Kind::DeviceNames => grammar::device(text),
        Kind::Variables => grammar::variable(text),
        Kind::Programs => grammar::program(text),
        Kind::Command => grammar::line(text, grammar::PATH_OCTETS),
        Kind::FileName => file_name(text),
        Kind::Name => grammar::name(text),
        Kind::Inline => secret::inline(text),
        Kind::VaultName => grammar::secret_name(text),
        Kind::OneOf(_) | Kind::SomeOf(_) | Kind::Words(_) | Kind::Provider => {
            word(text, &kind.words())
        }
        _ => grammar::line(text, grammar::TEXT_OCTETS),
    }
}

fn file_name(text: &str) -> Result<(), Fault> {
    grammar::line(text, 255)?;
    if text.contains('/') || text == "." || text == ".." {
        return Err(Fault::new(format!(
            "{} is not a file's name: it may not hold \"/\"",
            quote(text)
        )));
    }
    Ok(())
}

fn word(text: &str, words: &[&str]) -> Result<(), Fault> {
    if words.contains(&text) {
        return Ok(());
    }
    let suggestion = match nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of: {}", words.join(", ")),
    };
    Err(Fault::with(
        format!("{} is not known here", quote(text)),
        suggestion,
    ))
}
