//! The sealed file: a record or a ledger under a data key, XChaCha20-Poly1305.
//!
//! ```text
//! octets   0      4        5    6     7      23  39          47     71      75
//!          magic  version  alg  sort  dek id  id  generation  nonce  length  ciphertext and tag
//! ```
//!
//! Numbers are big-endian. The store id and the whole header are authenticated, so a file opens
//! only in its own vault, as its own sort, id and generation.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

const MAGIC: [u8; 4] = *b"PRVT";
const VERSION: u8 = 1;
const XCHACHA20_POLY1305: u8 = 1;
const HEADER_OCTETS: usize = 75;
const NONCE_OCTETS: usize = 24;
const TAG_OCTETS: usize = 16;
/// What sealing adds to a text.
const SEALED_OCTETS: usize = NONCE_OCTETS + TAG_OCTETS;

/// A random id: of a store, a data key, a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Id(pub(crate) [u8; 16]);

impl Id {
    pub(crate) fn random() -> Id {
        Id(random())
    }

    pub(crate) fn hex(self) -> String {
        hex(&self.0)
    }

    pub(crate) fn from_hex(text: &str) -> Option<Id> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut id = [0; 16];
        for (octet, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *octet = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Id(id))
    }
}

pub(crate) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// Lower case only, so that an id has one spelling.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// From the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    SystemRandom::new()
        .fill(&mut octets)
        .expect("the kernel has random numbers once it has booted");
    octets
}

/// 256 bits that nobody may see.
pub(crate) type KeyOctets = Zeroizing<[u8; 32]>;

/// One of the keys that records are sealed with.
#[derive(Clone)]
pub(crate) struct DataKey {
    pub(crate) id: Id,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) key: KeyOctets,
}

/// What the outside of a sealed file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// 0 is a ledger, the rest are kinds of records.
    pub(crate) sort: u8,
    pub(crate) id: Id,
    pub(crate) generation: u64,
    pub(crate) data_key: Id,
}

/// Why a sealed file does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Truncated,
    Corrupt,
    /// Its version or algorithm is not ours.
    Unsupported,
}

/// A sealed file, taken apart and not yet opened.
pub(crate) struct Sealed<'a> {
    pub(crate) header: Header,
    octets: &'a [u8],
}

/// Seals `text` as `sort`, `id` and `generation` of `store`.
pub(crate) fn seal(
    store: Id,
    key: &DataKey,
    sort: u8,
    id: Id,
    generation: u64,
    text: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(text.len() + TAG_OCTETS).expect("a record or ledger below 4 GiB");
    let nonce: [u8; NONCE_OCTETS] = random();
    let mut octets = Vec::with_capacity(HEADER_OCTETS + text.len() + TAG_OCTETS);
    octets.extend_from_slice(&MAGIC);
    octets.extend_from_slice(&[VERSION, XCHACHA20_POLY1305, sort]);
    octets.extend_from_slice(&key.id.0);
    octets.extend_from_slice(&id.0);
    octets.extend_from_slice(&generation.to_be_bytes());
    octets.extend_from_slice(&nonce);
    octets.extend_from_slice(&length.to_be_bytes());
    let bound = bound(store, &octets);
    octets.extend_from_slice(text);
    encrypt(&key.key, &nonce, &bound, &mut octets, HEADER_OCTETS);
    octets
}

/// Takes a file apart. Nothing of what it says is authenticated yet.
pub(crate) fn parse(octets: &[u8]) -> Result<Sealed<'_>, Fault> {
    let Some((header, sealed)) = octets.split_at_checked(HEADER_OCTETS) else {
        let begun = octets.len().min(MAGIC.len());
        return Err(if octets[..begun] == MAGIC[..begun] {
            Fault::Truncated
        } else {
            Fault::Corrupt
        });
    };
    if header[..4] != MAGIC {
        return Err(Fault::Corrupt);
    }
    if header[4..6] != [VERSION, XCHACHA20_POLY1305] {
        return Err(Fault::Unsupported);
    }
    let length = u32::from_be_bytes(part(&header[71..75]));
    match sealed
        .len()
        .cmp(&usize::try_from(length).unwrap_or(usize::MAX))
    {
        std::cmp::Ordering::Less => return Err(Fault::Truncated),
        std::cmp::Ordering::Greater => return Err(Fault::Corrupt),
        std::cmp::Ordering::Equal => {}
    }
    Ok(Sealed {
        header: Header {
            sort: header[6],
            data_key: Id(part(&header[7..23])),
            id: Id(part(&header[23..39])),
            generation: u64::from_be_bytes(part(&header[39..47])),
        },
        octets,
    })
}

impl Sealed<'_> {
    /// The text, if the file is what its header says.
    pub(crate) fn open(&self, store: Id, key: &DataKey) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let (header, sealed) = self.octets.split_at(HEADER_OCTETS);
        decrypt(&key.key, &header[47..71], &bound(store, header), sealed).ok_or(Fault::Corrupt)
    }
}

/// Seals a key under another one: nonce, ciphertext and tag.
pub(crate) fn wrap(with: &KeyOctets, bound: &[u8], key: &KeyOctets) -> Vec<u8> {
    let nonce: [u8; NONCE_OCTETS] = random();
    let mut octets = Vec::with_capacity(SEALED_OCTETS + key.len());
    octets.extend_from_slice(&nonce);
    octets.extend_from_slice(key.as_slice());
    encrypt(with, &nonce, bound, &mut octets, NONCE_OCTETS);
    octets
}

/// The reverse of [`wrap`].
pub(crate) fn unwrap(with: &KeyOctets, bound: &[u8], wrapped: &[u8]) -> Option<KeyOctets> {
    let (nonce, sealed) = wrapped.split_at_checked(NONCE_OCTETS)?;
    let text = decrypt(with, nonce, bound, sealed)?;
    Some(Zeroizing::new(text.as_slice().try_into().ok()?))
}

fn bound(store: Id, header: &[u8]) -> Vec<u8> {
    let mut bound = Vec::with_capacity(16 + HEADER_OCTETS);
    bound.extend_from_slice(&store.0);
    bound.extend_from_slice(header);
    bound
}

/// Encrypts what stands from `from` on, in place, and adds the tag.
fn encrypt(
    key: &KeyOctets,
    nonce: &[u8; NONCE_OCTETS],
    bound: &[u8],
    octets: &mut Vec<u8>,
    from: usize,
) {
    let tag = cipher(key)
        .encrypt_inout_detached(&XNonce::from(*nonce), bound, (&mut octets[from..]).into())
        .expect("a text below 256 GiB");
    octets.extend_from_slice(&tag);
}

fn decrypt(
    key: &KeyOctets,
    nonce: &[u8],
    bound: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_OCTETS)?)?;
    let mut text = Zeroizing::new(ciphertext.to_vec());
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::try_from(nonce).ok()?,
            bound,
            text.as_mut_slice().into(),
            &Tag::try_from(tag).ok()?,
        )
        .ok()?;
    Some(text)
}

fn cipher(key: &KeyOctets) -> XChaCha20Poly1305 {
    // Borrowed: a copy of the key would stay behind on the stack.
    let key: &Key = (&**key).into();
    XChaCha20Poly1305::new(key)
}

fn part<const N: usize>(octets: &[u8]) -> [u8; N] {
    octets.try_into().expect("cut to this length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> DataKey {
        DataKey {
            id: Id([7; 16]),
            created: 0,
            key: Zeroizing::new([9; 32]),
        }
    }

    const STORE: Id = Id([1; 16]);
    const NAME: Id = Id([2; 16]);

    #[test]
    fn a_sealed_file_opens_only_in_its_own_vault() {
        let octets = seal(STORE, &key(), 1, NAME, 3, b"text");
        let sealed = parse(&octets).unwrap();
        assert_eq!(sealed.header.generation, 3);
        assert_eq!(&**sealed.open(STORE, &key()).unwrap(), b"text");
        assert_eq!(sealed.open(Id([3; 16]), &key()), Err(Fault::Corrupt));
    }

    #[test]
    fn a_file_cut_short_is_told_from_a_changed_one() {
        let octets = seal(STORE, &key(), 1, NAME, 3, b"text");
        for end in 0..octets.len() {
            assert_eq!(
                parse(&octets[..end]).map(|_| ()),
                Err(Fault::Truncated),
                "{end}"
            );
        }
        assert_eq!(parse(b"what").map(|_| ()), Err(Fault::Corrupt));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = Id::random();
        assert_eq!(Id::from_hex(&id.hex()), Some(id));
        assert_eq!(Id::from_hex(&"A".repeat(32)), None);
        assert_eq!(Id::from_hex("00"), None);
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(text: Vec<u8>, at: prop::sample::Index, bit in 0..8_u32) {
            let mut octets = seal(STORE, &key(), 2, NAME, 1, &text);
            let at = at.index(octets.len());
            octets[at] ^= 1 << bit;
            let opened = parse(&octets).and_then(|sealed| sealed.open(STORE, &key()));
            prop_assert!(opened.is_err(), "octet {at}, bit {bit}");
        }

        #[test]
        fn any_octets_are_an_error_and_not_a_panic(octets: Vec<u8>) {
            let opened = parse(&octets).and_then(|sealed| sealed.open(STORE, &key()));
            prop_assert!(opened.is_err());
        }
    }
}
