//! The gateway's own passwords: made here, kept as hashes, verified at a bounded cost.
//!
//! A password is never kept, and nothing here tells whether a name or a password was wrong: both
//! cost the same computation and have the same answer.
//!
//! Not here: where the hashes are kept (the host's vault), and how often somebody may try (the tarpit).

mod cache;
mod verifier;

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHasher as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

pub use verifier::{Verdict, Verifier};

/// What a password is made of. Small letters and digits, so that no panel needs a shift key; none
/// of `0 o 1 i l`, which look like one another in too many fonts.
const SYMBOLS: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";

/// How many symbols a password that is made here has: log2(31) bits each, 118 in all.
const LENGTH: usize = 24;

/// How many symbols stand together where a person reads them.
const GROUP: usize = 4;

/// The fewest octets that a password somebody chose may have: NIST SP 800-63B's old floor, for
/// devices that keep the password they have.
const SHORTEST: usize = 8;

/// The most octets of such a password; what RFC 4616 asks servers to take at least.
const LONGEST: usize = 255;

/// KiB that one hash fills. OWASP's first choice for argon2id (with [`PASSES`] and one lane): it
/// fits a small machine twice at a time, and a password of 118 bits asks for no more.
const MEMORY: u32 = 19 * 1024;

/// How often it fills them.
const PASSES: u32 = 2;

/// Octets of a hash's salt: RFC 9106 §3.1 recommends 16.
const SALT: usize = 16;

/// The most KiB and passes that a stored hash may ask for: what another program put there must not
/// take this one's memory.
const BEARABLE: (u32, u32) = (64 * 1024, 10);

/// Why there is no password, or no hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// The system gives no random numbers.
    Random,
    /// The hash could not be computed.
    Hash,
    /// A chosen password has fewer octets than this.
    Short {
        /// The fewest.
        least: usize,
    },
    /// A chosen password has more octets than this.
    Long {
        /// The most.
        most: usize,
    },
    /// A chosen password holds control characters, which no device sends as they were meant.
    Control,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("the system gives no random numbers"),
            Self::Hash => f.write_str("the password's hash could not be computed"),
            Self::Short { least } => {
                write!(f, "the password is too short: at least {least} characters")
            }
            Self::Long { most } => write!(f, "the password is too long: at most {most} octets"),
            Self::Control => f.write_str("the password holds control characters"),
        }
    }
}

impl std::error::Error for CredentialError {}

/// A new password: 24 small letters and digits, 118 random bits. It holds no dashes and no spaces;
/// [`grouped`] shows it to whoever types it.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_password() -> Result<SecretString, CredentialError> {
    let random = SystemRandom::new();
    let mut password = Zeroizing::new(String::with_capacity(LENGTH));
    let mut octets = Zeroizing::new([0; 2 * LENGTH]);
    // The largest multiple of their number: what lies above would favour the first symbols.
    let fair = 248;
    while password.len() < LENGTH {
        random
            .fill(&mut octets[..])
            .map_err(|_| CredentialError::Random)?;
        let drawn = octets.iter().filter(|octet| **octet < fair);
        for octet in drawn.take(LENGTH - password.len()) {
            password.push(char::from(SYMBOLS[usize::from(*octet) % SYMBOLS.len()]));
        }
    }
    Ok(SecretString::from(password.as_str()))
}

/// A password of [`new_password`] in groups of four with dashes between, to be read and typed. The
/// dashes may be typed or left out, and letters may be capitals: [`Verifier`] takes either. Another
/// password is shown as it is.
pub fn grouped(password: &SecretString) -> SecretString {
    let text = password.expose_secret();
    if !is_made_here(text) {
        return password.clone();
    }
    let mut grouped = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
    for (place, symbol) in text.chars().enumerate() {
        if place > 0 && place % GROUP == 0 {
            grouped.push('-');
        }
        grouped.push(symbol);
    }
    SecretString::from(grouped.as_str())
}

/// Whether a password that somebody chose will do.
///
/// # Errors
/// It is too short, too long, or holds what no device can send.
pub fn check_chosen(password: &SecretString) -> Result<(), CredentialError> {
    let password = password.expose_secret();
    if password.chars().any(char::is_control) {
        Err(CredentialError::Control)
    } else if password.chars().count() < SHORTEST {
        Err(CredentialError::Short { least: SHORTEST })
    } else if password.len() > LONGEST {
        Err(CredentialError::Long { most: LONGEST })
    } else {
        Ok(())
    }
}

/// The password's hash: argon2id with a salt of its own, as a PHC string.
///
/// # Errors
/// It cannot be computed, or the system gives no salt.
pub fn hash(password: &SecretString) -> Result<SecretString, CredentialError> {
    let salt: [u8; SALT] = random()?;
    let hash = Params::new(MEMORY, PASSES, 1, None)
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
        .map_err(|_| CredentialError::Hash)?
        .hash_password_with_salt(canonical(password).as_bytes(), &salt)
        .map_err(|_| CredentialError::Hash)?;
    Ok(SecretString::from(hash.to_string()))
}

/// What looks like a hash of [`hash`] and costs as much to verify, and is nobody's password's: its
/// octets were drawn, not computed.
fn nobodys_hash() -> Result<SecretString, CredentialError> {
    let salt = STANDARD_NO_PAD.encode(random::<SALT>()?);
    let output = STANDARD_NO_PAD.encode(random::<{ Params::DEFAULT_OUTPUT_LEN }>()?);
    let hash = format!("$argon2id$v=19$m={MEMORY},t={PASSES},p=1${salt}${output}");
    Ok(SecretString::from(hash))
}

fn random<const N: usize>() -> Result<[u8; N], CredentialError> {
    let mut octets = [0; N];
    let filled = SystemRandom::new().fill(&mut octets);
    filled.map(|()| octets).map_err(|_| CredentialError::Random)
}

/// The hash, if it is one that may be computed here.
fn parse(hash: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let is_bearable = params.m_cost() <= BEARABLE.0
        && params.t_cost() <= BEARABLE.1
        && params.p_cost() <= 4
        && hash.algorithm == ARGON2ID_IDENT
        && hash.salt.is_some()
        && hash.hash.is_some();
    is_bearable.then_some(hash)
}

/// The password as it is hashed: one that has the shape of those made here loses its dashes, spaces
/// and capitals, any other is taken as it is.
fn canonical(password: &SecretString) -> Zeroizing<String> {
    let text = password.expose_secret();
    let plain: Zeroizing<String> = Zeroizing::new(
        text.chars()
            .filter(|c| !matches!(c, '-' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .take(LENGTH + 1)
            .collect(),
    );
    if is_made_here(&plain) {
        plain
    } else {
        Zeroizing::new(text.to_owned())
    }
}

fn is_made_here(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|octet| SYMBOLS.contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_new_password_is_long_enough_to_type_and_never_the_same() {
        let one = new_password().unwrap();
        let other = new_password().unwrap();
        assert!(is_made_here(one.expose_secret()));
        assert_ne!(one.expose_secret(), other.expose_secret());
        let bits = f64::from(31_u8).log2() * f64::from(24_u8);
        assert!(bits >= 100.0, "{bits}");
    }

    #[test]
    fn every_symbol_is_drawn_about_as_often_as_any_other() {
        let mut drawn = std::collections::BTreeMap::new();
        for _ in 0..2_000 {
            for symbol in new_password().unwrap().expose_secret().bytes() {
                *drawn.entry(symbol).or_insert(0_u32) += 1;
            }
        }
        // 48,000 draws: 1548 each is expected, and six standard deviations are 232.
        assert_eq!(drawn.len(), SYMBOLS.len());
        for (symbol, count) in drawn {
            assert!((1_300..1_800).contains(&count), "{symbol}: {count}");
        }
    }

    #[test]
    fn a_password_made_here_is_the_same_with_dashes_with_spaces_and_in_capitals() {
        let password = secret("abcdefghjkmnpqrstuvwxyz2");
        let shown = grouped(&password);
        assert_eq!(shown.expose_secret(), "abcd-efgh-jkmn-pqrs-tuvw-xyz2");
        for typed in [
            "abcd-efgh-jkmn-pqrs-tuvw-xyz2",
            "ABCDEFGHJKMNPQRSTUVWXYZ2",
            "Abcd efgh jkmn pqrs tuvw xyz2",
        ] {
            let typed = canonical(&secret(typed));
            assert_eq!(typed.as_str(), password.expose_secret());
        }
    }

    #[test]
    fn a_chosen_password_is_taken_to_the_letter() {
        for chosen in [
            "Correct-Horse 1",
            "ABC-",
            "",
            "abcd-efgh-jkmn-pqrs-tuvw-xyz2-2",
        ] {
            assert_eq!(canonical(&secret(chosen)).as_str(), chosen);
            assert_eq!(grouped(&secret(chosen)).expose_secret(), chosen);
        }
        assert_eq!(check_chosen(&secret("Correct-Horse 1")), Ok(()));
        assert_eq!(
            check_chosen(&secret("short")),
            Err(CredentialError::Short { least: 8 })
        );
        assert_eq!(
            check_chosen(&secret(&"x".repeat(256))),
            Err(CredentialError::Long { most: 255 })
        );
        assert_eq!(
            check_chosen(&secret("tab\tinside")),
            Err(CredentialError::Control)
        );
    }

    #[test]
    fn a_hash_says_how_it_was_made_and_has_a_salt_of_its_own() {
        let one = hash(&secret("a password")).unwrap();
        let other = hash(&secret("a password")).unwrap();
        let (one, other) = (one.expose_secret(), other.expose_secret());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn nobodys_hash_is_like_any_other_and_never_the_same() {
        let (one, other) = (nobodys_hash().unwrap(), nobodys_hash().unwrap());
        assert_ne!(one.expose_secret(), other.expose_secret());
        let real = hash(&secret("a password")).unwrap();
        let shape = |hash: &SecretString| {
            let parsed = parse(hash.expose_secret()).unwrap();
            let (salt, output) = (parsed.salt.unwrap(), parsed.hash.unwrap());
            let params = Params::try_from(&parsed).unwrap();
            let cost = (params.m_cost(), params.t_cost(), params.p_cost());
            (parsed.version, cost, salt.len(), output.len())
        };
        assert_eq!(shape(&one), shape(&real));
    }

    #[test]
    fn a_hash_that_costs_too_much_or_is_none_is_not_computed() {
        let good = hash(&secret("a password")).unwrap();
        let good = good.expose_secret();
        assert!(parse(good).is_some());
        for bad in [
            "",
            "plain",
            "$argon2id$v=19$m=19456,t=2,p=1",
            &good.replace("m=19456", "m=4194304"),
            &good.replace("t=2", "t=4000000"),
            &good.replace("p=1", "p=64"),
            &good.replace("argon2id", "argon2d"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
