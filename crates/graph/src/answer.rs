//! Answers: their bodies as types, and refusals as errors.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::client::Call;
use crate::error::{GraphError, GraphErrorKind, MESSAGE_CHARS, one_line};
use crate::transport::{RESPONSE_OCTETS, Response};

/// The most of a code or an id that is kept, in characters.
const CODE_CHARS: usize = 100;
/// How deep `innerError` is followed.
const DEPTH: usize = 8;

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    pub(crate) next: Option<String>,
}

/// The body of a success. It is wiped, since it may hold a new secret.
pub(crate) fn parse<T: DeserializeOwned>(
    call: Call,
    mut response: Response,
) -> Result<T, GraphError> {
    let parsed = if response.body.len() > RESPONSE_OCTETS {
        Err("an answer too large to be one".to_owned())
    } else {
        // Not the parser's own words: they may quote what was in the body.
        serde_json::from_slice(&response.body).map_err(|error| {
            format!(
                "not the answer that belongs to this request (line {}, column {})",
                error.line(),
                error.column()
            )
        })
    };
    response.body.zeroize();
    parsed.map_err(|message| GraphError {
        status: Some(response.status),
        request_id: response.request_id.as_deref().and_then(request_id),
        ..call.malformed(&message)
    })
}

/// A refusal as an error. `token` is kept out of it, should the server send it back.
pub(crate) fn refusal(call: Call, response: &Response, token: &str) -> GraphError {
    let said = Said::of(response, token);
    let kind = kind(call, response.status, &said);
    let message = if said.message.is_empty() {
        format!("refused with HTTP status {}", response.status)
    } else {
        said.message
    };
    GraphError {
        status: Some(response.status),
        code: said.code,
        detail: said.detail,
        request_id: response
            .request_id
            .as_deref()
            .and_then(request_id)
            .or(said.request_id),
        retry_after: response.retry_after,
        may_have_happened: call.creates
            && kind == GraphErrorKind::Unavailable
            && response.retry_after.is_none(),
        ..GraphError::ours(kind, call.doing, message)
    }
}

fn kind(call: Call, status: u16, said: &Said) -> GraphErrorKind {
    match status {
        // Two changes of one object at the same time, as when a secret is removed just after
        // another was made: Graph says to wait briefly. No conflict of the caller's.
        400..=499 if said.code.as_deref() == Some("Directory_ConcurrencyViolation") => {
            GraphErrorKind::Throttled
        }
        401 => GraphErrorKind::Unauthenticated,
        403 => GraphErrorKind::Denied { needs: call.needs },
        404 | 410 => GraphErrorKind::NotFound,
        409 | 412 => GraphErrorKind::Conflict,
        // An application permission or an owner that is there already is a 400 whose codes say
        // nothing: "Permission being assigned already exists on the object", "One or more added
        // object references already exist".
        400 if call.creates && said.message.contains("already exist") => GraphErrorKind::Conflict,
        429 => GraphErrorKind::Throttled,
        500..=599 => GraphErrorKind::Unavailable,
        400..=499 => GraphErrorKind::Rejected,
        _ => GraphErrorKind::Malformed,
    }
}

/// What the body of a refusal says.
#[derive(Default)]
struct Said {
    code: Option<String>,
    detail: Option<String>,
    message: String,
    request_id: Option<String>,
}

impl Said {
    fn of(response: &Response, token: &str) -> Self {
        let body = &response.body[..response.body.len().min(RESPONSE_OCTETS)];
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Self::default();
        };
        let error = &body["error"];
        let text = |value: &Value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(|text| text.replace(token, "…"))
        };
        let mut detail = None;
        let mut id = None;
        let mut inner = inner(error);
        for _ in 0..DEPTH {
            detail = text(&inner["code"]).or(detail);
            id = inner["request-id"].as_str().and_then(request_id).or(id);
            inner = self::inner(inner);
        }
        let detail = detail.or_else(|| text(&error["details"][0]["code"]));
        Self {
            code: text(&error["code"]).map(|text| code(&text)),
            detail: detail.map(|text| code(&text)),
            message: text(&error["message"])
                .map(|text| one_line(&text, MESSAGE_CHARS))
                .unwrap_or_default(),
            request_id: id,
        }
    }
}

/// Both spellings are in use.
fn inner(error: &Value) -> &Value {
    match &error["innerError"] {
        Value::Null => &error["innererror"],
        inner => inner,
    }
}

/// A GUID, or nothing that is told.
fn request_id(text: &str) -> Option<String> {
    let id = text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (id && !text.is_empty()).then(|| text.to_owned())
}

fn code(text: &str) -> String {
    one_line(text, CODE_CHARS)
}
