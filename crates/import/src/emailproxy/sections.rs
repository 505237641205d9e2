//! The proxy's sections: those of its configuration, with what it keeps in another file
//! (`--cache-store`), and what mailboxes have from catch-all sections.

use crate::MAX_ACCOUNTS;
use crate::error::ImportError;
use crate::files::{self, Files};
use crate::ini::{Entry, Ini, Section, truth};
use crate::left::Place;

/// What the proxy looks for in the other file.
const CACHED: [&str; 6] = [
    "access_token",
    "access_token_expiry",
    "refresh_token",
    "token_salt",
    "token_iterations",
    "client_secret_encrypted",
];

/// The sections of the file at `path`, with what is kept at `cache`.
pub(super) fn read(path: &str, cache: Option<&str>, files: &dyn Files) -> Result<Ini, ImportError> {
    let text = files::required(files, path)?;
    let mut ini = Ini::parse(path, &text)?;
    if let Some(cache) = cache {
        let text = files::required(files, cache)?;
        let kept = Ini::parse(cache, &text)?.sections.into_iter();
        let kept: Vec<Section> = kept.filter(is_mailbox).collect();
        bounded(cache, kept.len())?;
        let is_new_known = allows_catch_all(&ini);
        for mut section in kept {
            let is_cached = |entry: &Entry| CACHED.contains(&entry.key.as_str());
            section.entries.retain(is_cached);
            let mut sections = ini.sections.iter_mut();
            match sections.find(|own| own.name == section.name) {
                Some(own) => own.take_in(section),
                None if is_new_known => ini.sections.push(section),
                None => {}
            }
        }
    }
    bounded(
        path,
        ini.sections.iter().filter(|it| is_mailbox(it)).count(),
    )?;
    Ok(ini)
}

fn bounded(path: &str, mailboxes: usize) -> Result<(), ImportError> {
    if mailboxes <= MAX_ACCOUNTS {
        return Ok(());
    }
    let message = format!("has more than {MAX_ACCOUNTS} mailboxes");
    Err(ImportError::malformed(Place::file(path), message))
}

pub(super) fn is_mailbox(section: &Section) -> bool {
    section.name.contains('@')
}

fn allows_catch_all(ini: &Ini) -> bool {
    let global = ini.section("emailproxy");
    let allowed = global.and_then(|global| ini.get(global, "allow_catch_all_accounts"));
    allowed.is_some_and(|entry| truth(&entry.value))
}

/// What a mailbox has under `key`, if need be from the catch-all sections.
pub(super) fn option<'a>(ini: &'a Ini, section: &'a Section, key: &str) -> Option<&'a Entry> {
    let filled = |entry: &&Entry| !entry.value.is_empty();
    let own = ini.get(section, key).filter(filled);
    own.or_else(|| {
        if !allows_catch_all(ini) {
            return None;
        }
        let domain = section.name.rsplit('@').next().unwrap_or_default();
        let catch_all = [format!("@{domain}"), "@".to_owned()];
        let mut sections = catch_all.iter().filter_map(|name| ini.section(name));
        sections.find_map(|section| ini.get(section, key).filter(filled))
    })
}
