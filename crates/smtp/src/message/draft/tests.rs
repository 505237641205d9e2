//! What a draft becomes.

use super::*;
use crate::message::{Attachment, Limits, Source};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::time::{Duration, UNIX_EPOCH};

fn draft() -> Draft {
    Draft {
        from: "Alerts <alerts@contoso.com>".to_owned(),
        to: vec!["admin@contoso.com".to_owned()],
        subject: "Disk 91 %".to_owned(),
        text: Some("full".to_owned()),
        ..Draft::default()
    }
}

fn build(draft: Draft) -> Result<Outgoing, MessageError> {
    draft.build(UNIX_EPOCH + Duration::from_secs(1_700_000_000), "u1")
}

fn text(draft: Draft) -> String {
    String::from_utf8(build(draft).unwrap().message().unwrap().to_vec()).unwrap()
}

fn file(name: &str, octets: &[u8]) -> Attachment {
    Attachment {
        source: Source::Bytes(octets.to_vec()),
        name: Some(name.to_owned()),
        mime_type: None,
        content_id: None,
    }
}

#[test]
fn a_plain_message_is_what_one_would_write() {
    assert_eq!(
        text(draft()),
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
         Message-ID: <u1@contoso.com>\r\n\
         From: Alerts <alerts@contoso.com>\r\n\
         To: admin@contoso.com\r\n\
         Subject: Disk 91 %\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 7bit\r\n\
         \r\n\
         full\r\n"
    );
}

#[test]
fn the_same_draft_makes_the_same_octets() {
    let with_parts = || Draft {
        html: Some("<p>full</p>".to_owned()),
        attachments: vec![file("df.txt", b"x")],
        ..draft()
    };
    assert_eq!(text(with_parts()), text(with_parts()));
}

#[test]
fn layers_are_there_only_if_needed() {
    let image = Attachment {
        content_id: Some("logo".to_owned()),
        ..file("logo.png", b"png")
    };
    let all = text(Draft {
        html: Some("<img src=cid:logo>".to_owned()),
        attachments: vec![image, file("df.txt", b"x")],
        ..draft()
    });
    let order = [
        "mixed",
        "related",
        "alternative",
        "text/plain",
        "text/html",
        "image/png",
        "<logo>",
        "df.txt",
    ];
    let places: Vec<_> = order.iter().map(|word| all.find(word).unwrap()).collect();
    assert!(places.is_sorted(), "{all}");
    assert!(
        !text(Draft {
            html: Some("x".to_owned()),
            ..draft()
        })
        .contains("multipart/mixed")
    );
    assert!(!text(draft()).contains("multipart"));
}

#[test]
fn bcc_is_in_the_envelope_alone_and_nobody_twice() {
    let outgoing = build(Draft {
        cc: vec!["admin@contoso.com".to_owned()],
        bcc: vec![
            "hidden@contoso.com".to_owned(),
            "Admin <admin@contoso.com>".to_owned(),
        ],
        ..draft()
    })
    .unwrap();
    let recipients: Vec<_> = outgoing
        .envelope()
        .recipients
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(recipients, ["admin@contoso.com", "hidden@contoso.com"]);
    let message = String::from_utf8_lossy(outgoing.message().unwrap()).to_lowercase();
    assert!(!message.contains("hidden") && !message.contains("bcc"));
}

#[test]
fn a_sender_of_its_own_is_named_and_gets_the_failures() {
    let outgoing = build(Draft {
        sender: Some("svc-mail@contoso.com".to_owned()),
        ..draft()
    })
    .unwrap();
    assert_eq!(
        outgoing.envelope().reverse_path.as_ref().unwrap().user(),
        "svc-mail"
    );
    assert!(
        String::from_utf8_lossy(outgoing.message().unwrap())
            .contains("Sender: svc-mail@contoso.com\r\n")
    );
    assert!(
        !text(Draft {
            sender: Some("alerts@contoso.com".to_owned()),
            ..draft()
        })
        .contains("Sender:")
    );
}

#[test]
fn thread_priority_and_own_headers_are_written() {
    let message = text(Draft {
        in_reply_to: Some("b@example.org".to_owned()),
        references: vec!["<a@example.org>".to_owned()],
        priority: Some(Priority::High),
        headers: vec![("X-Host".to_owned(), "db-1 ü".to_owned())],
        reply_to: vec!["ops@contoso.com".to_owned()],
        ..draft()
    });
    for line in [
        "In-Reply-To: <b@example.org>",
        "References: <a@example.org> <b@example.org>",
        "X-Priority: 1",
        "Importance: high",
        "X-Host: db-1 =?utf-8?b?w7w=?=",
        "Reply-To: ops@contoso.com",
    ] {
        assert!(
            message.contains(&format!("{line}\r\n")),
            "{line} not in\n{message}"
        );
    }
}

#[test]
fn any_line_end_in_a_script_s_text_becomes_crlf() {
    let message = text(Draft {
        text: Some("a\nb\r\nc\rd\n\ne".to_owned()),
        ..draft()
    });
    assert!(
        message.ends_with("\r\n\r\na\r\nb\r\nc\r\nd\r\n\r\ne\r\n"),
        "{message}"
    );
}

#[test]
fn long_lines_and_eight_bits_are_encoded() {
    for body in [
        "x".repeat(5_000),
        "ü".repeat(3_000),
        format!("{}\n", "x ".repeat(600)),
        "\u{7f}\t".repeat(900),
    ] {
        let outgoing = build(Draft {
            text: Some(body.clone()),
            html: Some(body),
            ..draft()
        })
        .unwrap();
        assert!(!outgoing.needs_eight_bit() && !outgoing.needs_smtputf8());
    }
}

#[test]
fn long_header_values_are_folded_or_encoded() {
    let word = "x".repeat(5_000);
    let outgoing = build(draft_with(|d| {
        d.subject.clone_from(&word);
        d.headers = vec![("X-Note".to_owned(), word)];
        d.from = format!("\"{}\" <alerts@contoso.com>", "n".repeat(480));
        d.references = (0..30)
            .map(|i| format!("{i}{}@contoso.com", "r".repeat(200)))
            .collect();
        d.to = (0..500)
            .map(|i| format!("User {i} <u{i}@contoso.com>"))
            .collect();
        d.attachments = vec![file(&"f".repeat(255), b"x")];
    }));
    // `Outgoing` would have refused a line of more than 998 octets.
    let message = String::from_utf8(outgoing.unwrap().message().unwrap().to_vec()).unwrap();
    let subject = message.split("\r\nSubject: ").nth(1).unwrap();
    let words = subject
        .lines()
        .take_while(|line| line.contains("=?utf-8?b?"));
    let decoded = words.flat_map(|line| {
        BASE64
            .decode(&line.trim()[10..line.trim().len() - 2])
            .unwrap()
    });
    assert!(decoded.eq("x".repeat(5_000).into_bytes()));
}

#[test]
fn a_file_brings_its_name_and_type() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk usage.csv");
    std::fs::write(&path, b"a,b\n").unwrap();
    let attachment = Attachment {
        source: Source::Path(path),
        name: None,
        ..file("", b"")
    };
    let message = text(draft_with(|d| d.attachments = vec![attachment]));
    assert!(message.contains("Content-Type: text/csv\r\n"), "{message}");
    assert!(message.contains("filename=\"disk usage.csv\""), "{message}");
    assert!(message.contains("\r\n\r\nYSxiCg==\r\n"), "{message}");
}

#[test]
fn only_a_local_part_needs_smtputf8() {
    let outgoing = build(Draft {
        to: vec!["Jörg <joerg@exämple.org>".to_owned()],
        ..draft()
    })
    .unwrap();
    assert!(!outgoing.needs_smtputf8());
    let outgoing = build(Draft {
        to: vec!["jörg@exämple.org".to_owned()],
        ..draft()
    })
    .unwrap();
    assert!(outgoing.needs_smtputf8());
    assert_eq!(
        outgoing.envelope().recipients[0].to_string(),
        "jörg@xn--exmple-cua.org"
    );
}

fn draft_with(change: impl FnOnce(&mut Draft)) -> Draft {
    let mut draft = draft();
    change(&mut draft);
    draft
}

#[test]
fn every_error_names_its_field() {
    let bad = || "a\r\nb".to_owned();
    let header = |name: &str, value: String| vec![(name.to_owned(), value)];
    let cases = [
        ("from", draft_with(|d| d.from = bad())),
        ("from", draft_with(|d| d.from = String::new())),
        ("sender", draft_with(|d| d.sender = Some(bad()))),
        ("reply_to[1]", draft_with(|d| d.reply_to = vec![bad()])),
        ("to[2]", draft_with(|d| d.to.push("b@".to_owned()))),
        ("cc[1]", draft_with(|d| d.cc = vec![bad()])),
        ("bcc[1]", draft_with(|d| d.bcc = vec![bad()])),
        ("to", draft_with(|d| d.to.clear())),
        (
            "to",
            draft_with(|d| d.to = (0..1_001).map(|i| format!("u{i}@contoso.com")).collect()),
        ),
        ("subject", draft_with(|d| d.subject = bad())),
        ("subject", draft_with(|d| d.subject = "x".repeat(9_000))),
        ("text", draft_with(|d| d.text = Some("\0".to_owned()))),
        (
            "headers[1]",
            draft_with(|d| d.headers = header("X-A", bad())),
        ),
        (
            "headers[1]",
            draft_with(|d| d.headers = header("Bcc", "x".to_owned())),
        ),
        (
            "headers[2]",
            draft_with(|d| {
                d.headers = [header("X-A", String::new()), header("x-a", String::new())].concat();
            }),
        ),
        ("in_reply_to", draft_with(|d| d.in_reply_to = Some(bad()))),
        ("references[1]", draft_with(|d| d.references = vec![bad()])),
        ("message_id", draft_with(|d| d.message_id = Some(bad()))),
        ("reverse_path", draft_with(|d| d.reverse_path = Some(bad()))),
        (
            "date",
            draft_with(|d| d.date = Some(UNIX_EPOCH - Duration::from_secs(1))),
        ),
    ];
    for (field, draft) in cases {
        assert_eq!(build(draft).expect_err(field).field, field);
    }
    assert_eq!(
        draft().build(UNIX_EPOCH, "a b").unwrap_err().field,
        "unique"
    );
}

#[test]
fn a_pipe_or_a_device_is_no_attachment_and_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in [pipe, "/dev/zero".into()] {
        let attachment = Attachment {
            source: Source::Path(path),
            name: None,
            mime_type: None,
            content_id: None,
        };
        let error = build(draft_with(|d| d.attachments = vec![attachment])).unwrap_err();
        assert_eq!(error.field, "attachments[1].path");
        assert!(error.message.ends_with("is not a regular file"), "{error}");
    }
}

#[test]
fn an_attachment_s_error_names_its_part() {
    let gone = Source::Path("/nonexistent/x".into());
    let directory = Source::Path("/".into());
    let some = |text: &str| Some(text.to_owned());
    let cases = [
        ("name", file("a\r\nb", b"")),
        ("name", file("../x", b"")),
        (
            "name",
            Attachment {
                name: None,
                ..file("", b"")
            },
        ),
        (
            "type",
            Attachment {
                mime_type: some("multipart/mixed"),
                ..file("x", b"")
            },
        ),
        (
            "type",
            Attachment {
                mime_type: some("a\r\nb"),
                ..file("x", b"")
            },
        ),
        (
            "cid",
            Attachment {
                content_id: some("a b"),
                ..file("x.png", b"")
            },
        ),
        (
            "path",
            Attachment {
                source: gone,
                name: None,
                ..file("", b"")
            },
        ),
        (
            "path",
            Attachment {
                source: directory,
                ..file("x", b"")
            },
        ),
    ];
    for (part, attachment) in cases {
        let error = build(draft_with(|d| d.attachments = vec![attachment])).expect_err(part);
        assert_eq!(error.field, format!("attachments[1].{part}"), "{error}");
    }
    let image = Attachment {
        content_id: some("logo"),
        ..file("x.png", b"")
    };
    let error = build(draft_with(|d| d.attachments = vec![image])).unwrap_err();
    assert_eq!(
        error.field, "attachments[1].cid",
        "without html nothing shows it"
    );
}

#[test]
fn the_size_is_bounded_before_it_is_built() {
    let limits = Limits {
        message_octets: 10_000,
        ..Limits::default()
    };
    let small = Draft {
        limits,
        attachments: vec![file("x", &[0; 6_000])],
        ..draft()
    };
    assert!(build(small.clone()).is_ok());
    let large = Draft {
        attachments: vec![file("x", &[0; 6_000]), file("y", &[0; 2_000])],
        ..small
    };
    assert_eq!(build(large).unwrap_err().field, "attachments[2]");
}

proptest::proptest! {
    #[test]
    fn whatever_is_written_arrives_as_lines(subject in "\\PC{0,200}", body in "[\\PC\r\n\t]{0,400}", name in "\\PC{0,60}") {
        let draft = Draft {
            subject,
            text: Some(body.clone()),
            html: Some(body),
            headers: vec![("X-Note".to_owned(), name.clone())],
            attachments: vec![file(&name, b".\r\n.")],
            to: vec![format!("\"{name}\" <a@example.org>")],
            ..draft()
        };
        // `Outgoing` holds only CRLF-ended lines of at most 998 octets; an error is fine,
        // a panic or an 8-bit header is not.
        if let Ok(outgoing) = build(draft) {
            proptest::prop_assert!(outgoing.message().unwrap().is_ascii());
        }
    }
}
