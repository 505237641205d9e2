//! What Exchange Online will say to a password, said by us before it does.
//!
//! For whom and when is [`Rehearse`](crate::Rehearse), in the settings; who would break is for the
//! [report](crate::report).

use crate::Refusal;

/// To AUTH, as Exchange answers a password once it takes none any more.
pub fn refusal() -> Refusal {
    Refusal::new(
        550,
        "5.7.30",
        "Basic authentication is not supported for Client Submission.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_exchange_says() {
        assert_eq!(
            refusal().to_string(),
            "550 5.7.30 Basic authentication is not supported for Client Submission."
        );
    }
}
