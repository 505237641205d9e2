//! The line that says where a message came in (RFC 5321 §4.4).

use std::net::IpAddr;

use jiff::Zoned;
use postrider_smtp::message::{Field, Header};

use crate::backend::{Arrival, Refusal};

/// More of them is a message that goes in circles (RFC 5321 §6.3 asks for 100 at least).
const MAX_RECEIVED: usize = 100;

/// What a trace line says besides who came.
pub(crate) struct Trace<'a> {
    /// The gateway's name.
    pub(crate) host: &'a str,
    /// `EHLO` was said.
    pub(crate) extended: bool,
    /// `SMTPUTF8` was.
    pub(crate) utf8: bool,
    /// Without the client's name and address.
    pub(crate) hide_client: bool,
    /// What nobody else's line has.
    pub(crate) id: &'a str,
    /// The time, in the machine's zone.
    pub(crate) now: &'a Zoned,
}

/// Adds the line.
///
/// # Errors
/// The message has come by too often.
pub(crate) fn add(
    header: &mut Header,
    arrival: &Arrival,
    trace: &Trace<'_>,
) -> Result<(), Refusal> {
    if header.count("Received") >= MAX_RECEIVED {
        let text = "the message goes in circles: it has too many Received fields";
        return Err(Refusal::new(554, "5.4.6", text));
    }
    let from = if trace.hide_client {
        // The grammar wants a name; this one is nobody's (RFC 6761 §6.4).
        "client.invalid".to_owned()
    } else {
        let address = literal(arrival.client);
        match named(&arrival.helo) {
            Some(name) => format!("{name} ({address})"),
            None => format!("{address} ({address})"),
        }
    };
    let Trace { host, id, now, .. } = trace;
    let with = protocol(arrival, trace);
    let date = date(now);
    let line = format!("from {from}\r\n\tby {host} with {with} id {id};\r\n\t{date}");
    header.put_first(Field::new("Received", &line));
    Ok(())
}

/// RFC 5322 §3.3.
pub(crate) fn date(now: &Zoned) -> String {
    now.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// RFC 3848, and RFC 6531 §4.3 where the message needs it.
fn protocol(arrival: &Arrival, trace: &Trace<'_>) -> String {
    if !trace.extended {
        return "SMTP".to_owned();
    }
    let base = if trace.utf8 { "UTF8SMTP" } else { "ESMTP" };
    let secured = if arrival.tls.is_some() { "S" } else { "" };
    let authenticated = if arrival.device.is_some() { "A" } else { "" };
    format!("{base}{secured}{authenticated}")
}

/// RFC 5321 §4.1.3.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// A client's own name for itself, where it looks like one.
fn named(helo: &str) -> Option<&str> {
    let is_name = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    let inner = helo
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_literal = |octet: u8| is_name(octet) || octet == b':';
    let looks = match inner {
        Some(inner) => !inner.is_empty() && inner.bytes().all(is_literal),
        None => !helo.is_empty() && helo.bytes().all(is_name),
    };
    (looks && helo.len() <= 255).then_some(helo)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn arrival(helo: &str, tls: Option<&'static str>) -> Arrival {
        Arrival {
            gateway: "office".into(),
            device: Some("printer-2".to_owned()),
            client: [192, 0, 2, 9].into(),
            helo: helo.to_owned(),
            mechanism: "PLAIN",
            tls,
            sender: None,
            recipients: Vec::new(),
        }
    }

    fn line(arrival: &Arrival, extended: bool, utf8: bool, hide_client: bool) -> String {
        let now = Timestamp::from_second(1_795_400_000).unwrap();
        let trace = Trace {
            host: "gw.contoso.com",
            extended,
            utf8,
            hide_client,
            id: "0a1b",
            now: &now.to_zoned(TimeZone::UTC),
        };
        let mut header = Header::default();
        add(&mut header, arrival, &trace).unwrap();
        let mut out = Vec::new();
        header.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_line_names_client_gateway_protocol_and_time() {
        assert_eq!(
            line(&arrival("mfp.lan", Some("TLSv1.3")), true, false, false),
            "Received: from mfp.lan ([192.0.2.9])\r\n\
             \tby gw.contoso.com with ESMTPSA id 0a1b;\r\n\
             \tMon, 23 Nov 2026 02:13:20 +0000\r\n"
        );
        for (tls, extended, utf8, with) in [
            (None, true, false, " with ESMTPA id"),
            (None, false, false, " with SMTP id"),
            (Some("TLSv1.2"), true, true, " with UTF8SMTPSA id"),
        ] {
            let line = line(&arrival("x", tls), extended, utf8, false);
            assert!(line.contains(with), "{line}");
        }
    }

    #[test]
    fn a_hidden_client_leaves_no_trace_and_a_strange_name_is_not_repeated() {
        let hidden = line(&arrival("mfp.lan", None), true, false, true);
        assert!(
            hidden.starts_with("Received: from client.invalid\r\n"),
            "{hidden}"
        );
        assert!(!hidden.contains("192.0.2.9") && !hidden.contains("mfp"));
        for strange in [
            "a)b",
            "x\r\nBcc: y",
            "ä",
            "a;b",
            "[",
            "[]",
            &"x".repeat(300),
        ] {
            let line = line(&arrival(strange, None), true, false, false);
            assert!(
                line.starts_with("Received: from [192.0.2.9] ([192.0.2.9])"),
                "{line}"
            );
        }
        for plain in ["MFP_2", "[192.0.2.9]", "[IPv6:2001:db8::1]"] {
            let line = line(&arrival(plain, None), true, false, false);
            assert!(line.contains(&format!("from {plain} (")), "{line}");
        }
    }

    #[test]
    fn what_goes_in_circles_is_stopped() {
        let now = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        let trace = Trace {
            host: "gw",
            extended: true,
            utf8: false,
            hide_client: false,
            id: "1",
            now: &now,
        };
        let mut header = Header::default();
        for _ in 0..MAX_RECEIVED {
            add(&mut header, &arrival("x", None), &trace).unwrap();
        }
        let refusal = add(&mut header, &arrival("x", None), &trace).unwrap_err();
        assert_eq!((refusal.code, refusal.enhanced), (554, "5.4.6"));
    }
}
