//! `postrider vault status|rekey|export|import|prune`: the encrypted store behind secrets and sign-ins.

mod prune;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Subcommand};
use postrider_config::{NoVault, SecretRef, VaultSettings};
use postrider_vault::{
    Import, Imported, KeySource, Kind, NewKey, Opener, Problem, Progress, Rekey, Sealing,
    Selection, Status, Vault,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::output::{Output, complain};
use super::unseen;
use crate::app::vault::{SharedVault, failure};
use crate::app::{App, Moment};
use crate::failure::Failure;
use crate::when;
use prune::PruneArguments;

/// How long to work without a word to whoever waits at a terminal.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to do with the vault.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read and verify everything; say where the key is and how to keep it better
    #[command(after_help = "\
Examples:
  postrider vault status
  postrider vault status --json     for monitoring: exit status 0 means that all is sound")]
    Status,
    /// Change the key that opens the vault, and the one that its records are encrypted with
    #[command(after_help = "\
Examples:
  postrider vault rekey                                  new data key, opened by the same key
  postrider vault rekey --key-file /etc/postrider/kek    made by: openssl rand -base64 32
  postrider vault rekey --passphrase                     asks for a new one
  systemd-run --pipe -p LoadCredentialEncrypted=postrider.kek:/etc/credstore/postrider.kek \\
      postrider vault rekey --credential

It may be interrupted at any time and run again. What uses the vault meanwhile goes on; after a
change of the key that opens it, start what runs again.")]
    Rekey(RekeyArguments),
    /// Write records to a file that only one recipient can open, to move them elsewhere
    #[command(after_help = "\
Examples:
  postrider vault export --to age1ql3z…ac8p --output vault.age
  postrider vault export --to age1ql3z…ac8p --only alerts --output alerts.age
  postrider vault export --passphrase --only grant > sign-ins.age
  postrider vault export --to age1ql3z…ac8p --only alerts/client_secret | ssh server \\
      postrider vault import - --identity /etc/postrider/age.key

Recipients and identities are those of age (age-keygen makes a pair); age opens the file too.
A sign-in that was moved is not to be used here any more: where the provider replaces refresh
tokens, two users of one would lock each other out. postrider logout ACCOUNT --local forgets it
here without revoking it.")]
    Export(ExportArguments),
    /// Take the records of an export into this vault
    #[command(after_help = "\
Examples:
  postrider vault import vault.age --identity age.key
  postrider vault import sign-ins.age                     asks for the passphrase
  ssh laptop postrider vault export --to age1ql3z…ac8p |
      postrider vault import - --identity age.key --replace")]
    Import(ImportArguments),
    /// Remove sign-ins and tokens that no account of the configuration refers to
    #[command(after_help = "\
Examples:
  postrider vault prune --dry-run      which ones these are
  postrider vault prune --yes          all of them, without asking

They stay in the vault when an account is taken out of postrider.toml, or when its provider, client
or user name changes. Their provider is not told: postrider logout ACCOUNT revokes a sign-in while
its account is there. A script's own accounts are not known here: their sign-ins are listed, too.")]
    Prune(PruneArguments),
}

#[derive(Debug, Args)]
pub(super) struct RekeyArguments {
    #[command(flatten)]
    key: KeyArguments,
    /// Leave records as they are encrypted: quick, but whoever had the old key and a copy of
    /// the vault reads what is stored later, too
    #[arg(long, requires = "key")]
    keep_data_key: bool,
}

#[derive(Debug, Args)]
#[group(id = "key", multiple = false)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "one of them is given on the command line"
)]
struct KeyArguments {
    /// Open it with the key in this file from now on
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// With a passphrase, from the terminal or standard input
    #[arg(long)]
    passphrase: bool,
    /// With a new key in the desktop's keyring
    #[arg(long)]
    keyring: bool,
    /// With the systemd credential postrider.kek
    #[arg(long)]
    credential: bool,
    /// With a new key file beside the vault
    #[arg(long)]
    generate: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Who can open it: an age recipient, age1…; may be repeated
    #[arg(long, value_name = "RECIPIENT", required_unless_present = "passphrase")]
    to: Vec<String>,
    /// Whoever knows a passphrase can open it: from the terminal or standard input
    #[arg(long, conflicts_with = "to")]
    passphrase: bool,
    /// What to export: an account's name (its sign-in and the secrets that it needs), a secret's
    /// name, `secret` or `grant` (all sign-ins); may be repeated [default: everything]
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    /// The file to write, for its owner only [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if there is one
    #[arg(long, requires = "output")]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The export, `-` for standard input
    file: PathBuf,
    /// The age identity that opens it; without one, a passphrase is asked for
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Replace records that are here with another value
    #[arg(long)]
    replace: bool,
}

pub(super) async fn run(command: Command, app: App, output: &Output) -> Result<ExitCode, Failure> {
    let shared = app.vault().clone();
    let out = output.clone();
    let work: Box<dyn FnOnce() -> Result<ExitCode, Failure> + Send> = match command {
        Command::Prune(arguments) => return prune::run(&arguments, &app, output).await,
        Command::Status => Box::new(move || status(&shared, &out)),
        Command::Rekey(arguments) => Box::new(move || rekey(&arguments, &shared, &out)),
        Command::Import(arguments) => Box::new(move || import(&arguments, &shared, &out)),
        Command::Export(arguments) => {
            let accounts = records_of_accounts(&arguments.only, &app).await?;
            Box::new(move || export(&arguments, &accounts, &shared, &out))
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Failure::new("internal", "the command was interrupted"))?
}

/// A kind and a name each.
type Records = Vec<(Kind, String)>;

/// What the vault keeps for those of `names` that are accounts.
async fn records_of_accounts(
    names: &[String],
    app: &App,
) -> Result<BTreeMap<String, Records>, Failure> {
    let mut accounts = BTreeMap::new();
    for name in names {
        if app.settings_of(name).is_ok() {
            accounts.insert(name.clone(), app.records_of(name).await?);
        }
    }
    Ok(accounts)
}

fn status(shared: &SharedVault, output: &Output) -> Result<ExitCode, Failure> {
    let dir = shared.dir()?;
    let Some(vault) = shared.existing()? else {
        output.json(&json!({ "path": dir, "exists": false, "ok": true }));
        output.line(format!(
            "no vault in {} yet: the first secret or sign-in makes it",
            dir.display()
        ));
        return Ok(ExitCode::SUCCESS);
    };
    let status = working("verifying", |_| vault.status()).map_err(|error| failure(&error))?;
    let advice = status.key_source.advice();
    let counts: serde_json::Map<String, Value> = Kind::ALL
        .iter()
        .map(|kind| (kind.name().to_owned(), json!(count(&status, *kind))))
        .collect();
    output.json(&json!({
        "path": dir,
        "exists": true,
        "ok": status.problems.is_empty(),
        "id": status.store,
        "key": { "source": status.key_source.name(), "advice": advice },
        "records": counts,
        "data_keys": status.data_keys.iter().map(|key| json!({
            "id": key.id, "created": Moment(key.created), "current": key.current,
        })).collect::<Vec<_>>(),
        "problems": status.problems.iter().map(problem_json).collect::<Vec<_>>(),
    }));

    output.line(format!("vault      {}", dir.display()));
    output.line(format!("key        {}", describe(status.key_source)));
    output.line(format!(
        "records    secrets: {}, sign-ins: {}, devices: {}, notices: {}",
        count(&status, Kind::Secret),
        count(&status, Kind::Grant),
        count(&status, Kind::Device),
        count(&status, Kind::Notice)
    ));
    for key in &status.data_keys {
        let state = if key.current {
            "in use"
        } else {
            "left by a rekey that is not finished: postrider vault rekey"
        };
        output.line(format!(
            "data key   {} of {}, {state}",
            key.id,
            when::day(Moment(key.created))
        ));
    }
    if status.problems.is_empty() {
        output.line(format!("verified   {}", output.good("all of it is sound")));
    }
    if let Some(advice) = advice {
        output.line(format!("advice     {advice}"));
    }
    Ok(report(&status.problems, output))
}

fn count(status: &Status, kind: Kind) -> u64 {
    status.counts.get(&kind).copied().unwrap_or_default()
}

/// Says what is wrong; the exit status for it.
fn report(problems: &[Problem], output: &Output) -> ExitCode {
    for problem in problems {
        let name = match &problem.record {
            Some((kind, name)) => format!("{} {name}", kind.name()),
            None => "a record whose name is lost".to_owned(),
        };
        output.line(format!("{}  {name}", output.bad("damaged")));
        output.line(failure(&problem.error).to_string());
    }
    match problems.first() {
        Some(first) => ExitCode::from(failure(&first.error).exit_code()),
        None => ExitCode::SUCCESS,
    }
}

fn problem_json(problem: &Problem) -> Value {
    let (kind, name) = match &problem.record {
        Some((kind, name)) => (Some(kind.name()), Some(name)),
        None => (None, None),
    };
    json!({ "kind": kind, "name": name, "error": failure(&problem.error) })
}

/// `1 record`, `2 records`.
fn records(number: u64) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} record{plural}")
}

fn describe(source: KeySource) -> &'static str {
    match source {
        KeySource::Credential => "the systemd credential postrider.kek",
        KeySource::KeyFile => "a key file",
        KeySource::Keyring => "the desktop's keyring",
        KeySource::Passphrase => "a passphrase",
        KeySource::GeneratedFile => "a generated file beside the vault",
    }
}

fn rekey(
    arguments: &RekeyArguments,
    shared: &SharedVault,
    output: &Output,
) -> Result<ExitCode, Failure> {
    // One that is to be made is sealed with the key that the configuration names.
    let vault = existing(shared)?;
    let key = new_key(&arguments.key)?;
    let settings = shared.key_settings()?;
    let advice = key.as_ref().and_then(|key| configure(key, settings));
    let rekey = Rekey {
        key,
        new_data_key: !arguments.keep_data_key,
        now: SystemTime::now(),
    };
    let done = working("re-encrypting", |percent| {
        let mut progress = |Progress { done, parts }| {
            percent.store(100 * done / parts.max(1), Ordering::Relaxed);
        };
        vault.rekey(&rekey, &mut progress)
    })
    .map_err(|error| failure(&error))?;

    let source = vault.key_source();
    output.json(&json!({
        "records": done.records,
        "key": { "source": source.name() },
        "configure": advice,
        "finished": done.finished,
        "problems": done.problems.iter().map(problem_json).collect::<Vec<_>>(),
    }));
    output.line(format!("encrypted anew: {}", records(done.records)));
    if let Some(advice) = &advice {
        output.line(advice);
    }
    if !done.finished {
        output.line(
            "The old data key stays until these are set again or removed, and rekey runs again:",
        );
    }
    Ok(report(&done.problems, output))
}

fn existing(shared: &SharedVault) -> Result<Vault, Failure> {
    shared.existing()?.ok_or_else(|| {
        Failure::new("vault.none", "there is no vault yet")
            .with_remedy("the first secret or sign-in makes it: postrider secret set NAME")
    })
}

fn new_key(arguments: &KeyArguments) -> Result<Option<NewKey>, Failure> {
    Ok(if let Some(path) = &arguments.key_file {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Some(NewKey::KeyFile(path))
    } else if arguments.passphrase {
        Some(NewKey::Passphrase(unseen::ask("New passphrase", false)?))
    } else if arguments.keyring {
        Some(NewKey::Keyring)
    } else if arguments.credential {
        Some(NewKey::Credential)
    } else if arguments.generate {
        Some(NewKey::Generated)
    } else {
        None
    })
}

/// What has to change in `[vault]` for the new key to be found; nothing if it is there already.
fn configure(key: &NewKey, settings: &VaultSettings) -> Option<String> {
    let lines = match key {
        NewKey::KeyFile(path) if settings.key_file.as_ref() == Some(path) => return None,
        NewKey::KeyFile(path) => format!("[vault]\nkey_file = \"{}\"", path.display()),
        NewKey::Keyring if settings.keyring => return None,
        NewKey::Keyring => "[vault]\nkeyring = true".to_owned(),
        NewKey::Passphrase(_) if settings.passphrase.is_some() => {
            return Some(
                "Put the new passphrase where [vault] passphrase says, before anything else runs."
                    .to_owned(),
            );
        }
        NewKey::Passphrase(_) => {
            return Some(
                "At a terminal it is asked for. What runs unattended needs in postrider.toml:\n\
                 [vault]\npassphrase = { credential = \"NAME\" }"
                    .to_owned(),
            );
        }
        NewKey::Credential => {
            return Some("Services need: LoadCredentialEncrypted=postrider.kek:FILE".to_owned());
        }
        NewKey::Generated
            if settings.key_file.is_none()
                && !settings.keyring
                && settings.passphrase.is_none() =>
        {
            return None;
        }
        NewKey::Generated => {
            return Some("Take key_file, keyring and passphrase out of [vault].".to_owned());
        }
    };
    Some(format!(
        "Set in postrider.toml, before anything else runs:\n{lines}"
    ))
}

fn export(
    arguments: &ExportArguments,
    accounts: &BTreeMap<String, Records>,
    shared: &SharedVault,
    output: &Output,
) -> Result<ExitCode, Failure> {
    if output.is_json() && arguments.output.is_none() {
        return Err(Failure::new(
            "usage.output",
            "standard output is either the export or JSON",
        )
        .with_remedy("name a file with --output"));
    }
    if let Some(path) = &arguments.output
        && !arguments.force
        && path.symlink_metadata().is_ok()
    {
        return Err(exists(path));
    }
    let vault = existing(shared)?;
    let selection = selection(&arguments.only, accounts, &vault)?;
    let sealing = if arguments.passphrase {
        Sealing::Passphrase(unseen::ask("Passphrase of the export", false)?)
    } else {
        Sealing::Recipients(arguments.to.clone())
    };
    let exported = if let Some(path) = &arguments.output {
        to_file(path, arguments.force, |file| {
            vault.export(&selection, &sealing, true, file)
        })?
    } else {
        let mut stdout = io::stdout().lock();
        let exported = vault
            .export(&selection, &sealing, true, &mut stdout)
            .map_err(|error| failure(&error))?;
        stdout
            .flush()
            .map_err(|problem| Failure::new("vault.io", format!("standard output: {problem}")))?;
        exported
    };

    output.json(&json!({
        "file": arguments.output,
        "records": exported.iter().map(record_json).collect::<Vec<_>>(),
    }));
    let summary = format!("exported {}", records(exported.len() as u64));
    match &arguments.output {
        Some(path) => output.line(format!("{summary} to {}", path.display())),
        None => output.note(&summary),
    }
    Ok(ExitCode::SUCCESS)
}

fn exists(path: &Path) -> Failure {
    Failure::new("usage.file_exists", format!("{} exists", path.display()))
        .with_remedy("name another file, or say --force to replace it")
}

/// The records that were asked for.
fn selection(
    only: &[String],
    accounts: &BTreeMap<String, Records>,
    vault: &Vault,
) -> Result<Selection, Failure> {
    if only.is_empty() {
        return Ok(Selection::All);
    }
    let mut known: Records = Vec::new();
    for kind in Kind::ALL {
        let names = vault.names(kind).map_err(|error| failure(&error))?;
        known.extend(names.into_iter().map(|name| (kind, name)));
    }
    let mut chosen: Records = Vec::new();
    for wanted in only {
        let before = chosen.len();
        let of_account = accounts.get(wanted);
        chosen.extend(
            known
                .iter()
                .filter(|record| {
                    let (kind, name) = record;
                    wanted == kind.name()
                        || wanted == name
                        || of_account.is_some_and(|records| records.contains(record))
                })
                .cloned(),
        );
        if chosen.len() == before {
            return Err(Failure::new(
                "vault.no_record",
                format!("the vault keeps nothing for {wanted}"),
            )
            .with_remedy(
                "say an account's name, `secret`, `grant`, `device`, or a name from postrider \
                         secret list",
            ));
        }
    }
    chosen.sort();
    chosen.dedup();
    Ok(Selection::Only(chosen))
}

/// Writes a file for its owner only, whole or not at all.
fn to_file<T>(
    path: &Path,
    replace: bool,
    write: impl FnOnce(&mut NamedTempFile) -> Result<T, postrider_vault::VaultError>,
) -> Result<T, Failure> {
    let unwritten = |problem: &io::Error| {
        Failure::new(
            "vault.io",
            format!("{} cannot be written: {problem}", path.display()),
        )
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(directory).map_err(|problem| unwritten(&problem))?;
    let written = write(&mut file).map_err(|error| failure(&error))?;
    file.as_file()
        .sync_all()
        .map_err(|problem| unwritten(&problem))?;
    if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    }
    .map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => unwritten(&error.error),
    })?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|problem| unwritten(&problem))?;
    Ok(written)
}

fn import(
    arguments: &ImportArguments,
    shared: &SharedVault,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let from_stdin = arguments.file.as_os_str() == "-";
    let opener = match &arguments.identity {
        Some(path) => Opener::Identities(identity(path)?),
        None if from_stdin => Opener::Passphrase(unseen::ask_at_terminal(PASSPHRASE)?),
        None => Opener::Passphrase(unseen::ask(PASSPHRASE, true)?),
    };
    let import = Import {
        opener,
        overwrite: arguments.replace,
    };
    let imported = if from_stdin {
        let vault = shared.open()?;
        vault.import(&import, io::stdin().lock())
    } else {
        let file = File::open(&arguments.file).map_err(|problem| {
            let what = format!("{}: {problem}", arguments.file.display());
            Failure::new("file.unreadable", what)
        })?;
        let vault = shared.open()?;
        vault.import(&import, io::BufReader::new(file))
    }
    .map_err(|error| failure(&error))?;
    print_imported(&imported, output);
    Ok(ExitCode::SUCCESS)
}

const PASSPHRASE: &str = "Passphrase of the export";

/// Read with the care that secret files get.
fn identity(path: &Path) -> Result<SecretString, Failure> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    SecretRef::File(path.clone())
        .resolve(Path::new(""), &NoVault)
        .map_err(|error| {
            Failure::new(
                "secret.identity",
                format!("the identity {}: {}", path.display(), error.message),
            )
        })
}

fn print_imported(imported: &Imported, output: &Output) {
    let listed =
        |records: &[(Kind, String)]| -> Vec<Value> { records.iter().map(record_json).collect() };
    output.json(&json!({
        "added": listed(&imported.added),
        "replaced": listed(&imported.replaced),
        "kept": listed(&imported.kept),
        "same": listed(&imported.same),
    }));
    for (records, what) in [
        (&imported.added, "added"),
        (&imported.replaced, "replaced"),
        (&imported.same, "here already"),
        (&imported.kept, "kept as here"),
    ] {
        for (kind, name) in records {
            output.line(format!("{what:<12}  {} {name}", kind.name()));
        }
    }
    if !imported.kept.is_empty() {
        output.line("those kept were set anew, here or there: --replace takes those of the export");
    }
}

fn record_json((kind, name): &(Kind, String)) -> Value {
    json!({ "kind": kind.name(), "name": name })
}

/// Does `work`, and tells whoever waits at a terminal how long it has been going on, and how
/// many percent of it `work` says are done.
fn working<T>(what: &str, work: impl FnOnce(&AtomicUsize) -> T) -> T {
    let percent = AtomicUsize::new(0);
    if !io::stderr().is_terminal() {
        return work(&percent);
    }
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        let percent = &percent;
        scope.spawn(move || {
            let start = Instant::now();
            while wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let part = match percent.load(Ordering::Relaxed) {
                    0 => String::new(),
                    percent => format!(", {percent} %"),
                };
                let _ = write!(
                    io::stderr(),
                    "\r{what} … {} s{part} ",
                    start.elapsed().as_secs()
                );
            }
            if start.elapsed() >= PATIENCE {
                complain("");
            }
        });
        let outcome = work(percent);
        drop(done);
        outcome
    })
}
