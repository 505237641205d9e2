//! What a queued message is called.

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: no letter that is taken for a digit.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Digits at least, so that names of one queue are of one length for a long time.
const LEAST: usize = 5;

/// A queued message's name, for ever: `Q00F3K`. Those accepted later are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(i64);

impl QueueId {
    /// The one that a store numbers so.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Its number in the store.
    pub const fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut left = self.0.unsigned_abs();
        while left > 0 || digits.len() < LEAST {
            // Five bits: always a digit.
            digits.push(char::from(DIGITS[usize::try_from(left & 31).unwrap_or(0)]));
            left >>= 5;
        }
        let digits: String = digits.into_iter().rev().collect();
        f.pad(&format!("Q{digits}"))
    }
}

/// A text that is no [`QueueId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the name of a queued message, which looks like Q00F3K")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for QueueId {
    type Err = NotAnId;

    /// In capitals or not; `O` is taken for `0`, `I` and `L` for `1`.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix(['Q', 'q']).ok_or(NotAnId)?;
        if digits.is_empty() {
            return Err(NotAnId);
        }
        let mut number: i64 = 0;
        for digit in digits.bytes() {
            let digit = match digit.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = DIGITS.iter().position(|known| *known == digit);
            let value = value.and_then(|value| i64::try_from(value).ok());
            number = number
                .checked_mul(32)
                .zip(value)
                .and_then(|(number, value)| number.checked_add(value))
                .ok_or(NotAnId)?;
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_reads_back(number in 0..i64::MAX) {
            let id = QueueId::new(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }

        #[test]
        fn no_text_is_a_panic(text in ".*") {
            let _: Result<QueueId, _> = text.parse();
        }
    }

    #[test]
    fn names_are_short_and_say_what_they_are() {
        assert_eq!(QueueId::new(1).to_string(), "Q00001");
        assert_eq!(QueueId::new(1 << 25).to_string(), "Q100000");
        assert_eq!("qOOO1l".parse(), Ok(QueueId::new(33)));
        for wrong in ["", "Q", "7F3K2", "Q-1", "QU", "QZZZZZZZZZZZZZZ"] {
            assert_eq!(wrong.parse::<QueueId>(), Err(NotAnId), "{wrong}");
        }
    }
}
