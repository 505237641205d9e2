//! Lines as clients write them, and what each means.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn parse(line: &str) -> Result<Command, BadCommand> {
    Command::parse(line.as_bytes())
}

fn mail(line: &str) -> MailCommand {
    match parse(line) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt(line: &str) -> RcptCommand {
    match parse(line) {
        Ok(Command::Rcpt(rcpt)) => rcpt,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn mail_with_every_parameter_is_understood() {
    let parsed = mail(
        "mail from:<a@example.org> size=1234 BODY=8bitmime SMTPUTF8 RET=HDRS ENVID=Q+2B1 AUTH=b+40example.org",
    );
    assert_eq!(
        parsed,
        MailCommand {
            reverse_path: "a@example.org".into(),
            size: Some(1234),
            body: BodyType::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("Q+1".into()),
            auth: Some("b@example.org".into()),
        }
    );
    assert_eq!(mail("MAIL FROM:<> AUTH=<>").auth.as_deref(), Some(""));
    assert_eq!(
        mail("MAIL FROM:<> ").reverse_path,
        "",
        "trailing space is tolerated"
    );
}

#[test]
fn rcpt_with_every_parameter_is_understood() {
    let parsed =
        rcpt("RCPT TO:<\"a b\"@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+20b@example.org");
    assert_eq!(
        parsed,
        RcptCommand {
            forward_path: "\"a b\"@example.org".into(),
            notify: Some(Notify {
                success: true,
                failure: false,
                delay: true
            }),
            orcpt: Some("rfc822;a+20b@example.org".into()),
        }
    );
    assert_eq!(
        rcpt("RCPT TO:<x@y> NOTIFY=never").notify,
        Some(Notify::default())
    );
    assert_eq!(rcpt("RCPT TO:<Postmaster>").forward_path, "Postmaster");
}

#[test]
fn malformed_arguments_are_refused_by_command() {
    let table = [
        ("EHLO", Verb::Ehlo),
        ("MAIL", Verb::Mail),
        ("MAIL FROM:", Verb::Mail),
        ("MAIL FROM:a", Verb::Mail),
        ("MAIL FROM:<a@b", Verb::Mail),
        ("MAIL FROM:\t<a@b>", Verb::Mail),
        ("MAIL FROM :<a@b>", Verb::Mail),
        ("MAIL FROM:<a@b>SIZE=1", Verb::Mail),
        ("MAIL FROM:<a@b>  SIZE=1", Verb::Mail),
        ("MAIL FROM:<a@b> SIZE=", Verb::Mail),
        ("MAIL FROM:<a@b> SIZE", Verb::Mail),
        ("MAIL FROM:<a@b> SIZE=-1", Verb::Mail),
        ("MAIL FROM:<a@b> SIZE=99999999999999999999", Verb::Mail),
        ("MAIL FROM:<a@b> SIZE=1 SIZE=2", Verb::Mail),
        ("MAIL FROM:<a@b> BODY=9BIT", Verb::Mail),
        ("MAIL FROM:<a@b> SMTPUTF8=1", Verb::Mail),
        ("MAIL FROM:<a@b> ENVID=a+0D+0Ab", Verb::Mail),
        ("MAIL FROM:<a@b> ENVID=a+2", Verb::Mail),
        ("MAIL FROM:<a@b> AUTH=c", Verb::Mail),
        ("RCPT FROM:<a@b>", Verb::Rcpt),
        ("RCPT TO:<a@b> NOTIFY=NEVER,DELAY", Verb::Rcpt),
        ("RCPT TO:<a@b> NOTIFY=DELAY,DELAY", Verb::Rcpt),
        ("RCPT TO:<a@b> ORCPT=rfc822", Verb::Rcpt),
        ("AUTH", Verb::Auth),
        ("AUTH PLAIN a b", Verb::Auth),
        ("AUTH PL*AIN", Verb::Auth),
        ("BDAT", Verb::Bdat),
        ("BDAT x", Verb::Bdat),
        ("BDAT 5 LATER", Verb::Bdat),
        ("BDAT 18446744073709551616", Verb::Bdat),
        ("DATA now", Verb::Data),
        ("STARTTLS now", Verb::Starttls),
        ("RSET now", Verb::Rset),
        ("QUIT now", Verb::Quit),
        ("VRFY", Verb::Vrfy),
        ("NOOP \u{7}", Verb::Noop),
    ];
    for (line, verb) in table {
        assert_eq!(
            parse(line).unwrap_err(),
            BadCommand::Arguments(verb),
            "{line}"
        );
    }
}

#[test]
fn a_name_may_be_missing_behind_helo_by_its_quirk_alone() {
    let quirk = Quirks {
        helo_only: true,
        ..Quirks::default()
    };
    for line in ["HELO", "helo "] {
        let named = Command::parse_with(line.as_bytes(), quirk);
        assert!(matches!(named, Ok(Command::Helo(name)) if name.is_empty()));
        assert_eq!(
            parse(line).unwrap_err(),
            BadCommand::Arguments(Verb::Helo),
            "{line}"
        );
    }
    assert!(Command::parse_with(b"EHLO", quirk).is_err());
}

#[test]
fn a_client_may_call_itself_anything() {
    for (line, wanted) in [
        ("EHLO FE80::1", "FE80::1"),
        ("EHLO Front desk 2", "Front desk 2"),
        ("HELO  a b ", "a b"),
    ] {
        let Ok(Command::Ehlo(name) | Command::Helo(name)) = parse(line) else {
            panic!("{line}");
        };
        assert_eq!(name, wanted);
    }
}

#[test]
fn an_address_without_brackets_passes_by_its_quirk_alone() {
    let quirk = Quirks {
        no_brackets: true,
        ..Quirks::default()
    };
    for line in ["MAIL FROM:a@b SIZE=1", "RCPT TO:a@b NOTIFY=NEVER"] {
        let verb = if line.starts_with('M') {
            Verb::Mail
        } else {
            Verb::Rcpt
        };
        assert_eq!(parse(line).unwrap_err(), BadCommand::NoBrackets(verb));
        match Command::parse_with(line.as_bytes(), quirk) {
            Ok(Command::Mail(mail)) => {
                assert_eq!((&*mail.reverse_path, mail.size), ("a@b", Some(1)));
            }
            Ok(Command::Rcpt(rcpt)) => assert_eq!(rcpt.forward_path, "a@b"),
            other => panic!("{line}: {other:?}"),
        }
    }
    // A space is another quirk's.
    let both = Command::parse_with(b"MAIL FROM: a@b", quirk);
    assert_eq!(both.unwrap_err(), BadCommand::SpaceBehindColon(Verb::Mail));
}

#[test]
fn what_is_no_address_is_named_and_passed_on_as_a_sender_by_switch_only() {
    let any = Quirks {
        any_sender: true,
        ..Quirks::default()
    };
    for path in [
        "local.@example.com",
        "root",
        "scanner 1@example.com",
        "a@b,c@d",
    ] {
        let line = format!("MAIL FROM:<{path}> SIZE=1");
        // What has no `@` may be a password.
        let named = if path == "root" { "" } else { path };
        let refused = BadCommand::Address(Verb::Mail, named.to_owned());
        assert_eq!(parse(&line).unwrap_err(), refused);
        match Command::parse_with(line.as_bytes(), any) {
            Ok(Command::Mail(mail)) => {
                assert_eq!((&*mail.reverse_path, mail.size), (path, Some(1)));
            }
            other => panic!("{line}: {other:?}"),
        }
        let line = format!("RCPT TO:<{path}>");
        let refused = BadCommand::Address(Verb::Rcpt, named.to_owned());
        let parsed = Command::parse_with(line.as_bytes(), any);
        assert_eq!(parsed.unwrap_err(), refused, "{line}");
    }
    let nobody = BadCommand::Address(Verb::Rcpt, String::new());
    assert_eq!(parse("RCPT TO:<>").unwrap_err(), nobody);
    let BadCommand::Address(_, shown) =
        parse(&format!("RCPT TO:<@{}>", "a".repeat(500))).unwrap_err()
    else {
        panic!("an address");
    };
    assert_eq!(shown, format!("@{}", "a".repeat(99)));
}

#[test]
fn unknown_words_and_parameters_are_named() {
    assert_eq!(
        parse("XFOO a").unwrap_err(),
        BadCommand::Unrecognized("XFOO".into())
    );
    assert_eq!(
        parse("").unwrap_err(),
        BadCommand::Unrecognized(String::new())
    );
    assert_eq!(
        parse("MAIL FROM:<a@b> xyz=1").unwrap_err(),
        BadCommand::Parameter(Verb::Mail, "XYZ".into())
    );
    let BadCommand::Unrecognized(shown) = parse(&"\u{1b}".repeat(500)).unwrap_err() else {
        panic!("not a command");
    };
    assert_eq!(shown, "?".repeat(32));
}

#[test]
fn auth_keeps_the_response_out_of_debug() {
    let command = parse("auth xoauth2 dXNlcj1h").unwrap();
    assert!(!format!("{command:?}").contains("dXNlcj1h"));
    let Command::Auth { mechanism, initial } = command else {
        panic!("not AUTH");
    };
    assert_eq!(mechanism, "XOAUTH2");
    assert_eq!(initial.unwrap().expose_secret(), "dXNlcj1h");
}

#[test]
fn bdat_sizes_and_marks() {
    assert!(matches!(
        parse("BDAT 0 LAST"),
        Ok(Command::Bdat {
            octets: 0,
            last: true
        })
    ));
    assert!(matches!(
        parse("bdat 18446744073709551615"),
        Ok(Command::Bdat {
            octets: u64::MAX,
            last: false
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_octets_never_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Command::parse(&line);
    }

    #[test]
    fn arbitrary_arguments_never_panic(
        verb in "(EHLO|MAIL FROM:|MAIL FROM:<a@b>|RCPT TO:|RCPT TO:<a@b>|AUTH|BDAT|VRFY)",
        rest in "[ <>@\"\\\\+=;,:a-zA-Z0-9\\[\\]é\r\n\0.-]{0,60}",
    ) {
        let _ = Command::parse(format!("{verb}{rest}").as_bytes());
        let _ = Command::parse(format!("{verb} {rest}").as_bytes());
    }

    #[test]
    fn an_accepted_path_holds_nothing_that_could_leave_its_brackets(
        path in "[ <>@\"\\\\a-c.é\r\n\0-]{0,24}",
    ) {
        if let Ok(Command::Mail(mail)) = Command::parse(format!("MAIL FROM:<{path}>").as_bytes()) {
            let again = Command::parse(format!("MAIL FROM:<{}>", mail.reverse_path).as_bytes());
            let Ok(Command::Mail(again)) = again else {
                panic!("{:?} does not parse again", mail.reverse_path);
            };
            prop_assert_eq!(again.reverse_path, mail.reverse_path);
        }
    }
}
