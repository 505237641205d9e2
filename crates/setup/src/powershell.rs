//! What Graph cannot do, as lines of Exchange Online PowerShell, filled in.
//!
//! Every value is quoted by [`quote`]: whatever it holds, PowerShell reads it back as that value
//! and as nothing else.

use std::fmt::Write as _;

use crate::error::SetupError;
use crate::wanted::{Cloud, Wanted};

/// What is known of the application once it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The application (client) id.
    pub client_id: String,
    /// The object id of the enterprise application, not of the registration.
    pub service_principal_id: String,
}

/// Lines for an Exchange Administrator to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// In order.
    pub lines: Vec<ScriptLine>,
}

/// One command, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptLine {
    /// What it is for.
    pub comment: String,
    /// The command, on one line.
    pub command: String,
}

/// What an Exchange Administrator has to run for `wanted`. Running it again does no harm.
///
/// Without `granted`, an application on its own gets placeholders that are to be filled in.
///
/// # Errors
///
/// A value that cannot stand in a command, such as one that holds the end of a line.
pub fn power_shell(wanted: &Wanted, granted: Option<&Granted>) -> Result<Script, SetupError> {
    let mut lines = Vec::new();
    let mut line = |comment: &str, command: String| {
        lines.push(ScriptLine {
            comment: comment.to_owned(),
            command,
        });
    };
    let user = quote(&wanted.username)?;

    line(
        "Once per machine: Install-Module ExchangeOnlineManagement -Scope CurrentUser",
        "Import-Module ExchangeOnlineManagement".to_owned(),
    );
    line(
        "Sign in as an Exchange Administrator.",
        format!("Connect-ExchangeOnline{}", environment(wanted.cloud)),
    );
    line(
        "Authenticated SMTP for this mailbox. It goes before the setting of the organisation, \
         which stays as it is.",
        format!("Set-CASMailbox -Identity {user} -SmtpClientAuthenticationDisabled $false"),
    );
    if !wanted.flow.is_delegated() {
        let unknown = Granted {
            client_id: "APPLICATION (CLIENT) ID".to_owned(),
            service_principal_id: "OBJECT ID OF THE ENTERPRISE APPLICATION".to_owned(),
        };
        let granted = granted.unwrap_or(&unknown);
        let app = quote(&granted.client_id)?;
        let object = quote(&granted.service_principal_id)?;
        line(
            "The application, made known to Exchange. The object id is that of the enterprise \
             application.",
            format!(
                "if (-not (Get-ServicePrincipal -Identity {object} -ErrorAction SilentlyContinue)) \
                 {{ New-ServicePrincipal -AppId {app} -ObjectId {object} }}"
            ),
        );
        line(
            "This mailbox, and no other, for the application.",
            format!(
                "Add-MailboxPermission -Identity {user} -User {object} -AccessRights FullAccess"
            ),
        );
    }
    if let Some(sender) = wanted.other_sender() {
        let sender = quote(sender)?;
        if wanted.on_behalf {
            line(
                "Messages from the sender that say on whose behalf they were sent.",
                format!("Set-Mailbox {sender} -GrantSendOnBehalfTo @{{Add={user}}}"),
            );
        } else {
            line(
                "Messages from the sender, as if it had sent them.",
                format!(
                    "Add-RecipientPermission {sender} -Trustee {user} -AccessRights SendAs \
                     -Confirm:$false"
                ),
            );
        }
    }
    line(
        "How it stands now: SmtpClientAuthenticationDisabled should be False. Rights on \
         mailboxes take an hour or two until SMTP knows them.",
        format!("Get-CASMailbox -Identity {user} | Format-List SmtpClientAuthenticationDisabled"),
    );
    Ok(Script { lines })
}

impl Script {
    /// The script as a file for Windows and other systems: UTF-8 with a byte order mark, which
    /// Windows PowerShell 5.1 needs, and CRLF.
    pub fn to_ps1(&self) -> String {
        let mut text = "\u{feff}#Requires -Modules ExchangeOnlineManagement\r\n\
                        $ErrorActionPreference = 'Stop'\r\n"
            .to_owned();
        for line in &self.lines {
            // Writing to a string does not fail.
            let _ = write!(text, "\r\n# {}\r\n{}\r\n", line.comment, line.command);
        }
        text
    }
}

/// `value` as a PowerShell string that stands for nothing but itself.
///
/// Between single quotes nothing is special but the single quote, which is doubled. PowerShell
/// takes four more characters for single quotes (U+2018 to U+201B, `CharTraits.cs` of its
/// sources); a pair of any of them reads as the second, so each is doubled too.
///
/// # Errors
///
/// `value` holds a control character or the end of a line: no name or address does.
pub fn quote(value: &str) -> Result<String, SetupError> {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            return Err(SetupError::wanted(
                "a value for PowerShell holds a control character or the end of a line",
            ));
        }
        if is_single_quote(c) {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    Ok(quoted)
}

fn is_single_quote(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}'..='\u{201b}')
}

fn environment(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Global => "",
        Cloud::GccHigh => " -ExchangeEnvironmentName O365USGovGCCHigh",
        Cloud::Dod => " -ExchangeEnvironmentName O365USGovDoD",
        Cloud::China => " -ExchangeEnvironmentName O365China",
    }
}
