//! What old devices say: refused clearly, or let pass where a switch says so.

use super::*;

fn quirks(set: impl FnOnce(&mut Quirks)) -> Quirks {
    let mut quirks = Quirks::default();
    set(&mut quirks);
    quirks
}

#[tokio::test(start_paused = true)]
async fn a_space_behind_the_colon_passes_by_switch_only() {
    let input = "EHLO a\r\nMAIL FROM: <a@b> SIZE=1\r\nRCPT TO:  <c@d>\r\nBDAT 0 LAST\r\n";
    let (said, messages) = play(Limits::default(), Quirks::default(), [input]).await;
    assert!(
        said.contains("501 5.5.4 No space may stand behind the colon of MAIL\r\n"),
        "{said}"
    );
    assert!(messages.is_empty());
    let (said, messages) = play(
        Limits::default(),
        quirks(|q| q.mail_from_space = true),
        [input],
    )
    .await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 250]);
    assert_eq!(messages[0].mail.reverse_path, "a@b");
    assert_eq!(messages[0].recipients[0].forward_path, "c@d");
    let without = "EHLO a\r\nMAIL FROM: a@b\r\nMAIL FROM: <>\r\nRCPT TO: c@d\r\nRCPT TO: <>\r\n";
    let (said, _) = play(
        Limits::default(),
        quirks(|q| q.mail_from_space = true),
        [without],
    )
    .await;
    assert_eq!(codes(&said), [220, 250, 501, 250, 501, 501]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_an_address_is_said_and_passes_by_switch_only() {
    let input = "EHLO a b\r\nMAIL FROM:a@b\r\nMAIL FROM:<local.@b>\r\nMAIL FROM:<a@b>\r\n\
                 RCPT TO:c@d\r\nRCPT TO:<c@d,e@f>\r\n";
    let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
    let replies: Vec<&str> = said.lines().skip(4).collect();
    assert_eq!(
        replies,
        [
            "501 5.5.4 The address of MAIL has to stand in angle brackets",
            "501 5.1.7 <local.@b> is no address",
            "250 2.1.0 sender",
            "501 5.5.4 The address of RCPT has to stand in angle brackets",
            "501 5.1.3 <c@d,e@f> is no address",
        ]
    );
    let loose = quirks(|q| (q.no_brackets, q.any_sender) = (true, true));
    let input = "EHLO a\r\nMAIL FROM:<local.@b> SIZE=1\r\nRCPT TO:c@d\r\nBDAT 0 LAST\r\n";
    let (said, messages) = play(Limits::default(), loose, [input]).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 250]);
    assert_eq!(messages[0].mail.reverse_path, "local.@b");
    assert_eq!(messages[0].recipients[0].forward_path, "c@d");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_where_none_begins_is_answered_at_once() {
    // The head of a TLS record, and no line end.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let began = tokio::time::Instant::now();
    let server = served_in_clear(Recorder::default(), Limits::default());
    let said = heard(server, hello).await;
    assert!(
        said.ends_with("500 5.5.2 TLS does not begin here before STARTTLS\r\n"),
        "{said}"
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_load_balancers_header_is_named_and_ends_the_session() {
    let first = "PROXY TCP4 192.0.2.9 192.0.2.1 51234 25\r\nEHLO a\r\n";
    let second = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    for (input, wanted) in [(first, &[220, 500][..]), (second, &[220, 500, 500, 500])] {
        let bare_lf = quirks(|q| q.bare_lf = true);
        for quirks in [Quirks::default(), bare_lf] {
            let (said, _) = play(Limits::default(), quirks, [input]).await;
            assert_eq!(codes(&said), wanted, "{said}");
            let last = said.lines().last().unwrap();
            assert!(
                last.starts_with("500 5.5.2 PROXY protocol headers"),
                "{last}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_nul_behind_a_login_answer_passes_by_switch_only() {
    // "user\0" and "secret\0"; "a\0b" and "a\0\0".
    let asked = "EHLO a\r\nAUTH LOGIN\r\ndXNlcgA=\r\nNOOP\r\n";
    let given = "EHLO a\r\nAUTH LOGIN dXNlcgA=\r\nNOOP\r\n";
    for input in [asked, given] {
        let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
        assert!(
            said.ends_with("501 5.5.2 The response contains NUL\r\n250 2.0.0 OK\r\n"),
            "{said}"
        );
        let (said, _) = play(Limits::default(), quirks(|q| q.login_nul = true), [input]).await;
        assert!(
            said.ends_with("235 2.7.0 yes\r\n250 2.0.0 OK\r\n"),
            "{said}"
        );
    }
    for within in ["YQBi", "YQAA"] {
        let input = format!("EHLO a\r\nAUTH LOGIN {within}\r\n");
        let (said, _) = play(Limits::default(), quirks(|q| q.login_nul = true), [input]).await;
        assert_eq!(codes(&said), [220, 250, 501], "one NUL, and at the end");
    }
    // PLAIN has NULs of its own: "\0user\0secret\0" stays as it is.
    let handler = Recorder::default();
    let plain = "EHLO a\r\nAUTH PLAIN AHVzZXIAc2VjcmV0AA==\r\n";
    says(Limits::default(), handler.clone(), plain.as_bytes()).await;
    assert_eq!(handler.events(), ["PLAIN \\x00user\\x00secret\\x00"]);
}

#[tokio::test(start_paused = true)]
async fn auth_after_helo_passes_by_switch_only() {
    let input = "HELO a\r\nAUTH PLAIN YWI=\r\nEHLO a\r\nAUTH PLAIN YWI=\r\n";
    let (said, _) = play(Limits::default(), Quirks::default(), [input]).await;
    assert!(
        said.contains("503 5.5.1 AUTH needs EHLO, not HELO: send EHLO\r\n"),
        "{said}"
    );
    assert!(said.ends_with("235 2.7.0 yes\r\n"), "EHLO mends it: {said}");
    let (said, _) = play(Limits::default(), quirks(|q| q.helo_only = true), [input]).await;
    assert!(
        said.starts_with("220 mx.example ESMTP\r\n250 mx.example greets a\r\n235 2.7.0 yes\r\n"),
        "HELO has one line: {said}"
    );
}

#[tokio::test(start_paused = true)]
async fn bare_line_feeds_pass_by_switch_only_and_leave_as_crlf() {
    let bare = quirks(|q| q.bare_lf = true);
    let crlf =
        "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\ny\n..z\n.\nw\r\n.\r\nQUIT\r\n";
    let (said, messages) = play(Limits::default(), Quirks::default(), [crlf]).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 550, 221]);
    assert!(said.contains("550 5.6.0 Message refused: a line feed without a carriage return"));
    assert!(messages.is_empty());
    let (said, messages) = play(Limits::default(), bare, [crlf]).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 250, 221]);
    assert_eq!(messages[0].body, b"x\r\ny\r\n.z\r\n\r\nw\r\n");

    let lf = "EHLO a\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nx\n..y\n.\nQUIT\n";
    let (said, _) = play(Limits::default(), Quirks::default(), [lf]).await;
    assert_eq!(codes(&said), [220, 500]);
    let (said, messages) = play(Limits::default(), bare, [lf]).await;
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 250, 221]);
    assert_eq!(messages[0].body, b"x\r\n.y\r\n");
}

#[tokio::test(start_paused = true)]
async fn the_first_line_decides_and_no_other_changes_it() {
    let bare = quirks(|q| q.bare_lf = true);
    let table: [(&str, &[u16]); 5] = [
        ("EHLO a\r\nNOOP\nNOOP\r\n", &[220, 250, 500]),
        ("EHLO a\nNOOP\r\nNOOP\n", &[220, 250, 500]),
        (
            "EHLO a\nAUTH PLAIN\nYWI=\nNOOP\n",
            &[220, 250, 334, 235, 250],
        ),
        ("EHLO a\nAUTH PLAIN\nYWI=\r\nNOOP\n", &[220, 250, 334, 500]),
        ("X\nEHLO a\r\n", &[220, 500, 500]),
    ];
    for (input, wanted) in table {
        let (said, _) = play(Limits::default(), bare, [input]).await;
        assert_eq!(codes(&said), wanted, "{input:?}");
    }
    // A line too long decides as well, and its end counts when it is strict.
    let long = format!("{}\nNOOP\r\n", "X".repeat(5000));
    for (quirks, wanted) in [
        (Quirks::default(), "500 5.5.2 Lines end with CRLF\r\n"),
        (bare, "500 5.5.2 Lines end as the first did\r\n"),
    ] {
        let (said, _) = play(Limits::default(), quirks, [long.as_str()]).await;
        assert!(said.ends_with(wanted), "{said}");
    }
}
