//! Why a client and the gateway did not agree on encryption, in words that help whoever set the
//! device up: the device shows none.

use std::io;

use rustls::{AlertDescription, Error, InvalidMessage};

/// What is to be told of a connection that was lost; `None` where it only ended.
/// `at_once`: TLS begins here with the first octet.
pub(crate) fn explain(error: &io::Error, at_once: bool) -> Option<String> {
    if error.kind() == io::ErrorKind::TimedOut {
        let text = if at_once {
            "it waits for a greeting, and TLS begins here at once: SSL/TLS has to be chosen in its settings"
        } else {
            "it began with TLS and did not go on"
        };
        return Some(text.to_owned());
    }
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS where that has to begin".to_owned()
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("it knows no TLS that is spoken here, 1.2 and 1.3: {error}")
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => format!("it does not trust this gateway's certificate: {error}"),
        other => format!("TLS failed: {other}"),
    })
}

/// The same of a client that begins with TLS where that has to be asked for.
pub(crate) const UNASKED: &str = "it begins with TLS at once, and here that is asked for: \
    STARTTLS has to be chosen in its settings, or tls = \"implicit\" for it here";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_and_a_connection_that_only_ends_is_not() {
        let silent = io::Error::from(io::ErrorKind::TimedOut);
        let told = explain(&silent, true).unwrap();
        assert!(told.contains("waits for a greeting"), "{told}");
        let told = explain(&silent, false).unwrap();
        assert!(told.contains("did not go on"), "{told}");
        for ended in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            assert_eq!(explain(&ended.into(), true), None);
        }
        let stopped = io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops");
        assert_eq!(explain(&stopped, true), None);
    }
}
