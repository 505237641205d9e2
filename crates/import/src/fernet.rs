//! Fernet tokens under a password, as Email OAuth 2.0 Proxy makes them: the key is PBKDF2 with
//! HMAC-SHA-256 over the password, its first half signs, its second half encrypts.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use ring::{hmac, pbkdf2};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

/// The format's version.
const VERSION: u8 = 0x80;
/// Version, time and initial vector stand before the ciphertext, the signature behind it.
const HEAD_OCTETS: usize = 1 + 8 + 16;
const MAC_OCTETS: usize = 32;

const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key that a password makes.
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// With `iterations` rounds; none where that is nought.
    pub(crate) fn derive(password: &SecretString, salt: &[u8], iterations: u32) -> Option<Self> {
        let iterations = NonZeroU32::new(iterations)?;
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            password.expose_secret().as_bytes(),
            &mut *key,
        );
        Some(Self(key))
    }

    /// What `token` holds; none where it was not made with this key.
    pub(crate) fn open(&self, token: &str) -> Option<SecretString> {
        let octets = URL_SAFE.decode(token.trim()).ok()?;
        let (signed, mac) = octets.split_at_checked(octets.len().checked_sub(MAC_OCTETS)?)?;
        let (sign, encrypt) = self.0.split_at(16);
        let key = hmac::Key::new(hmac::HMAC_SHA256, sign);
        hmac::verify(&key, signed, mac).ok()?;
        let (head, text) = signed.split_at_checked(HEAD_OCTETS)?;
        if head.first() != Some(&VERSION) {
            return None;
        }
        let cipher =
            cbc::Decryptor::<aes::Aes128>::new_from_slices(encrypt, head.get(9..)?).ok()?;
        let mut room = Zeroizing::new(text.to_vec());
        let length = cipher.decrypt_padded::<Pkcs7>(&mut room).ok()?.len();
        room[length..].zeroize();
        room.truncate(length);
        let text = std::str::from_utf8(&room).ok()?;
        Some(SecretString::from(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification's own vector: github.com/fernet/spec, verify.json.
    const SPEC_KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const SPEC_TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    fn spec_key() -> Key {
        let octets = URL_SAFE.decode(SPEC_KEY).unwrap();
        Key(Zeroizing::new(octets.try_into().unwrap()))
    }

    #[test]
    fn the_specifications_vector_opens() {
        let opened = spec_key().open(SPEC_TOKEN).unwrap();
        assert_eq!(opened.expose_secret(), "hello");
    }

    #[test]
    fn no_octet_of_a_token_may_change() {
        let octets = URL_SAFE.decode(SPEC_TOKEN).unwrap();
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            assert!(
                spec_key().open(&URL_SAFE.encode(&changed)).is_none(),
                "{at}"
            );
            assert!(spec_key().open(&URL_SAFE.encode(&octets[..at])).is_none());
        }
    }

    #[test]
    fn no_rounds_make_no_key() {
        let password = SecretString::from("x");
        assert!(Key::derive(&password, b"salt", 0).is_none());
    }

    proptest! {
        #[test]
        fn garbage_opens_to_nothing(token in ".{0,300}") {
            prop_assert!(spec_key().open(&token).is_none());
        }
    }
}
