//! What single values look like: host names, addresses, URLs, scopes.

use std::net::{IpAddr, SocketAddr};

use lettre::{Address, message::Mailbox};
use url::{Host, Url};

use crate::keys;
use crate::problem::quote;

/// Text without a limit of its own.
pub(crate) const TEXT_OCTETS: usize = 1024;
/// `PATH_MAX` on Linux.
pub(crate) const PATH_OCTETS: usize = 4096;
/// A domain name as text (RFC 1035 §2.3.4: 255 octets on the wire).
const HOST_OCTETS: usize = 253;
/// A label of it.
const LABEL_OCTETS: usize = 63;
/// With its gateway's name it fits a secret's name.
const DEVICE_OCTETS: usize = 63;
/// A display name and an address: what fits a header line (RFC 5322 §2.1.1).
const MAILBOX_OCTETS: usize = 900;

/// Why a value is not what it should be, and what may help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: None,
        }
    }

    pub(crate) fn with(message: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            suggestion: Some(suggestion.into()),
        }
    }
}

type Check = Result<(), Fault>;

/// One line of text: not empty, at most `limit` octets, no control character.
pub(crate) fn line(text: &str, limit: usize) -> Check {
    if text.is_empty() {
        return Err(Fault::new("is empty"));
    }
    if text.len() > limit {
        return Err(Fault::new(format!(
            "is {} octets long, more than {limit}",
            text.len()
        )));
    }
    match text.chars().find(|character| character.is_control()) {
        Some(control) => Err(Fault::new(format!(
            "holds the control character U+{:04X}",
            u32::from(control)
        ))),
        None => Ok(()),
    }
}

/// An account's or a plugin's name.
pub(crate) fn name(text: &str) -> Check {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
        return Err(Fault::new(
            "a name has 1 to 64 letters, digits, \"-\" or \"_\"",
        ));
    }
    Ok(())
}

/// What a secret is called in the vault: a path of words, so that a shell needs no quotes.
pub(crate) fn secret_name(text: &str) -> Check {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./@+:".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.len() > 128 || !text.starts_with(begins) || !text.chars().all(fits) {
        return Err(Fault::new(
            "a secret's name has 1 to 128 letters, digits, or \"-_./@+:\", the first a letter, a digit or \"_\"",
        ));
    }
    Ok(())
}

/// A host name or an IP address, without port or brackets.
pub(crate) fn host(text: &str) -> Check {
    line(text, HOST_OCTETS)?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let bare = |text: &str| {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned()
    };
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        return Err(Fault::with(
            format!("{} is a URL, not a host name", quote(text)),
            if scheme.is_empty() || host.is_empty() {
                "write the host name alone".to_owned()
            } else {
                format!("write {}", quote(host))
            },
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(Fault::with(
            format!("{} holds a port", quote(text)),
            format!("write {} and the port as `port`", quote(&bare(host))),
        ));
    }
    if text.starts_with('[') {
        return Err(Fault::with(
            "an IPv6 address stands without brackets here",
            format!("write {}", quote(&bare(text))),
        ));
    }
    if let Some(rest) = text.strip_suffix('.') {
        return Err(Fault::with(
            "ends with a dot",
            format!("write {}", quote(rest)),
        ));
    }
    if !text.is_ascii() {
        return match Host::parse(text) {
            Ok(Host::Domain(ascii)) if labels(&ascii).is_ok() => Err(Fault::with(
                format!("{} is not in its ASCII form", quote(text)),
                format!("write {}", quote(&ascii)),
            )),
            _ => Err(Fault::new(format!("{} is not a host name", quote(text)))),
        };
    }
    labels(text).map_err(|why| Fault::new(format!("{} is not a host name: {why}", quote(text))))?;
    if text
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(Fault::new(format!(
            "{} is neither a host name nor an IPv4 address",
            quote(text)
        )));
    }
    Ok(())
}

/// Letters, digits, hyphens; underscores too, since private networks have them.
fn labels(text: &str) -> Result<(), String> {
    for label in text.split('.') {
        if label.is_empty() {
            return Err("it has an empty label".to_owned());
        }
        if label.len() > LABEL_OCTETS {
            return Err(format!(
                "a label of {} octets is longer than {LABEL_OCTETS}",
                label.len()
            ));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(other) = label.chars().find(|&c| !fits(c)) {
            return Err(format!("{} may not stand in it", quote(&other.to_string())));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a label begins or ends with a hyphen".to_owned());
        }
    }
    Ok(())
}

/// What `EHLO` may say: a domain, or an address literal in brackets (RFC 5321 §4.1.3).
pub(crate) fn ehlo_name(text: &str) -> Check {
    line(text, HOST_OCTETS + 2)?;
    if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let valid = match literal.strip_prefix("IPv6:") {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        return if valid {
            Ok(())
        } else {
            Err(Fault::with(
                format!("{} is not an address literal", quote(text)),
                "write [192.0.2.1] or [IPv6:2001:db8::1]",
            ))
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(Fault::with(
            "an address stands in brackets here",
            match address {
                IpAddr::V4(address) => format!("write \"[{address}]\""),
                IpAddr::V6(address) => format!("write \"[IPv6:{address}]\""),
            },
        ));
    }
    if text.contains('_') {
        return Err(Fault::new(format!(
            "{} is not a domain: \"_\" may not stand in it",
            quote(text)
        )));
    }
    host(text)
}

/// A mail address alone.
pub(crate) fn address(text: &str) -> Result<Address, Fault> {
    line(text, MAILBOX_OCTETS)?;
    text.parse().map_err(|_| {
        Fault::new(format!(
            "{} is not a mail address{}",
            quote(text),
            why_not(text)
        ))
    })
}

/// A mail address, with or without a display name.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, Fault> {
    line(text, MAILBOX_OCTETS)?;
    text.parse().map_err(|_| {
        Fault::new(format!(
            "{} is not a mail address{}",
            quote(text),
            why_not(text)
        ))
    })
}

/// The likely reason, as the end of a sentence.
fn why_not(text: &str) -> &'static str {
    match text.matches('@').count() {
        0 => ": it has no \"@\"",
        1 if text.contains(char::is_whitespace) && !text.contains('<') => ": it has a space",
        1 => "",
        _ => ": it has more than one \"@\"",
    }
}

/// An https URL; plain http for this machine only.
pub(crate) fn endpoint(text: &str) -> Check {
    line(text, TEXT_OCTETS)?;
    let url = url(text)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback_url(&url) => {}
        "http" => {
            return Err(Fault::with(
                "sends credentials without TLS",
                "begin it with https://",
            ));
        }
        _ => return Err(Fault::new(format!("{} is not an https URL", quote(text)))),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::new("holds a user name or a password"));
    }
    if url.fragment().is_some() {
        return Err(Fault::new("holds a fragment"));
    }
    Ok(())
}

/// A sign-in service's base URL: the tenant and what follows are added to it.
pub(crate) fn authority(text: &str) -> Check {
    endpoint(text)?;
    let url = url(text)?;
    if url.path() == "/" && url.query().is_none() {
        return Ok(());
    }
    Err(Fault::with(
        "holds more than the service's base URL",
        format!(
            "write {} and the tenant as `tenant`",
            quote(&url.origin().ascii_serialization())
        ),
    ))
}

/// Where a browser is sent back to: http on this machine (RFC 8252 §7.3), or https.
pub(crate) fn redirect_uri(text: &str) -> Check {
    line(text, TEXT_OCTETS)?;
    let url = url(text)?;
    if url.fragment().is_some() {
        return Err(Fault::new("holds a fragment"));
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback_url(&url) => Ok(()),
        "http" => Err(Fault::with(
            "plain http may lead to this machine only",
            "write \"http://localhost\"",
        )),
        _ => Err(Fault::new(format!(
            "{} is neither http://localhost nor an https URL",
            quote(text)
        ))),
    }
}

/// A host that requests may go to: `host`, `host:port`, `http://host:port`.
pub(crate) fn allowed_host(text: &str) -> Check {
    line(text, TEXT_OCTETS)?;
    let fault = || {
        Fault::with(
            format!("{} is not a host", quote(text)),
            "write \"host\", \"host:port\" or \"http://host:port\"",
        )
    };
    let whole = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("https://{text}"))
    };
    let url = whole.map_err(|_| fault())?;
    let scheme = matches!(url.scheme(), "https" | "http");
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    if scheme && bare && nobody && url.has_host() {
        Ok(())
    } else {
        Err(fault())
    }
}

fn url(text: &str) -> Result<Url, Fault> {
    Url::parse(text)
        .ok()
        .filter(Url::has_host)
        .ok_or_else(|| Fault::new(format!("{} is not a URL", quote(text))))
}

fn is_loopback_url(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

/// Whether `host` is this machine by its name or address.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    }
}

/// A tenant: its id, one of its domains, or one of Entra's words.
pub(crate) fn tenant(text: &str) -> Check {
    line(text, HOST_OCTETS)?;
    if labels(text).is_ok() && !text.contains('_') {
        return Ok(());
    }
    Err(Fault::with(
        format!("{} is not a tenant", quote(text)),
        "write its id or one of its domains, such as \"contoso.onmicrosoft.com\"",
    ))
}

/// One scope token (RFC 6749 §3.3).
pub(crate) fn scope(text: &str) -> Check {
    line(text, TEXT_OCTETS)?;
    if text.contains(' ') {
        return Err(Fault::with(
            format!("{} has a space", quote(text)),
            "write each scope as its own string",
        ));
    }
    match text
        .chars()
        .find(|&c| !c.is_ascii_graphic() || matches!(c, '"' | '\\'))
    {
        Some(other) => Err(Fault::new(format!(
            "{} may not stand in a scope",
            quote(&other.to_string())
        ))),
        None => Ok(()),
    }
}

/// An address and a port to listen on; port 0 lets the system choose.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    line(text, HOST_OCTETS)?;
    text.parse().map_err(|_| {
        let message = format!("{} is not an IP address and a port", quote(text));
        let port = text.rsplit(':').next().map(str::parse::<u16>);
        match port {
            Some(Ok(port)) => Fault::with(message, format!("write \"127.0.0.1:{port}\"")),
            _ => Fault::with(message, "write it like \"127.0.0.1:9464\""),
        }
    })
}

/// What a device signs in with: a word, or a mail address; it stands in a secret's name, too.
pub(crate) fn device(text: &str) -> Check {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.len() > DEVICE_OCTETS || !text.starts_with(begins) || !text.chars().all(fits) {
        return Err(Fault::new(format!(
            "a device's name has 1 to {DEVICE_OCTETS} letters, digits, or \"-_.@+\", the first a letter, a digit or \"_\"",
        )));
    }
    Ok(())
}

/// A mail address, or a domain behind an `@`; never everybody.
pub(crate) fn sender(text: &str) -> Check {
    line(text, MAILBOX_OCTETS)?;
    if text.contains('*') {
        return Err(Fault::with(
            format!("{} stands for senders that nobody has named", quote(text)),
            "name addresses or domains, such as \"@contoso.com\"; rewrite_from = true sends all others as the account's sender",
        ));
    }
    match text.strip_prefix('@') {
        Some(name) => domain(name),
        None if !text.contains('@') && domain(text).is_ok() => Err(Fault::with(
            format!("{} is not a mail address: it has no \"@\"", quote(text)),
            format!("write \"@{text}\" for all addresses of the domain"),
        )),
        None => address(text).map(drop),
    }
}

/// The domain of mail addresses, in its ASCII form.
pub(crate) fn domain(text: &str) -> Check {
    if let Some(name) = text.strip_prefix('@') {
        return Err(Fault::with(
            format!("{} is not a domain", quote(text)),
            format!("write {}", quote(name)),
        ));
    }
    if text.contains('*') {
        return Err(Fault::with(
            format!("{} is not a domain", quote(text)),
            "name each domain",
        ));
    }
    host(text)
}

/// The name of an environment variable that a script may read: none that says it is a secret.
pub(crate) fn variable(text: &str) -> Check {
    line(text, 255)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.chars().all(fits) || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Fault::new(format!(
            "{} is not the name of an environment variable",
            quote(text)
        )));
    }
    if keys::names_secret(text) {
        return Err(Fault::with(
            format!("{} is a secret by its name", quote(text)),
            "leave it out: `pr.secret.env` gives a script the use of it, not the text",
        ));
    }
    Ok(())
}

/// A program that a script may start: the very file, no search in `$PATH`.
pub(crate) fn program(text: &str) -> Check {
    path(text)?;
    if !text.starts_with('/') {
        return Err(Fault::with(
            format!("{} is not an absolute path", quote(text)),
            format!(
                "`command -v {}` in a shell tells it",
                text.rsplit('/').next().unwrap_or(text)
            ),
        ));
    }
    Ok(())
}

/// A SHA-256 digest in hexadecimal.
pub(crate) fn digest(text: &str) -> Check {
    if text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Fault::with(
        "is not a SHA-256 digest of 64 hexadecimal digits",
        "`postrider plugin inspect` prints it",
    ))
}

/// A file's path. `~` is for shells.
pub(crate) fn path(text: &str) -> Check {
    line(text, PATH_OCTETS)?;
    if text == "~" || text.starts_with("~/") {
        return Err(Fault::with("`~` is not expanded", "write the whole path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        let long_label = format!("{}.example", "a".repeat(63));
        for good in [
            "smtp.office365.com",
            "localhost",
            "10.0.0.1",
            "::1",
            "mail_relay",
            "xn--mnchen-3ya.example",
            &long_label,
        ] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        let long_label = format!("{}.example", "a".repeat(64));
        let long = ["a".repeat(63).as_str(); 4].join(".") + ".example";
        for bad in [
            "",
            "a b",
            "a\r\nb",
            "a\0",
            ".a",
            "a..b",
            "-a",
            "a-",
            "1.2.3",
            "[::1]",
            "münchen.example",
            &long_label,
            &long,
        ] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_faults_say_what_to_write() {
        let suggestion = |text: &str| host(text).unwrap_err().suggestion.unwrap();
        assert_eq!(
            suggestion("smtp.example.org:587"),
            "write \"smtp.example.org\" and the port as `port`"
        );
        assert_eq!(
            suggestion("smtps://smtp.example.org:465/"),
            "write \"smtp.example.org\""
        );
        assert_eq!(
            suggestion("münchen.example"),
            "write \"xn--mnchen-3ya.example\""
        );
        assert_eq!(suggestion("[::1]"), "write \"::1\"");
        assert_eq!(
            suggestion("smtp.example.org."),
            "write \"smtp.example.org\""
        );
    }

    #[test]
    fn ehlo_takes_domains_and_literals() {
        for good in ["client.example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            assert_eq!(ehlo_name(good), Ok(()), "{good}");
        }
        for bad in [
            "192.0.2.1",
            "[client]",
            "a_b.example",
            "a b",
            "x\r\nMAIL FROM:<>",
        ] {
            assert!(ehlo_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn endpoints_are_https_except_on_this_machine() {
        for good in [
            "https://login.microsoftonline.com",
            "http://localhost:8080/token",
            "http://127.0.0.1/x",
            "http://[::1]:1/",
        ] {
            assert_eq!(endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "http://login.example.org/",
            "ftp://x.example/",
            "login.example.org",
            "https://u:p@x.example/",
            "https://x.example/#f",
            "https://",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn allowed_hosts_have_no_path() {
        for good in [
            "id.example.org",
            "id.example.org:8443",
            "http://127.0.0.1:8080",
            "[::1]:1",
        ] {
            assert_eq!(allowed_host(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "id.example.org/x",
            "a b",
            "ftp://x",
            "u@x",
            "http://",
            "x:y",
        ] {
            assert!(allowed_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_may_be_international_but_never_hold_controls() {
        for good in ["a@example.org", "sélène@exämple.org", "\"a b\"@example.org"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a@",
            "@b",
            "a@b@c\r\n",
            "a@example.org\r\nRCPT TO:<x@y.z>",
            "a\u{85}@b.example",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            mailbox("Alerts <alerts@contoso.com>")
                .unwrap()
                .email
                .as_ref() as &str,
            "alerts@contoso.com"
        );
    }

    #[test]
    fn scopes_are_single_tokens() {
        assert_eq!(scope("https://outlook.office.com/SMTP.Send"), Ok(()));
        for bad in ["a b", "a\"b", "a\\b", "ä", "", "a\n"] {
            assert!(scope(bad).is_err(), "{bad:?}");
        }
    }
}
