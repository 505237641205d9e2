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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;
    use crate::wanted::{CredentialKind, Flow};

    /// Reads the string literal that `text` begins with, as PowerShell's tokenizer does
    /// (`ScanStringLiteral` and `CharTraits` in its sources): any of its five single quotes
    /// opens and ends it; two in a row, alike or not, stand for the second.
    fn read_literal(text: &str) -> Option<(String, &str)> {
        let mut chars = text.chars().peekable();
        if !is_single_quote(chars.next()?) {
            return None;
        }
        let mut value = String::new();
        loop {
            let mut c = chars.next()?;
            if is_single_quote(c) {
                match chars.peek() {
                    Some(next) if is_single_quote(*next) => c = chars.next()?,
                    _ => {
                        let rest = chars.collect::<String>().len();
                        return Some((value, &text[text.len() - rest..]));
                    }
                }
            }
            value.push(c);
        }
    }

    /// The reader's own list, so that an error in ours shows.
    fn is_single_quote(c: char) -> bool {
        ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'].contains(&c)
    }

    #[test]
    fn whatever_tries_to_end_the_string_stays_within() {
        for evil in [
            "a'; Remove-Mailbox *; '",
            "a\u{2019}; Remove-Mailbox *; \u{2018}",
            "a\u{201a}; calc #",
            "a\u{201b}'; calc",
            "$(calc)",
            "`' ; calc",
            "\"; calc; \"",
            "\u{201d}; calc; \u{201c}",
            "%PATH%; $env:X; @(1)",
            "--%",
            "",
        ] {
            let quoted = quote(evil).unwrap();
            let command = format!("{quoted} -Next");
            assert_eq!(
                read_literal(&command),
                Some((evil.to_owned(), " -Next")),
                "{quoted}"
            );
        }
    }

    #[test]
    fn what_ends_a_line_is_refused() {
        for evil in [
            "a\nb",
            "a\rb",
            "a\0b",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{2029}b",
            "\u{1b}[0m",
        ] {
            assert!(quote(evil).is_err(), "{evil:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_is_read_back_as_itself(
            value in "[a-z'\u{2018}-\u{201e}\"$`(){};|&@#% -]{0,24}",
            after in "[ a-z;$-][a-z'\u{2018}-\u{201b} ]{0,8}",
        ) {
            let command = format!("{}{after}", quote(&value).unwrap());
            prop_assert_eq!(read_literal(&command), Some((value, after.as_str())));
        }

        #[test]
        fn no_value_adds_a_line(value in any::<String>()) {
            if let Ok(quoted) = quote(&value) {
                prop_assert_eq!(quoted.lines().count(), 1);
                prop_assert_eq!(read_literal(&quoted), Some((value, "")));
            }
        }
    }

    fn commands(wanted: &Wanted, granted: Option<&Granted>) -> Vec<String> {
        let script = power_shell(wanted, granted).unwrap();
        script.lines.into_iter().map(|line| line.command).collect()
    }

    fn granted() -> Granted {
        Granted {
            client_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            service_principal_id: "22222222-2222-4222-8222-222222222222".to_owned(),
        }
    }

    #[test]
    fn a_person_needs_the_mailbox_switch_only() {
        let wanted = testing::wanted(Flow::AuthorizationCode, CredentialKind::None);

        assert_eq!(
            commands(&wanted, None),
            [
                "Import-Module ExchangeOnlineManagement",
                "Connect-ExchangeOnline",
                "Set-CASMailbox -Identity 'svc-mail@contoso.com' \
                 -SmtpClientAuthenticationDisabled $false",
                "Get-CASMailbox -Identity 'svc-mail@contoso.com' | \
                 Format-List SmtpClientAuthenticationDisabled",
            ]
        );
    }

    #[test]
    fn an_application_is_made_known_by_the_enterprise_applications_object_id() {
        let wanted = testing::wanted(Flow::ClientCredentials, testing::SECRET);

        let with = commands(&wanted, Some(&granted()));
        let without = commands(&wanted, None);

        assert_eq!(
            with[3],
            "if (-not (Get-ServicePrincipal -Identity '22222222-2222-4222-8222-222222222222' \
             -ErrorAction SilentlyContinue)) { New-ServicePrincipal \
             -AppId '11111111-1111-4111-8111-111111111111' \
             -ObjectId '22222222-2222-4222-8222-222222222222' }"
        );
        assert_eq!(
            with[4],
            "Add-MailboxPermission -Identity 'svc-mail@contoso.com' \
             -User '22222222-2222-4222-8222-222222222222' -AccessRights FullAccess"
        );
        assert!(without[4].contains("'OBJECT ID OF THE ENTERPRISE APPLICATION'"));
    }

    #[test]
    fn another_sender_needs_the_right_that_is_used() {
        let mut wanted = testing::wanted(Flow::AuthorizationCode, CredentialKind::None);
        wanted.username = "o'hara@contoso.com".to_owned();
        wanted.sender = Some("alerts@contoso.com".to_owned());

        let send_as = commands(&wanted, None);
        wanted.on_behalf = true;
        let on_behalf = commands(&wanted, None);

        assert_eq!(
            send_as[3],
            "Add-RecipientPermission 'alerts@contoso.com' -Trustee 'o''hara@contoso.com' \
             -AccessRights SendAs -Confirm:$false"
        );
        assert_eq!(
            on_behalf[3],
            "Set-Mailbox 'alerts@contoso.com' -GrantSendOnBehalfTo @{Add='o''hara@contoso.com'}"
        );
    }

    #[test]
    fn each_cloud_is_connected_to_by_its_name() {
        let mut wanted = testing::wanted(Flow::AuthorizationCode, CredentialKind::None);
        for (cloud, connect) in [
            (Cloud::Global, "Connect-ExchangeOnline"),
            (
                Cloud::GccHigh,
                "Connect-ExchangeOnline -ExchangeEnvironmentName O365USGovGCCHigh",
            ),
            (
                Cloud::Dod,
                "Connect-ExchangeOnline -ExchangeEnvironmentName O365USGovDoD",
            ),
            (
                Cloud::China,
                "Connect-ExchangeOnline -ExchangeEnvironmentName O365China",
            ),
        ] {
            wanted.cloud = cloud;
            assert_eq!(commands(&wanted, None)[1], connect);
        }
    }

    #[test]
    fn a_file_has_each_command_under_its_comment() {
        let wanted = testing::wanted(Flow::ClientCredentials, testing::SECRET);
        let script = power_shell(&wanted, Some(&granted())).unwrap();

        let file = script.to_ps1();

        assert!(file.starts_with("\u{feff}#Requires -Modules ExchangeOnlineManagement\r\n"));
        assert_eq!(file.matches("\r\n").count(), file.matches('\n').count());
        for line in &script.lines {
            assert!(file.contains(&format!("\r\n# {}\r\n{}\r\n", line.comment, line.command)));
            assert!(!line.comment.contains('\n') && !line.command.contains('\n'));
        }
    }
}
