//! `postrider gateway add NAME`: a table in the configuration, checked before it is written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use postrider_config::edit::Change;
use postrider_config::{Gateway, GatewayTls};
use serde_json::{Map, Value, json};

use super::{clients, joined, write};
use crate::app::{App, AppSettings, setup};
use crate::cli::output::Output;
use crate::failure::Failure;

/// Which gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postrider gateway add office
      for this machine alone, on 127.0.0.1:2525
  postrider gateway add office --listen 192.168.1.5:2525 --client 192.168.1.0/24 --account alerts
      for the printers of an office
  postrider gateway add old --tls danger_plaintext --listen 192.168.7.1:25 --client 192.168.7.0/28
      for devices that know no TLS, in a network of their own

  postrider gateway add office --account alerts --observe old
      as before, through the account with the password, to see who sends what

It writes [gateway.NAME] into the configuration, where there has to be an account already
(postrider setup); all other settings are written there by hand. Each device then needs a password: postrider gateway credential add
DEVICE. There is no way to let devices send without one.")]
#[allow(
    clippy::doc_markdown,
    reason = "clap prints these comments as they stand"
)]
pub(in crate::cli) struct Arguments {
    /// Its name: letters, digits, - and _
    name: String,
    /// Where it listens; may be given several times [default: 127.0.0.1:2525]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// The account that mail is sent through [default: the only one there is]
    #[arg(long, short, value_name = "NAME")]
    account: Option<String>,
    /// A network that may connect; may be given several times [default: this machine]
    #[arg(long = "client", value_name = "NETWORK")]
    clients: Vec<String>,
    /// How connections are secured: starttls, offered, implicit or danger_plaintext
    #[arg(long, value_name = "HOW")]
    tls: Option<String>,
    /// Its certificate (PEM) [default: one that it makes itself]
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The name that it greets with, and that devices connect to
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Whom messages may come from: an address, or @contoso.com; may be given several times
    /// [default: the account's sender]
    #[arg(long = "sender", value_name = "ADDRESS")]
    senders: Vec<String>,
    /// Send what comes from others as the account's sender
    #[arg(long)]
    rewrite_from: bool,
    /// Until the change to OAuth, send through this account, whose password still works, and write
    /// down who sends what
    #[arg(long, value_name = "NAME")]
    observe: Option<String>,
    /// Something that an old device does wrong: bare_lf, mail_from_space, no_brackets, login_nul,
    /// helo_only or missing_headers; may be given several times
    #[arg(long = "quirk", value_name = "QUIRK")]
    quirks: Vec<String>,
}

pub(super) fn run(
    arguments: &Arguments,
    settings: &AppSettings,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let path = setup::config_path(settings);
    let name = &arguments.name;
    if !path.exists() {
        return Err(no_account());
    }
    let app = App::open(settings)?;
    if app.config().gateways.contains_key(name) {
        return Err(Failure::new(
            "config.gateway_exists",
            format!("there is a gateway {name:?} already"),
        )
        .with_remedy(format!("change [gateway.{name}] in {}", path.display())));
    }
    // Before anything of it is a line of the file.
    has_accounts(&app, arguments)?;
    let key = format!("gateway.{}", Value::from(name.as_str()));
    let value = table(arguments);
    write(&path, &[Change::Set { key, value }])?;

    let app = App::open(settings)?;
    let config = app.config();
    let Some(gateway) = config.gateways.get(name) else {
        return Err(Failure::new(
            "internal",
            "the gateway is not where it was written",
        ));
    };
    let sender = config.accounts.get(&gateway.defaults.account);
    let sender = sender.map(|account| account.sender.email.to_string());
    output.json(&json!({
        "name": name,
        "config": path,
        "listen": gateway.listen,
        "tls": gateway.tls,
        "clients": gateway.clients,
        "account": gateway.defaults.account,
        "observe_account": gateway.observe,
        "quirks": gateway.quirks,
    }));
    output.line(format!("[gateway.{name}] is in {}", path.display()));
    output.line(format!(
        "  listens  {}, for {}",
        joined(&gateway.listen),
        clients(gateway)
    ));
    output.line(format!("  TLS      {}", tls(gateway)));
    output.line(format!(
        "  sends    through account {}{}",
        gateway.defaults.account,
        sender.map_or_else(String::new, |sender| format!(", as {sender}")),
    ));
    if let Some(observe) = &gateway.observe {
        output.line(format!(
            "  for now  through account {observe}, as before: it observes"
        ));
    }
    if gateway
        .listen
        .iter()
        .any(|address| (1..1024).contains(&address.port()))
    {
        output.line(
            "note: a port below 1024 needs the right CAP_NET_BIND_SERVICE, which a service's unit \
             gives it",
        );
    }
    output.line("next: a password for each device: postrider gateway credential add DEVICE");
    Ok(ExitCode::SUCCESS)
}

/// Whether the accounts that it is to send through are there.
fn has_accounts(app: &App, arguments: &Arguments) -> Result<(), Failure> {
    for named in arguments.account.iter().chain(&arguments.observe) {
        app.settings_of(named)?;
    }
    let accounts = app.accounts();
    match accounts.as_slice() {
        [] => Err(no_account()),
        [_, _, ..] if arguments.account.is_none() => {
            let names = joined(accounts.iter().map(|account| &account.name));
            Err(Failure::new(
                "usage.which_account",
                format!("there are several accounts to send through: {names}"),
            )
            .with_remedy("say --account NAME"))
        }
        _ => Ok(()),
    }
}

fn no_account() -> Failure {
    Failure::new("config.no_account", "there is no account to send through")
        .with_remedy("make one: postrider setup; then run this again")
}

/// The table: what was said, and no default.
fn table(arguments: &Arguments) -> Value {
    let mut table = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.insert(key.to_owned(), value);
        }
    };
    let many = |values: &[String]| (!values.is_empty()).then(|| json!(values));
    set(
        "listen",
        match arguments.listen.as_slice() {
            [] => None,
            [one] => Some(json!(one)),
            several => Some(json!(several)),
        },
    );
    set("tls", arguments.tls.clone().map(Value::from));
    set(
        "certificate",
        arguments
            .certificate
            .as_ref()
            .map(|path| json!(whole(path))),
    );
    set("key", arguments.key.as_ref().map(|path| json!(whole(path))));
    set("hostname", arguments.hostname.clone().map(Value::from));
    set("clients", many(&arguments.clients));
    set("account", arguments.account.clone().map(Value::from));
    if let Some(observe) = &arguments.observe {
        set("mode", Some(json!("observe")));
        set("observe_account", Some(json!(observe)));
    }
    set("senders", many(&arguments.senders));
    set("rewrite_from", arguments.rewrite_from.then(|| json!(true)));
    set("quirks", many(&arguments.quirks));
    Value::Object(table)
}

/// A path of the command line, which is relative to another directory than one in the file.
fn whole(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

fn tls(gateway: &Gateway) -> &'static str {
    match gateway.tls {
        GatewayTls::Starttls => "by STARTTLS, required before a password is taken",
        GatewayTls::Offered => "by STARTTLS; programs on this machine may do without",
        GatewayTls::Implicit => "from the first octet",
        GatewayTls::DangerPlaintext => "none: passwords and messages cross the network in clear",
    }
}
