//! A settings file as a whole: text to [`Config`].

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::Document;
use toml_parser::{Expected, ParseError};

use crate::account::Account;
use crate::check::{self, Context};
use crate::gateway::{self, Gateway};
use crate::grammar;
use crate::keys;
use crate::presets::Presets;
use crate::problem::{ConfigErrors, Problem, Problems, Source};
use crate::queue::{self, QueueSettings, SendmailSettings};
use crate::regular::{self, NOT_REGULAR};
use crate::scripts::{self, ScriptSettings};
use crate::section::{Place, Section, report, show_key};
use crate::serve::{self, ServeSettings};
use crate::tree::{Entry, Node};
use crate::vault::{self, VaultSettings};

/// A settings file is a few kilobytes.
pub(crate) const LIMIT_OCTETS: usize = 1024 * 1024;
const TOO_LONG: &str = "is longer than 1 MiB";

/// A checked settings file.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The file it came from.
    pub path: Option<PathBuf>,
    /// The accounts by name.
    pub accounts: BTreeMap<String, Account>,
    /// Where devices submit their mail, by name.
    pub gateways: BTreeMap<String, Gateway>,
    /// Where plugins are found, and which are trusted.
    pub plugins: PluginSettings,
    /// Where the vault's key is.
    pub vault: VaultSettings,
    /// Which scripts run, and what they may use.
    pub scripts: ScriptSettings,
    /// The daemon.
    pub serve: ServeSettings,
    /// Mail that waits.
    pub queue: QueueSettings,
    /// Mail that programs hand in.
    pub sendmail: SendmailSettings,
    places: Places,
}

/// `[plugins]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginSettings {
    /// Directories to look for plugins in, besides those that ship.
    pub dirs: Vec<PathBuf>,
    /// SHA-256 digests in lower-case hexadecimal, by plugin name.
    pub pins: BTreeMap<String, String>,
}

/// Where each key stands, for what is found out later.
#[derive(Clone, Default)]
struct Places {
    source: Option<Arc<Source>>,
    spans: BTreeMap<String, Range<usize>>,
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Places({})", self.spans.len())
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything wrong with it; or the one reason why it cannot be read.
    pub fn load(path: &Path, presets: &Presets) -> Result<Self, ConfigErrors> {
        let octets = read(path).map_err(|message| ConfigErrors {
            path: Some(path.to_owned()),
            problems: vec![whole(&message, None)],
        })?;
        Self::parse_octets(octets, Some(path), presets)
    }

    /// Checks a file's content, which must be UTF-8.
    pub fn parse_octets(
        octets: Vec<u8>,
        path: Option<&Path>,
        presets: &Presets,
    ) -> Result<Self, ConfigErrors> {
        match String::from_utf8(octets) {
            Ok(text) => Self::parse(&text, path, presets),
            Err(error) => {
                let octet = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(&error.as_bytes()[..octet]);
                let line = before.matches('\n').count() + 1;
                Err(ConfigErrors {
                    path: path.map(Path::to_owned),
                    problems: vec![whole(
                        &format!("is not UTF-8: octet {octet} of the file, in line {line}"),
                        Some("save the file as UTF-8"),
                    )],
                })
            }
        }
    }

    /// Checks a file's text. `path` names it in errors; paths in it are relative to its
    /// directory.
    pub fn parse(text: &str, path: Option<&Path>, presets: &Presets) -> Result<Self, ConfigErrors> {
        let errors = |problems| ConfigErrors {
            path: path.map(Path::to_owned),
            problems,
        };
        if text.len() > LIMIT_OCTETS {
            return Err(errors(vec![whole(TOO_LONG, None)]));
        }
        let source = Source::new(text.to_owned());
        let mut problems = Problems::default();
        let Some(root) = syntax(text, &mut problems) else {
            return Err(errors(problems.locate(Some(&source))));
        };
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let context = Context {
            presets,
            base,
            script: false,
        };
        let mut config = Self {
            path: path.map(Path::to_owned),
            ..Self::default()
        };
        config.fill(&root, &context, &mut problems);
        if !problems.is_empty() {
            return Err(errors(problems.locate(Some(&source))));
        }
        collect_spans(&root, "", &mut config.places.spans);
        config.places.source = Some(Arc::new(source));
        Ok(config)
    }

    fn fill(&mut self, root: &Node, context: &Context<'_>, problems: &mut Problems) {
        let Some(section) = Section::open(root, Place::default(), &[keys::ROOT], context, problems)
        else {
            return;
        };
        let accounts = section.node("account").and_then(Node::entries);
        let accounts = accounts.unwrap_or_default();
        for entry in accounts {
            let span = entry.key_span.clone();
            if let Some(account) = check::account(&entry.key, span, &entry.node, context, problems)
            {
                self.accounts.insert(entry.key.clone(), account);
            }
        }
        if let Some(node) = section.node("plugins") {
            let place = section.place("plugins");
            if let Some(section) = Section::open(node, place, &[keys::PLUGINS], context, problems) {
                self.plugins = plugins(&section, context, problems);
            }
        }
        if let Some(node) = section.node("vault") {
            let place = section.place("vault");
            if let Some(section) = Section::open(node, place, &[keys::VAULT], context, problems) {
                self.vault = vault::check(&section, context, problems);
            }
        }
        if let Some(node) = section.node("scripts") {
            let place = section.place("scripts");
            if let Some(section) = Section::open(node, place, &[keys::SCRIPTS], context, problems) {
                self.scripts = scripts::check(&section, context, problems);
            }
        }
        if let Some(node) = section.node("serve") {
            let place = section.place("serve");
            if let Some(section) = Section::open(node, place, &[keys::SERVE], context, problems) {
                self.serve = serve::check(&section, context, problems);
            }
        }
        if let Some(node) = section.node("queue") {
            let place = section.place("queue");
            if let Some(section) = Section::open(node, place, &[keys::QUEUE], context, problems) {
                self.queue = queue::check(&section);
            }
        }
        if let Some(node) = section.node("sendmail") {
            let place = section.place("sendmail");
            let known = &[keys::SENDMAIL];
            if let Some(section) = Section::open(node, place, known, context, problems) {
                self.sendmail = queue::check_sendmail(&section, context);
                let account = self.sendmail.account.as_deref();
                let is_known = |name: &str| accounts.iter().any(|entry| entry.key == name);
                if let Some(name) = account.filter(|name| !is_known(name)) {
                    let names = accounts.iter().map(|entry| entry.key.as_str());
                    let fault = check::no_account(name, names);
                    section.fault("account", fault, problems);
                }
            }
        }
        self.gateways = gateways(&section, accounts, self, context, problems);
    }

    /// The directory that relative paths in the file are relative to.
    pub fn base_dir(&self) -> &Path {
        self.path
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
    }

    /// A problem that was found later, with its place in the file: what a plugin's schema
    /// says about `account.NAME.auth.KEY`, for instance.
    ///
    /// A key that is not written is placed at the nearest table around it.
    pub fn problem(&self, key: &str, message: &str, suggestion: Option<&str>) -> Problem {
        let mut around = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
        let span = around.find_map(|key| self.places.spans.get(key));
        Problem {
            key: key.to_owned(),
            message: message.to_owned(),
            suggestion: suggestion.map(str::to_owned),
            location: self
                .places
                .source
                .as_ref()
                .zip(span)
                .map(|(source, span)| source.locate(span.clone())),
        }
    }
}

/// The gateways, each on its own and then their listeners beside each other.
fn gateways(
    root: &Section<'_>,
    tables: &[Entry],
    config: &Config,
    context: &Context<'_>,
    problems: &mut Problems,
) -> BTreeMap<String, Gateway> {
    let around = gateway::Surroundings {
        tables,
        accounts: &config.accounts,
        max_message_octets: config.queue.max_message_octets,
    };
    let mut gateways = BTreeMap::new();
    let entries = root.node("gateway").and_then(Node::entries);
    for entry in entries.unwrap_or_default() {
        if let Some(gateway) = gateway::check(entry, &around, context, problems) {
            gateways.insert(entry.key.clone(), gateway);
        }
    }
    gateway::check_listens(root, &gateways, config.serve.metrics, problems);
    gateways
}

fn plugins(
    section: &Section<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> PluginSettings {
    let mut plugins = PluginSettings::default();
    for dir in section.texts("dirs").unwrap_or_default() {
        plugins.dirs.push(context.base.join(dir));
    }
    let pins = section.node("pins").and_then(Node::entries);
    for entry in pins.unwrap_or_default() {
        let key = format!("plugins.pins.{}", show_key(&entry.key));
        if let Err(fault) = grammar::name(&entry.key) {
            report(key, entry.key_span.clone(), fault, problems);
            continue;
        }
        match entry.node.text().map(|text| (text, grammar::digest(text))) {
            Some((text, Ok(()))) => {
                plugins
                    .pins
                    .insert(entry.key.clone(), text.to_ascii_lowercase());
            }
            Some((_, Err(fault))) => report(key, entry.node.span.clone(), fault, problems),
            None => {
                let found = format!("expected a string, found {}", entry.node.type_name());
                problems.add(key, entry.node.span.clone(), found);
            }
        }
    }
    plugins
}

/// At most [`LIMIT_OCTETS`] of a regular file.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let Some(file) = regular::open(path).map_err(unreadable)? else {
        return Err(NOT_REGULAR.to_owned());
    };
    let mut octets = Vec::new();
    let most = u64::try_from(LIMIT_OCTETS).unwrap_or(u64::MAX) + 1;
    file.take(most)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    if octets.len() > LIMIT_OCTETS {
        return Err(TOO_LONG.to_owned());
    }
    Ok(octets)
}

/// A problem of the whole file, which `what` says of it.
fn whole(what: &str, suggestion: Option<&str>) -> Problem {
    Problem {
        key: String::new(),
        message: format!("the settings file {what}"),
        suggestion: suggestion.map(str::to_owned),
        location: None,
    }
}

/// The file as a tree; reports every line that is not TOML.
fn syntax(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut errors: Vec<ParseError> = Vec::new();
    let tokens = toml_parser::Source::new(text).lex().into_vec();
    let mut guarded = ();
    let mut receiver = toml_parser::parser::RecursionGuard::new(&mut guarded, 80);
    toml_parser::parser::parse_document(&tokens, &mut receiver, &mut errors);
    let mut found: Vec<(Range<usize>, String)> = errors
        .iter()
        .map(|error| {
            let span = error.unexpected().or(error.context());
            let span = span.map_or(text.len()..text.len(), |span| span.start()..span.end());
            (span, describe(error))
        })
        .collect();
    // What the grammar alone does not tell: keys given twice, malformed numbers.
    let document = Document::parse(text);
    if let Err(error) = &document {
        let span = error.span().unwrap_or(text.len()..text.len());
        found.push((span, error.message().to_owned()));
    }
    found.sort_by_key(|(span, _)| span.start);

    // One mistake often upsets all that follows on its line and on the next.
    let mut last: Option<(usize, String)> = None;
    let (mut line, mut counted) = (0, 0);
    for (span, message) in found {
        line += text
            .get(counted..span.start)
            .map_or(0, |between| between.matches('\n').count());
        counted = span.start;
        let echo = last.as_ref().is_some_and(|(last_line, last_message)| {
            line == *last_line || (line == last_line + 1 && message == *last_message)
        });
        if !echo {
            problems.add("", Some(span), message.as_str());
        }
        last = Some((line, message));
    }
    document
        .ok()
        .map(|document| Node::from_toml(document.as_table()))
}

/// The parser's message; it quotes nothing from the file.
fn describe(error: &ParseError) -> String {
    let mut message = error.description().to_owned();
    let expected: Vec<String> = error
        .expected()
        .unwrap_or_default()
        .iter()
        .map(|expected| match expected {
            Expected::Literal("\n") => "a line break".to_owned(),
            Expected::Literal(text) => format!("`{text}`"),
            Expected::Description(text) => (*text).to_owned(),
            _ => "something else".to_owned(),
        })
        .collect();
    if !expected.is_empty() {
        message.push_str(", expected ");
        message.push_str(&expected.join(" or "));
    }
    message
}

fn collect_spans(node: &Node, path: &str, spans: &mut BTreeMap<String, Range<usize>>) {
    for entry in node.entries().unwrap_or_default() {
        let dot = if path.is_empty() { "" } else { "." };
        let key = format!("{path}{dot}{}", entry.key);
        spans.extend(
            entry
                .node
                .span
                .clone()
                .or_else(|| entry.key_span.clone())
                .map(|span| (key.clone(), span)),
        );
        collect_spans(&entry.node, &key, spans);
    }
}
