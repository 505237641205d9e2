//! Why a client and the gateway did not agree on encryption, in words that help whoever set the
//! device up: the device shows none.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, Error, InvalidMessage};
use tokio::time::{Instant, timeout};

/// Who leaves sooner than that without a word has not waited for a greeting: port scans, balancers.
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits for a client's first octet where TLS begins with it.
///
/// # Errors
/// None came; what is to be told of that, if it waited for one of ours.
pub(crate) async fn first_octet(
    peek: impl Future<Output = io::Result<usize>>,
    at_most: Duration,
) -> Result<(), Option<&'static str>> {
    let came = Instant::now();
    match timeout(at_most, peek).await {
        Ok(Ok(1..)) => Ok(()),
        Ok(_) if came.elapsed() < PATIENCE => Err(None),
        _ => Err(Some(SILENT)),
    }
}

/// What is to be told of a connection that was lost; `None` where it only ended.
pub(crate) fn explain(error: &io::Error) -> Option<String> {
    if error.kind() == io::ErrorKind::TimedOut {
        return Some("it began with TLS and did not go on".to_owned());
    }
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => NO_TLS.to_owned(),
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            format!("{TOO_OLD}, 1.2 and 1.3: {error}")
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => format!("{UNTRUSTED}: {error}"),
        other => format!("TLS failed: {other}"),
    })
}

/// The same of a client that begins with TLS where that has to be asked for.
pub(crate) const UNASKED: &str = "it begins with TLS at once, and here that is asked for: \
    STARTTLS has to be chosen in its settings, or tls = \"implicit\" for it here";

/// The same where nothing is encrypted.
pub(crate) const NONE_HERE: &str =
    "it begins with TLS, and there is none here: no encryption has to be chosen in its settings";

pub(crate) const SILENT: &str = "it waits for a greeting, and TLS begins here at once: SSL/TLS has \
    to be chosen in its settings";
pub(crate) const NO_TLS: &str = "it does not speak TLS where that has to begin";
/// What follows says more.
pub(crate) const TOO_OLD: &str = "it knows no TLS that is spoken here";
/// What follows says more.
pub(crate) const UNTRUSTED: &str = "it does not trust this gateway's certificate";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_greeting_is_told_of_and_who_only_knocks_is_not() {
        let after = |seconds, octets: usize| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(octets)
        };
        let at_most = Duration::from_secs(30);
        assert_eq!(first_octet(after(2, 0), at_most).await, Err(None));
        for (seconds, octets) in [(4, 0), (31, 0), (31, 1)] {
            let told = first_octet(after(seconds, octets), at_most).await;
            assert_eq!(told, Err(Some(SILENT)), "{seconds} s, {octets}");
        }
        assert_eq!(first_octet(after(20, 1), at_most).await, Ok(()));
        let reset = async { Err(io::ErrorKind::ConnectionReset.into()) };
        assert_eq!(first_octet(reset, at_most).await, Err(None));
    }

    #[test]
    fn silence_is_told_and_a_connection_that_only_ends_is_not() {
        let silent = io::Error::from(io::ErrorKind::TimedOut);
        let told = explain(&silent).unwrap();
        assert!(told.contains("did not go on"), "{told}");
        for ended in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            assert_eq!(explain(&ended.into()), None);
        }
        let stopped = io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops");
        assert_eq!(explain(&stopped), None);
    }
}
