//! The fields of a mail-server settings page, asked one by one, with the provider's usual values
//! filled in.

use postrider_config::{Preset, Presets};

use super::answers::{
    Answers, AuthKind, Credential, FlowName, Tls, check_account, check_address, check_file,
    check_host, check_issuer, check_port, check_some, preset, word,
};
use super::ask::{self, Choice};
use crate::cli::output::complain;
use crate::failure::Failure;

const FLOWS: [Choice; 3] = [
    Choice {
        word: "authorization_code",
        meaning: "a person signs in once, in a browser",
    },
    Choice {
        word: "device_code",
        meaning: "a person signs in once, with a code on another device",
    },
    Choice {
        word: "client_credentials",
        meaning: "the application itself; nobody signs in",
    },
];

const CREDENTIALS: [Choice; 2] = [
    Choice {
        word: "secret",
        meaning: "a client secret, kept in the vault",
    },
    Choice {
        word: "certificate",
        meaning: "a key made here that never leaves the vault",
    },
];

const AUTHS: [Choice; 2] = [
    Choice {
        word: "oauth",
        meaning: "OAuth 2.0",
    },
    Choice {
        word: "basic",
        meaning: "a password, or an app password",
    },
];

const TLS: [Choice; 2] = [
    Choice {
        word: "starttls",
        meaning: "secured after the greeting, port 587",
    },
    Choice {
        word: "implicit",
        meaning: "TLS from the first octet, port 465",
    },
];

/// Everything that `given` leaves open, from whoever sits at the terminal.
///
/// # Errors
/// Nobody does, or they stopped.
pub(super) fn ask(given: Answers) -> Result<Answers, Failure> {
    if !ask::is_attended() {
        return Err(Failure::new(
            "usage.no_terminal",
            "nothing was changed: there is no terminal to ask at",
        )
        .with_remedy(
            "say what to set up, as in postrider setup microsoft365 --account NAME --username \
             USER --yes, or give --answers FILE",
        ));
    }
    complain(
        "An account, field by field. Enter takes what stands in brackets, Tab completes, Ctrl-C \
         stops; nothing is changed before you have seen it all.",
    );
    let mut answers = given;
    let choices: Vec<Choice> = Presets::all()
        .iter()
        .map(|preset| Choice {
            word: preset.name,
            meaning: preset.title,
        })
        .collect();
    let name = ask::choose("Provider", &choices, "microsoft365")?;
    answers.provider = Some(name.to_owned());
    let preset = preset(name)?;

    who(&mut answers, preset)?;
    server(&mut answers, preset)?;
    auth(&mut answers, preset)?;
    Ok(answers)
}

fn who(answers: &mut Answers, preset: &Preset) -> Result<(), Failure> {
    if answers.account.is_none() {
        let name = ask::text("Name of the account", Some("alerts"), check_account)?;
        answers.account = Some(name);
    }
    if answers.username.is_none() {
        let check = if preset.username_is_address {
            check_address
        } else {
            check_some
        };
        answers.username = Some(ask::text("User who signs in", None, check)?);
    }
    let username = answers.username.clone().unwrap_or_default();
    if answers.sender.is_none() {
        let sender = if check_address(&username).is_ok() {
            ask::text(
                "Sender, the From of its messages",
                Some(&username),
                check_address,
            )?
        } else {
            ask::text("Sender, the From of its messages", None, check_address)?
        };
        answers.sender = Some(sender).filter(|sender| *sender != username);
    }
    if answers.sender.is_some() && preset.name.starts_with("microsoft365") && !answers.on_behalf {
        answers.on_behalf = ask::yes(
            "Should messages say \"on behalf of\" (Send on Behalf, in place of Send As)?",
            false,
        )?;
    }
    if answers.test_recipient.is_none() {
        let question = "Address that gets a test message";
        answers.test_recipient = ask::optional(question, check_address)?;
    }
    Ok(())
}

fn server(answers: &mut Answers, preset: &Preset) -> Result<(), Failure> {
    let usual = preset.server;
    let host = ask::text("Server", usual.map(|(host, _, _)| host), check_host)?;
    let tls = ask::choose(
        "How is the connection secured?",
        &TLS,
        usual.map_or("starttls", |(_, _, tls)| word(tls)),
    )?;
    let tls = if tls == "implicit" {
        Tls::Implicit
    } else {
        Tls::Starttls
    };
    let port = match usual {
        Some((_, port, usual)) if word(usual) == tls.word() => port,
        _ => tls.port(),
    };
    let port = ask::text("Port", Some(&port.to_string()), check_port)?;
    let port = port.parse().unwrap_or(tls.port());
    if usual.is_none() && answers.ca_file.is_none() {
        let question = "File with the server's certificate authority, if it is a private one";
        answers.ca_file = ask::optional(question, check_file)?.map(Into::into);
    }
    // What is usual follows from the provider, and stays out of the file.
    if usual.map(|(host, port, tls)| (host, port, word(tls))) != Some((&host, port, tls.word())) {
        answers.server = Some(host);
        answers.port = Some(port);
        answers.tls = Some(tls);
    }
    Ok(())
}

fn auth(answers: &mut Answers, preset: &Preset) -> Result<(), Failure> {
    let microsoft365 = preset.name.starts_with("microsoft365");
    let usual = if microsoft365 || preset.name == "outlook" {
        "oauth"
    } else {
        "basic"
    };
    let how = ask::choose("How does it sign in?", &AUTHS, usual)?;
    if how == "basic" {
        if microsoft365 {
            complain(
                "  Exchange Online turns passwords off by default at the end of December 2026.",
            );
        }
        answers.auth = Some(AuthKind::Basic);
        return Ok(());
    }
    answers.auth = Some(AuthKind::Oauth);
    let flow = ask::choose("Who acts?", &FLOWS, "authorization_code")?;
    answers.flow = Some(match flow {
        "device_code" => FlowName::DeviceCode,
        "client_credentials" => FlowName::ClientCredentials,
        _ => FlowName::AuthorizationCode,
    });
    if answers.is_for_graph() {
        answers.no_graph = !ask::yes(
            "Set the application up now, through Microsoft Graph? An administrator signs in",
            true,
        )?;
    }
    if answers.is_for_graph() {
        if answers.flow == Some(FlowName::ClientCredentials) {
            let kind = ask::choose(
                "What does the application prove itself with?",
                &CREDENTIALS,
                "secret",
            )?;
            answers.credential = Some(match kind {
                "certificate" => Credential::Certificate,
                _ => Credential::Secret,
            });
        }
        return Ok(());
    }
    by_hand(answers, preset)
}

/// What somebody registered at the provider.
fn by_hand(answers: &mut Answers, preset: &Preset) -> Result<(), Failure> {
    if preset.name.starts_with("microsoft365") && answers.tenant.is_none() {
        let domain = answers
            .username
            .as_deref()
            .and_then(|name| name.rsplit_once('@'))
            .map(|(_, domain)| domain.to_owned());
        answers.tenant = Some(ask::text("Tenant", domain.as_deref(), check_host)?);
    }
    if preset.name == "custom" || preset.name == "azure-communication-services" {
        answers.issuer = Some(ask::text("URL of the OpenID issuer", None, check_issuer)?);
        let scopes = ask::text("Scopes, separated by commas", None, |typed| {
            if typed.is_empty() {
                return Err("at least one".to_owned());
            }
            Ok(())
        })?;
        let scopes = scopes.split(',').map(|scope| scope.trim().to_owned());
        answers.scopes = scopes.filter(|scope| !scope.is_empty()).collect();
    }
    answers.app_id = Some(ask::text("Client id of the application", None, check_some)?);
    let needs_secret = answers.flow == Some(FlowName::ClientCredentials);
    if needs_secret || ask::yes("Does the application have a client secret?", false)? {
        answers.credential = Some(Credential::Secret);
    }
    Ok(())
}
