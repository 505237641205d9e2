//! `pr.http`: requests of scripts, to webhooks above all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mlua::{Lua, Table, Value};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use url::form_urlencoded;

use crate::Failure;
use crate::backend::Backend;
use crate::call::{Args, Fields, Registrar, Reply, Work};
use crate::fault::Fault;
use crate::json::{self, Secrets};
use crate::request::{Method, RESPONSE_OCTETS, RESPONSE_OCTETS_MAX, Request, Response, TIMEOUT};
use crate::secret::SecretRef;
use crate::time;
use postrider_lua_api::{self as api, Field};

/// How many requests of one script are under way at once; more wait for their turn, and their
/// time-outs begin then.
const AT_ONCE: usize = 32;

/// Registers `pr.http`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (getter, turn) = (Arc::clone(backend), Arc::clone(&turns));
    registrar.add_waiting("http.get", move |lua, args| {
        let request = Described::read(lua, args, Method::Get, api::HTTP_GET_FIELDS)?;
        Ok(request.perform(Arc::clone(&getter), Arc::clone(&turn)))
    })?;
    let (poster, turn) = (Arc::clone(backend), turns);
    registrar.add_waiting("http.post", move |lua, args| {
        let request = Described::read(lua, args, Method::Post, api::HTTP_POST_FIELDS)?;
        Ok(request.perform(Arc::clone(&poster), Arc::clone(&turn)))
    })
}

/// A request as the script wrote it: its secrets are still references.
struct Described {
    method: Method,
    url: Text,
    headers: Vec<(String, Text)>,
    body: Vec<u8>,
    timeout: Duration,
    max_octets: usize,
    ca_file: Option<PathBuf>,
    danger_plaintext: bool,
}

/// Text, or where it is kept.
enum Text {
    Plain(SecretString),
    Secret(SecretRef),
}

impl Described {
    fn read(
        lua: &Lua,
        mut args: Args,
        method: Method,
        known: &'static [Field],
    ) -> Result<Self, Fault> {
        let url = args.next();
        let url = text(&url).ok_or_else(|| args.wrong("url", "UTF-8 text or a pr.secret", &url))?;
        let options = args.options("options")?;
        args.end()?;
        let options = match options {
            Some(options) => options,
            None => lua.create_table()?,
        };
        let fields = Fields::new(&options, "", &api::names(known))?;
        let mut headers = headers(&fields)?;
        let (body, content_type) = body(lua, &fields)?;
        if let Some(content_type) = content_type
            && !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            let content_type = Text::Plain(content_type.into());
            headers.push(("content-type".to_owned(), content_type));
        }
        Ok(Self {
            method,
            url,
            headers,
            body,
            timeout: match fields.value("timeout")? {
                Value::Nil => TIMEOUT,
                span => time::duration(&span).map_err(Fault::Misuse)?,
            },
            max_octets: fields
                .count("max_octets", RESPONSE_OCTETS_MAX)?
                .unwrap_or(RESPONSE_OCTETS),
            ca_file: fields.text("ca_file")?.map(PathBuf::from),
            danger_plaintext: fields.flag("danger_plaintext")?,
        })
    }

    fn perform(self, backend: Arc<dyn Backend>, turns: Arc<Semaphore>) -> Work {
        async move {
            let _turn = turns.acquire_owned().await;
            let response = self.exchange(&*backend).await.map_err(Fault::failed)?;
            Ok(Reply::made(move |lua| table(lua, &response)))
        }
        .boxed()
    }

    async fn exchange(self, backend: &dyn Backend) -> Result<Response, Failure> {
        let url = resolved(backend, self.url).await?;
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in self.headers {
            headers.push((name, resolved(backend, value).await?));
        }
        let request = Request {
            method: self.method,
            url,
            headers,
            body: self.body,
            timeout: self.timeout,
            max_octets: self.max_octets,
            ca_file: self.ca_file,
            danger_plaintext: self.danger_plaintext,
        };
        backend.http(request).await
    }
}

async fn resolved(backend: &dyn Backend, text: Text) -> Result<SecretString, Failure> {
    match text {
        Text::Plain(text) => Ok(text),
        Text::Secret(reference) => backend.secret(reference.into()).await,
    }
}

fn text(value: &Value) -> Option<Text> {
    match value {
        Value::String(text) => Some(Text::Plain(text.to_str().ok()?.to_owned().into())),
        Value::UserData(data) => Some(Text::Secret(data.borrow::<SecretRef>().ok()?.clone())),
        _ => None,
    }
}

/// By name, since a Lua table has no order of its own.
fn headers(fields: &Fields<'_>) -> Result<Vec<(String, Text)>, Fault> {
    let table = match fields.value("headers")? {
        Value::Nil => return Ok(Vec::new()),
        Value::Table(table) => table,
        other => return Err(fields.wrong("headers", "a table", &other)),
    };
    let mut headers = Vec::new();
    for (name, value) in fields.named("headers", &table)? {
        let value = text(&value).ok_or_else(|| {
            fields.wrong(
                &format!("headers.{name}"),
                "UTF-8 text or a pr.secret",
                &value,
            )
        })?;
        headers.push((name, value));
    }
    Ok(headers)
}

/// The body and what it is: one of three ways to write it, or none.
fn body(lua: &Lua, fields: &Fields<'_>) -> Result<(Vec<u8>, Option<&'static str>), Fault> {
    let json = fields.value("json")?;
    let form = fields.value("form")?;
    let octets = fields.octets("body")?;
    match (json, form, octets) {
        (Value::Nil, Value::Nil, None) => Ok((Vec::new(), None)),
        (Value::Nil, Value::Nil, Some(octets)) => Ok((octets, None)),
        (json, Value::Nil, None) => {
            let value = json::from_lua(lua, &json, Secrets::Refused)?;
            Ok((value.to_string().into_bytes(), Some("application/json")))
        }
        (Value::Nil, Value::Table(form), None) => Ok((
            urlencoded(fields, &form)?,
            Some("application/x-www-form-urlencoded"),
        )),
        (Value::Nil, other, None) => Err(fields.wrong("form", "a table", &other)),
        _ => Err(Fault::misuse("give one of 'json', 'form' and 'body'")),
    }
}

fn urlencoded(fields: &Fields<'_>, form: &Table) -> Result<Vec<u8>, Fault> {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.named("form", form)? {
        let text = match &value {
            Value::String(text) => fields.utf8(&format!("form.{name}"), text)?,
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            other => {
                return Err(fields.wrong(&format!("form.{name}"), "text or a number", other));
            }
        };
        pairs.append_pair(&name, &text);
    }
    Ok(pairs.finish().into_bytes())
}

/// The response as a script gets it. A header field that stands there several times is one,
/// its values with commas between (RFC 9110 §5.3).
fn table(lua: &Lua, response: &Response) -> mlua::Result<Table> {
    let headers = lua.create_table()?;
    for (name, value) in &response.headers {
        let value = match headers.raw_get::<Option<String>>(name.as_str())? {
            Some(before) => format!("{before}, {value}"),
            None => value.clone(),
        };
        headers.raw_set(name.as_str(), value)?;
    }
    let table = lua.create_table()?;
    table.raw_set("ok", (200..300).contains(&response.status))?;
    table.raw_set("status", response.status)?;
    table.raw_set("headers", headers)?;
    table.raw_set("body", lua.create_string(&response.body)?)?;
    Ok(table)
}
