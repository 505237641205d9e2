//! What a device says to sign in: `PLAIN` (RFC 4616) and `LOGIN`, decoded.
//!
//! Passwords live in wiped memory from the first octet, and no refusal repeats what was sent.

use postrider_smtp::server::{Exchange, ExchangeEnd};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::backend::Refusal;

/// A name beyond this is no device's.
const MAX_NAME_OCTETS: usize = 255;

/// Who wants in.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) password: SecretString,
    pub(crate) mechanism: &'static str,
}

/// Why there is no attempt.
#[derive(Debug)]
pub(crate) enum NoAttempt {
    /// The client is told this.
    Refused(Refusal),
    /// The exchange ended.
    Ended(ExchangeEnd),
}

impl From<ExchangeEnd> for NoAttempt {
    fn from(end: ExchangeEnd) -> Self {
        Self::Ended(end)
    }
}

/// Asks for name and password. `nul`: the prompts of `LOGIN` end in NUL.
pub(crate) async fn ask(
    mechanism: &str,
    initial: Option<Vec<u8>>,
    exchange: &mut Exchange<'_>,
    nul: bool,
) -> Result<Attempt, NoAttempt> {
    match mechanism {
        "PLAIN" => {
            let response = match initial {
                Some(response) => response,
                None => exchange.ask(b"").await?,
            };
            plain(&Zeroizing::new(response)).map_err(NoAttempt::Refused)
        }
        "LOGIN" => {
            let (name_prompt, password_prompt): (&[u8], &[u8]) = if nul {
                // draft-murchison-sasl-login-00
                (b"User Name\0", b"Password\0")
            } else {
                // Exchange's
                (b"Username:", b"Password:")
            };
            let name = match initial {
                // A client may begin with an empty response and still wait for the prompt.
                Some(name) if !name.is_empty() => name,
                _ => exchange.ask(name_prompt).await?,
            };
            let name = Zeroizing::new(name);
            let password = Zeroizing::new(exchange.ask(password_prompt).await?);
            login(&name, &password).map_err(NoAttempt::Refused)
        }
        _ => Err(NoAttempt::Refused(Refusal::new(
            504,
            "5.5.4",
            "this mechanism is not to be had: use PLAIN or LOGIN",
        ))),
    }
}

/// `authzid NUL authcid NUL password`.
fn plain(response: &[u8]) -> Result<Attempt, Refusal> {
    let malformed = || Refusal::new(501, "5.5.2", "this is no response to AUTH PLAIN");
    let mut parts = response.split(|octet| *octet == 0);
    let (Some(acted_for), Some(authcid), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if !acted_for.is_empty() && acted_for != authcid {
        // Nobody acts for another here; how that is said tells nothing of either.
        return Err(wrong());
    }
    attempt(authcid, password, "PLAIN").ok_or_else(malformed)
}

/// The server half has taken a NUL off the ends, where that is allowed.
fn login(name: &[u8], password: &[u8]) -> Result<Attempt, Refusal> {
    attempt(name, password, "LOGIN")
        .ok_or_else(|| Refusal::new(501, "5.5.2", "this is no response to AUTH LOGIN"))
}

fn attempt(name: &[u8], password: &[u8], mechanism: &'static str) -> Option<Attempt> {
    let name = std::str::from_utf8(name).ok()?;
    let password = std::str::from_utf8(password).ok()?;
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME_OCTETS
        && !name.contains(char::is_control)
        && !password.contains('\0');
    is_name.then(|| Attempt {
        name: name.to_owned(),
        password: SecretString::from(password),
        mechanism,
    })
}

/// To every wrong name, every wrong password, and everybody who may not come in for another reason.
pub(crate) fn wrong() -> Refusal {
    Refusal::new(535, "5.7.8", "authentication failed")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn plain_is_taken_apart_and_nobody_acts_for_another() {
        let taken = plain(b"\0printer-2\0s\xc3\xa4cret").unwrap();
        assert_eq!(taken.name, "printer-2");
        assert_eq!(taken.password.expose_secret(), "s\u{e4}cret");
        assert!(plain(b"printer-2\0printer-2\0x").is_ok());
        for (response, code) in [
            (&b""[..], 501),
            (b"printer-2", 501),
            (b"\0printer-2", 501),
            (b"\0printer-2\0x\0", 501),
            (b"\0\0x", 501),
            (b"\0a\r\nb\0x", 501),
            (b"\0\xff\0x", 501),
            (b"other\0printer-2\0x", 535),
        ] {
            let refusal = plain(response).unwrap_err();
            assert_eq!(refusal.code, code, "{}", response.escape_ascii());
        }
    }

    #[test]
    fn login_takes_any_name_and_password_that_can_be_one() {
        let taken = login(b"printer-2", b"secret").unwrap();
        assert_eq!(taken.name, "printer-2");
        assert_eq!(taken.password.expose_secret(), "secret");
        for (name, password) in [
            (&b""[..], &b"x"[..]),
            (b"a\0", b"x"),
            (b"a\r\nb", b"x"),
            (b"a", b"x\0"),
            (b"\xff", b"x"),
            (&[b'x'; 256], b"x"),
        ] {
            assert_eq!(login(name, password).unwrap_err().code, 501);
        }
    }

    #[test]
    fn nothing_that_was_sent_is_shown() {
        let taken = plain(b"\0printer-2\0hunter2").unwrap();
        assert!(!format!("{taken:?}").contains("hunter2"));
        let refusal = plain(b"hunter2").unwrap_err();
        assert!(!format!("{refusal:?}").contains("hunter2"));
    }
}
