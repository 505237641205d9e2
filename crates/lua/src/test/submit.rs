//! `t.gateway:submit`: a device's message, as a case describes it.

use std::net::{IpAddr, Ipv4Addr};

use mlua::{Table, Value};

use crate::backend::SendRequest;
use crate::call::Fields;
use crate::fault::Fault;
use crate::message;

/// A device's message on its way through a gateway.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The gateway's name; the only one where absent.
    pub gateway: Option<String>,
    /// The name that the device signs in with.
    pub device: String,
    /// Where it connects from.
    pub client: IpAddr,
    /// The version of TLS; none in clear.
    pub tls: Option<String>,
    /// How it signs in.
    pub mechanism: &'static str,
    /// The message: its envelope in `from` (the account's sender where absent) and `to`, its
    /// content finished or to be built.
    pub message: SendRequest,
}

/// What is said of the device; the rest is the message.
const OWN: [&str; 7] = [
    "gateway",
    "device",
    "client",
    "tls",
    "mechanism",
    "sender",
    "recipients",
];
/// What the message may say of itself.
const CONTENT: [&str; 9] = [
    "subject",
    "text",
    "html",
    "attach",
    "headers",
    "reply_to",
    "message_id",
    "raw",
    "raw_file",
];

pub(super) fn read(table: &Table) -> Result<Submitted, Fault> {
    let known = [&OWN[..], &CONTENT[..]].concat();
    let fields = Fields::new(table, "", &known)?;
    let Some(device) = fields.text("device")? else {
        return Err(Fault::misuse(
            "field 'device' is missing: the name it signs in with",
        ));
    };
    let client = match fields.text("client")? {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(text) => text.parse().map_err(|_| {
            Fault::Misuse(format!(
                "field 'client': '{text:.60}' is no address: write \"192.168.1.20\""
            ))
        })?,
    };
    let tls = match fields.value("tls")? {
        Value::Nil => Some("TLSv1.3".to_owned()),
        Value::Boolean(false) => None,
        Value::String(version) => Some(fields.utf8("tls", &version)?),
        other => return Err(fields.wrong("tls", "\"TLSv1.2\", or false", &other)),
    };
    let mechanism = match fields.text("mechanism")?.as_deref() {
        None | Some("PLAIN") => "PLAIN",
        Some("LOGIN") => "LOGIN",
        Some(other) => {
            return Err(Fault::Misuse(format!(
                "field 'mechanism' is \"PLAIN\" or \"LOGIN\", not \"{other:.40}\""
            )));
        }
    };
    let to = fields.texts("recipients")?;
    if to.is_empty() {
        return Err(Fault::misuse("field 'recipients' is missing"));
    }
    let (gateway, from) = (fields.text("gateway")?, fields.text("sender")?);
    for own in OWN {
        table.raw_set(own, Value::Nil)?;
    }
    let message = SendRequest {
        from,
        to,
        ..message::parse(table)?
    };
    Ok(Submitted {
        gateway,
        device,
        client,
        tls,
        mechanism,
        message,
    })
}
