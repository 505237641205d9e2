//! The inbox over HTTP: pages for people, JSON for programs.
//!
//! Everything a message says is escaped; its HTML is shown in a frame that may run no
//! script, load nothing from anywhere and has no origin. Attachments are only ever
//! offered for download. The pages themselves need no script.

use std::fmt;
use std::fmt::Write as _;

use axum::extract::{Path, Query, State as Shared};
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use postrider_smtp::server::{BodyType, RcptCommand, Ret};
use serde::Deserialize;
use serde_json::{Value, json};

use super::view::View;
use super::{Inbox, StoredMessage};
use crate::html::Escaped;
use crate::state::{Area, LogEntry, Outcome, State};

/// How times are shown.
const TIME: &str = "%Y-%m-%d %H:%M:%S UTC";
/// Refusals shown below the messages.
const REFUSALS: usize = 20;
/// For the pages: their own style sheet and frame, nothing else.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'";
/// For a message's HTML: a document without origin or scripts that loads nothing.
const MESSAGE_POLICY: &str = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The pages under `/inbox` and the JSON under `/v1/inbox`. What was refused, and why, is
/// read from `state`.
pub fn router(inbox: Inbox, state: State) -> Router {
    let list = Router::new()
        .route("/inbox", get(list_page))
        .with_state((inbox.clone(), state));
    Router::new()
        .route("/inbox/style.css", get(style))
        .route("/inbox/{number}", get(message_page))
        .route("/inbox/{number}/html", get(message_html))
        .route("/inbox/{number}/eml", get(message_eml))
        .route("/inbox/{number}/attachments/{index}", get(attachment))
        .route("/v1/inbox", get(list_json).delete(clear))
        .route("/v1/inbox/{number}", get(message_json))
        .with_state(inbox)
        .merge(list)
}

/// `?mailbox=ADDRESS`: only what was sent to it.
#[derive(Debug, Default, Deserialize)]
struct Filter {
    mailbox: Option<String>,
}

impl Filter {
    fn admits(&self, message: &StoredMessage) -> bool {
        self.mailbox.as_ref().is_none_or(|wanted| {
            message
                .recipients()
                .any(|address| address.eq_ignore_ascii_case(wanted))
        })
    }
}

async fn list_page(
    Shared((inbox, state)): Shared<(Inbox, State)>,
    Query(filter): Query<Filter>,
) -> Response {
    let mut rows = String::new();
    for message in inbox.messages().iter().rev() {
        if !filter.admits(message) {
            continue;
        }
        let subject = match message.summary.subject.as_str() {
            "" => "(no subject)",
            subject => subject,
        };
        let attached = match message.summary.attachments {
            0 => "",
            1 => " \u{b7} 1 attachment",
            _ => " \u{b7} attachments",
        };
        let _ = write!(
            rows,
            "<tr><td class=\"subject\"><a href=\"/inbox/{}\">{}</a><span class=\"dim\">{attached}</span></td>\
             <td>{}</td><td>{}</td><td class=\"number dim\">{}</td></tr>",
            message.number,
            Escaped(subject),
            Escaped(&message.summary.from),
            Recipients(message),
            message.delivery.received.strftime(TIME),
        );
    }
    let mut body = match rows.as_str() {
        "" => "<p class=\"empty\">Nothing has arrived yet. This page looks again every few seconds.</p>".to_owned(),
        rows => format!(
            "<table><thead><tr><th>Subject<th>From<th>To<th>Arrived</thead><tbody>{rows}</tbody></table>"
        ),
    };
    body.push_str(&refusals(&state));
    let heading = match &filter.mailbox {
        Some(mailbox) => format!(
            "<h1>{}</h1><a href=\"/inbox\">all mailboxes</a>",
            Escaped(mailbox)
        ),
        None => "<h1>Sandbox inbox</h1>\
                 <span class=\"dim\">as JSON: <a href=\"/v1/inbox\">messages</a> \u{b7} <a href=\"/v1/log\">log</a></span> <a href=\"/account\">account</a>"
            .to_owned(),
    };
    let refresh = "<meta http-equiv=\"refresh\" content=\"4\">";
    page("Inbox", refresh, &heading, &body)
}

/// The latest refusals, with the reasons that the wire kept back.
fn refusals(state: &State) -> String {
    let mut rows = String::new();
    let refused =
        |entry: &&LogEntry| entry.outcome == Outcome::Refused && entry.area != Area::Control;
    for entry in state
        .log_entries(0)
        .iter()
        .rev()
        .filter(refused)
        .take(REFUSALS)
    {
        let _ = write!(
            rows,
            "<tr><td class=\"subject\">{}</td><td>{}</td><td>{}</td><td class=\"number dim\">{}</td></tr>",
            Escaped(&entry.why),
            Escaped(&entry.what),
            Escaped(&entry.subject),
            entry.at.strftime(TIME),
        );
    }
    match rows.as_str() {
        "" => String::new(),
        rows => format!(
            "<h2>Refused, and why</h2><table><thead><tr><th>Reason<th>At<th>For<th>When</thead><tbody>{rows}</tbody></table>"
        ),
    }
}

async fn message_page(Shared(inbox): Shared<Inbox>, Path(number): Path<u64>) -> Response {
    let Some(message) = inbox.message(number) else {
        return missing();
    };
    let view = View::of(message.octets());
    let mut body = String::from("<dl>");
    let mut fact = |name: &str, value: &dyn fmt::Display| {
        let _ = write!(body, "<dt>{name}</dt><dd>{value}</dd>");
    };
    for (name, value) in &view.addresses {
        fact(name, &Escaped(value));
    }
    let delivery = &message.delivery;
    fact("Arrived", &delivery.received.strftime(TIME));
    fact(
        "Envelope",
        &format_args!(
            "from &lt;{}&gt; to {}",
            Escaped(&delivery.submission.mail.reverse_path),
            Recipients(&message)
        ),
    );
    fact("Signed in", &Escaped(&delivery.submitted_by));
    if let Some(file) = message.files.first() {
        let file = file.display().to_string();
        match message.files.len() - 1 {
            0 => fact("File", &Escaped(&file)),
            more => fact("File", &format_args!("{} and {more} more", Escaped(&file))),
        }
    }
    body.push_str("</dl>");
    if let Some(text) = &view.text {
        let _ = write!(body, "<h2>Text</h2><pre>{}</pre>", Escaped(text));
    }
    if view.html.is_some() {
        let _ = write!(
            body,
            "<h2>HTML</h2><iframe sandbox title=\"The message's HTML\" src=\"/inbox/{number}/html\"></iframe>"
        );
    }
    if !view.attachments.is_empty() {
        body.push_str("<h2>Attachments</h2><table>");
        for (index, attachment) in view.attachments.iter().enumerate() {
            let _ = write!(
                body,
                "<tr><td><a href=\"/inbox/{number}/attachments/{index}\">{}</a></td><td class=\"dim\">{}</td><td class=\"number dim\">{} octets</td></tr>",
                Escaped(&attachment.name),
                Escaped(&attachment.mime_type),
                attachment.octets,
            );
        }
        body.push_str("</table>");
    }
    body.push_str("<h2>Header</h2><table>");
    for (name, value) in &view.headers {
        let _ = write!(
            body,
            "<tr><th>{}</th><td class=\"long\">{}</td></tr>",
            Escaped(name),
            Escaped(value)
        );
    }
    body.push_str("</table>");
    let heading = format!(
        "<h1>{}</h1><a href=\"/inbox\">all messages</a> <a href=\"/inbox/{number}/eml\">source</a>",
        Escaped(&message.summary.subject)
    );
    page(&message.summary.subject, "", &heading, &body)
}

async fn message_html(Shared(inbox): Shared<Inbox>, Path(number): Path<u64>) -> Response {
    let html = inbox
        .message(number)
        .and_then(|message| View::of(message.octets()).html);
    match html {
        Some(html) => typed("text/html; charset=utf-8", MESSAGE_POLICY, html),
        None => missing(),
    }
}

async fn message_eml(Shared(inbox): Shared<Inbox>, Path(number): Path<u64>) -> Response {
    match inbox.message(number) {
        Some(message) => download(&format!("message-{number}.eml"), message.eml()),
        None => missing(),
    }
}

async fn attachment(
    Shared(inbox): Shared<Inbox>,
    Path((number, index)): Path<(u64, u32)>,
) -> Response {
    let found = inbox
        .message(number)
        .and_then(|message| View::attachment(message.octets(), index));
    match found {
        Some((attachment, octets)) => download(&attachment.name, octets),
        None => missing(),
    }
}

async fn list_json(Shared(inbox): Shared<Inbox>, Query(filter): Query<Filter>) -> Json<Value> {
    let messages = inbox.messages();
    Json(
        messages
            .iter()
            .filter(|message| filter.admits(message))
            .map(|message| listed(message))
            .collect(),
    )
}

async fn message_json(Shared(inbox): Shared<Inbox>, Path(number): Path<u64>) -> Response {
    let Some(message) = inbox.message(number) else {
        return (
            StatusCode::NOT_FOUND,
            Json(json!({ "error": "no such message" })),
        )
            .into_response();
    };
    let mut value = listed(&message);
    value["message"] = json!(View::of(message.octets()));
    Json(value).into_response()
}

async fn clear(Shared(inbox): Shared<Inbox>) -> StatusCode {
    inbox.clear();
    StatusCode::NO_CONTENT
}

async fn style() -> Response {
    typed(
        "text/css; charset=utf-8",
        PAGE_POLICY,
        include_str!("inbox.css"),
    )
}

fn listed(message: &StoredMessage) -> Value {
    let delivery = &message.delivery;
    let mail = &delivery.submission.mail;
    let recipient = |rcpt: &RcptCommand| {
        let notify = rcpt
            .notify
            .map(|n| json!({ "success": n.success, "failure": n.failure, "delay": n.delay }));
        json!({ "address": rcpt.forward_path, "notify": notify, "orcpt": rcpt.orcpt })
    };
    json!({
        "number": message.number,
        "received": delivery.received.to_string(),
        "submitted_by": delivery.submitted_by,
        "reverse_path": mail.reverse_path,
        "body": match mail.body {
            BodyType::SevenBit => "7BIT",
            BodyType::EightBitMime => "8BITMIME",
            BodyType::BinaryMime => "BINARYMIME",
        },
        "ret": mail.ret.map(|ret| match ret {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        }),
        "envid": mail.envid,
        "smtputf8": mail.smtputf8,
        "recipients": delivery.submission.recipients.iter().map(recipient).collect::<Vec<_>>(),
        "chunked": delivery.submission.chunked,
        "reply_message_id": delivery.message_id,
        "summary": message.summary,
        "files": message.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
    })
}

fn page(title: &str, head: &str, heading: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">{head}\
         <title>{}</title><link rel=\"stylesheet\" href=\"/inbox/style.css\"></head>\
         <body><header>{heading}</header><main>{body}</main></body></html>",
        Escaped(title)
    );
    typed("text/html; charset=utf-8", PAGE_POLICY, html)
}

fn missing() -> Response {
    let body = "<p class=\"empty\">There is no such message.</p>";
    let heading = "<h1>Not found</h1><a href=\"/inbox\">all messages</a>";
    (StatusCode::NOT_FOUND, page("Not found", "", heading, body)).into_response()
}

fn typed(kind: &'static str, policy: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}

/// Something to save, whatever it claims to be.
fn download(name: &str, octets: Vec<u8>) -> Response {
    let mut encoded = String::new();
    for octet in name.bytes().take(200) {
        // RFC 8187 §3.2.1: attr-char.
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(char::from(octet));
        } else {
            let _ = write!(encoded, "%{octet:02X}");
        }
    }
    let mut response = typed("application/octet-stream", PAGE_POLICY, octets);
    let disposition = format!("attachment; filename*=UTF-8''{encoded}");
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        response
            .headers_mut()
            .insert(CONTENT_DISPOSITION, disposition);
    }
    response
}

/// The envelope's recipients, each a link to its mailbox.
struct Recipients<'a>(&'a StoredMessage);

impl fmt::Display for Recipients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.recipients().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let query: String = url::form_urlencoded::byte_serialize(address.as_bytes()).collect();
            write!(
                f,
                "{separator}<a href=\"/inbox?mailbox={query}\">{}</a>",
                Escaped(address)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::super::tests::delivery;
    use super::*;
    use crate::scenario::Scenario;
    use crate::state::testing;

    const HOSTILE: &str = "From: \"<b>x\" <svc-mail@contoso.com>\r\n\
        Subject: </title><script>alert(1)</script>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/html\r\n\r\n<script>alert(2)</script><p>hello\r\n\
        --b\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"a\\\"\\r\\n.html\"\r\n\r\n<script>alert(3)</script>\r\n--b--\r\n";

    async fn inbox() -> Inbox {
        let inbox = Inbox::new(None).unwrap();
        let hostile = delivery(&["\"<i>\"@contoso.com"], HOSTILE.as_bytes());
        inbox.deliver(hostile).await.unwrap();
        inbox
    }

    async fn text(response: Response) -> String {
        String::from_utf8(
            to_bytes(response.into_body(), 1 << 20)
                .await
                .unwrap()
                .to_vec(),
        )
        .unwrap()
    }

    fn header(response: &Response, name: axum::http::HeaderName) -> String {
        response.headers()[name].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn nothing_a_message_says_becomes_markup_of_the_page() {
        let inbox = inbox().await;
        let state = testing::state(Scenario::default());
        let hostile = "<script>alert(1)</script>";
        state.log(Area::Exchange, hostile, hostile, Outcome::Refused, hostile);
        let list =
            text(list_page(Shared((inbox.clone(), state)), Query(Filter::default())).await).await;
        let message = text(message_page(Shared(inbox), Path(1)).await).await;
        for page in [list, message] {
            assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
            for markup in ["<script", "<b>", "<i>"] {
                assert!(!page.contains(markup), "{markup} in {page}");
            }
        }
    }

    #[tokio::test]
    async fn a_messages_html_is_confined_and_attachments_are_only_saved() {
        let inbox = inbox().await;
        let html = message_html(Shared(inbox.clone()), Path(1)).await;
        let policy = header(&html, CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("sandbox; default-src 'none'"),
            "{policy}"
        );
        assert!(text(html).await.contains("<p>hello"));

        let saved = attachment(Shared(inbox), Path((1, 0))).await;
        assert_eq!(header(&saved, CONTENT_TYPE), "application/octet-stream");
        let disposition = header(&saved, CONTENT_DISPOSITION);
        assert!(
            disposition.starts_with("attachment; filename*=UTF-8''a"),
            "{disposition}"
        );
    }

    #[tokio::test]
    async fn json_lists_filters_shows_and_forgets() {
        let inbox = inbox().await;
        let other = delivery(&["a@contoso.com"], b"Subject: two\r\n\r\nhi\r\n");
        inbox.deliver(other).await.unwrap();

        let filter = Filter {
            mailbox: Some("A@contoso.com".to_owned()),
        };
        let Json(listed) = list_json(Shared(inbox.clone()), Query(filter)).await;
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["summary"]["subject"], "two");
        assert_eq!(listed[0]["recipients"][0]["address"], "a@contoso.com");

        let shown = text(message_json(Shared(inbox.clone()), Path(2)).await).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["message"]["text"], "hi\r\n");

        clear(Shared(inbox.clone())).await;
        assert_eq!(
            message_json(Shared(inbox), Path(2)).await.status(),
            StatusCode::NOT_FOUND
        );
    }
}
