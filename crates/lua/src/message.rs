//! From the table a script gives `account:send` to a [`SendRequest`].
//!
//! Shapes are checked here, so that a wrong one is said at the caller's line; what addresses
//! and headers may contain is the message builder's business.

use std::path::PathBuf;

use jiff::Timestamp;
use mlua::{Lua, Table, Value};

use crate::backend::{Attachment, Priority, Queueing, SendRequest, Source};
use crate::call::Fields;
use crate::fault::Fault;
use crate::time;
use postrider_lua_api as api;

/// Reads the table; its fields are those of the descriptor.
pub(crate) fn parse(table: &Table) -> Result<SendRequest, Fault> {
    let fields = Fields::new(table, "", &api::names(api::SEND_FIELDS))?;
    let request = SendRequest {
        from: fields.text("from")?,
        sender: fields.text("sender")?,
        reply_to: fields.texts("reply_to")?,
        to: fields.texts("to")?,
        cc: fields.texts("cc")?,
        bcc: fields.texts("bcc")?,
        subject: fields.text("subject")?,
        text: fields.text("text")?,
        html: fields.text("html")?,
        attach: attachments(&fields)?,
        headers: headers(&fields)?,
        in_reply_to: fields.text("in_reply_to")?,
        references: fields.texts("references")?,
        priority: priority(&fields)?,
        message_id: fields.text("message_id")?,
        raw: source(&fields, "raw", "raw_file")?,
        queue: queueing(&fields)?,
        script: None,
        from_hook: false,
        chain: 0,
        changed_by: None,
    };
    if request.raw.is_some() {
        for content in CONTENT {
            if !fields.value(content)?.is_nil() {
                return Err(Fault::Misuse(format!(
                    "field '{content}' cannot go with a finished message in 'raw' or 'raw_file'"
                )));
            }
        }
    }
    Ok(request)
}

/// The table that gives this message.
pub(crate) fn to_lua(lua: &Lua, message: &SendRequest) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let texts = [
        ("from", &message.from),
        ("sender", &message.sender),
        ("subject", &message.subject),
        ("text", &message.text),
        ("html", &message.html),
        ("in_reply_to", &message.in_reply_to),
        ("message_id", &message.message_id),
    ];
    for (key, text) in texts {
        table.raw_set(key, text.as_deref())?;
    }
    let lists = [
        ("reply_to", &message.reply_to),
        ("to", &message.to),
        ("cc", &message.cc),
        ("bcc", &message.bcc),
        ("references", &message.references),
    ];
    for (key, list) in lists {
        if !list.is_empty() {
            table.raw_set(key, list.as_slice())?;
        }
    }
    if !message.attach.is_empty() {
        let parts = lua.create_table()?;
        for part in &message.attach {
            let fields = lua.create_table()?;
            put(lua, &fields, &part.source, "data", "path")?;
            fields.raw_set("name", part.name.as_deref())?;
            fields.raw_set("type", part.mime_type.as_deref())?;
            fields.raw_set("inline", part.inline.as_deref())?;
            parts.raw_push(fields)?;
        }
        table.raw_set("attach", parts)?;
    }
    if !message.headers.is_empty() {
        let headers = lua.create_table()?;
        for (name, value) in &message.headers {
            let values = match headers.raw_get::<Option<Table>>(name.as_str())? {
                Some(values) => values,
                None => lua.create_table()?,
            };
            values.raw_push(value.as_str())?;
            headers.raw_set(name.as_str(), values)?;
        }
        table.raw_set("headers", headers)?;
    }
    let priority = message.priority.map(|priority| match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    });
    table.raw_set("priority", priority)?;
    if let Some(raw) = &message.raw {
        put(lua, &table, raw, "raw", "raw_file")?;
    }
    if let Some(queue) = &message.queue {
        table.raw_set("wait", "queued")?;
        table.raw_set("idempotency_key", queue.idempotency_key.as_deref())?;
        table.raw_set("send_at", queue.send_at.map(time::seconds))?;
        table.raw_set("expires_at", queue.expires_at.map(time::seconds))?;
    }
    Ok(table)
}

fn put(lua: &Lua, table: &Table, from: &Source, octets: &str, path: &str) -> mlua::Result<()> {
    match from {
        Source::Octets(data) => table.raw_set(octets, lua.create_string(data)?),
        Source::Path(file) => table.raw_set(path, file.display().to_string()),
    }
}

/// What a finished message already holds.
const CONTENT: &[&str] = &[
    "sender",
    "reply_to",
    "subject",
    "text",
    "html",
    "attach",
    "headers",
    "in_reply_to",
    "references",
    "message_id",
];

/// Octets, or the path of a file with them; not both.
fn source(fields: &Fields<'_>, octets: &str, path: &str) -> Result<Option<Source>, Fault> {
    match (fields.octets(octets)?, fields.text(path)?) {
        (Some(_), Some(_)) => Err(Fault::Misuse(format!(
            "give '{octets}' or '{path}', not both"
        ))),
        (Some(octets), None) => Ok(Some(Source::Octets(octets))),
        (None, Some(path)) => Ok(Some(Source::Path(PathBuf::from(path)))),
        (None, None) => Ok(None),
    }
}

fn attachments(fields: &Fields<'_>) -> Result<Vec<Attachment>, Fault> {
    match fields.value("attach")? {
        Value::Nil => Ok(Vec::new()),
        path @ Value::String(_) => Ok(vec![attachment(fields, "attach", path)?]),
        Value::Table(list) => {
            fields.list("attach", &list, |at, value| attachment(fields, at, value))
        }
        other => Err(fields.wrong("attach", "a path or a list", &other)),
    }
}

fn attachment(fields: &Fields<'_>, at: &str, value: Value) -> Result<Attachment, Fault> {
    let table = match value {
        Value::String(path) => {
            return Ok(Attachment {
                source: Source::Path(PathBuf::from(fields.utf8(at, &path)?)),
                name: None,
                mime_type: None,
                inline: None,
            });
        }
        Value::Table(table) => table,
        other => return Err(fields.wrong(at, "a path or a table", &other)),
    };
    let part = Fields::new(&table, format!("{at}."), &api::names(api::ATTACH_FIELDS))?;
    let source = source(&part, "data", "path")?
        .ok_or_else(|| Fault::Misuse(format!("field '{at}' needs a 'path' or 'data'")))?;
    Ok(Attachment {
        source,
        name: part.text("name")?,
        mime_type: part.text("type")?,
        inline: part.text("inline")?,
    })
}

/// By name, since a Lua table has no order of its own.
fn headers(fields: &Fields<'_>) -> Result<Vec<(String, String)>, Fault> {
    let table = match fields.value("headers")? {
        Value::Nil => return Ok(Vec::new()),
        Value::Table(table) => table,
        other => return Err(fields.wrong("headers", "a table", &other)),
    };
    let values = Fields::unchecked(&table, "headers.");
    let mut headers = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (name, _) = pair?;
        let Value::String(name) = name else {
            return Err(Fault::misuse(
                "field 'headers' maps names to values: {[\"X-Job\"] = \"backup\"}",
            ));
        };
        let name = values.utf8("(name)", &name)?;
        for value in values.texts(&name)? {
            headers.push((name.clone(), value));
        }
    }
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(headers)
}

/// The place in the queue of a message that is to wait there.
fn queueing(fields: &Fields<'_>) -> Result<Option<Queueing>, Fault> {
    let queueing = Queueing {
        idempotency_key: fields.text("idempotency_key")?,
        send_at: moment(fields, "send_at")?,
        expires_at: moment(fields, "expires_at")?,
    };
    match fields.text("wait")?.as_deref() {
        Some("queued") => Ok(Some(queueing)),
        None | Some("accepted") => {
            for only_queued in ["idempotency_key", "send_at", "expires_at"] {
                if !fields.value(only_queued)?.is_nil() {
                    return Err(Fault::Misuse(format!(
                        "field '{only_queued}' is for messages that are queued: add wait = \"queued\""
                    )));
                }
            }
            Ok(None)
        }
        Some(other) => Err(Fault::Misuse(format!(
            "field 'wait' is \"accepted\" or \"queued\", not \"{other:.40}\""
        ))),
    }
}

fn moment(fields: &Fields<'_>, name: &str) -> Result<Option<Timestamp>, Fault> {
    match fields.value(name)? {
        Value::Nil => Ok(None),
        value => time::point(&value).map(Some),
    }
}

fn priority(fields: &Fields<'_>) -> Result<Option<Priority>, Fault> {
    match fields.text("priority")?.as_deref() {
        None => Ok(None),
        Some("high") => Ok(Some(Priority::High)),
        Some("normal") => Ok(Some(Priority::Normal)),
        Some("low") => Ok(Some(Priority::Low)),
        Some(other) => Err(Fault::Misuse(format!(
            "field 'priority' is \"high\", \"normal\" or \"low\", not \"{other:.40}\""
        ))),
    }
}
