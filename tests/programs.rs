//! Programs nobody here wrote send mail by `sendmail` as they always have, and it arrives.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::daemon::Daemon;
use support::machine::{Machine, Programs as _, queue_only, silent};
use support::{find_program, read_to_string, root, run, run_with, skip};

#[test]
fn cron_and_those_who_know_only_the_name_are_served() {
    let machine = Machine::new("");
    let daemon = Daemon::start(&machine.home);

    // As Debian's cron calls it, with the header it writes.
    let message = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@web1> df\n\
        MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
        Content-Transfer-Encoding: 8bit\nX-Cron-Env: <SHELL=/bin/sh>\n\n\
        10 %\r20 %\rsecret-needle f\u{fc}r alle\n";
    let mut cron = machine.program(machine.sendmail());
    cron.args(["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"]);
    silent(run_with(&mut cron, message));
    let text = machine.arrived("admin@contoso.com", "Cron <root@web1> df");
    assert!(
        text.contains("From: \"Cron Daemon\" <alerts@contoso.com>\r\n"),
        "{text}"
    );
    assert!(
        text.contains("X-Original-From: root (Cron Daemon)\r\n"),
        "{text}"
    );
    assert!(
        text.contains("10 % 20 % secret-needle f\u{fc}r alle\r\n"),
        "{text}"
    );

    // As smartd's own script and others: to several, the message's header says nothing.
    let mut bare = machine.program("sendmail");
    bare.args([
        "-i",
        "-f",
        "smartd@web1",
        "ceo@contoso.com, Admin <admin@contoso.com>",
    ]);
    silent(run_with(&mut bare, "Subject: SMART\n\nsda\n.\nsdb\n"));
    for mailbox in ["ceo@contoso.com", "admin@contoso.com"] {
        let text = machine.arrived(mailbox, "SMART");
        assert!(text.contains("From: alerts@contoso.com\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nsda\r\n.\r\nsdb\r\n"), "{text}");
    }

    // Python, and whoever else starts it with a list of arguments.
    if let Some(python) = find_program("python3") {
        let script = "import email.message, subprocess, sys\n\
            message = email.message.EmailMessage()\n\
            message['To'] = 'Ceo <ceo@contoso.com>'\n\
            message['Bcc'] = 'admin@contoso.com'\n\
            message['Subject'] = 'from Python'\n\
            message.set_content('hi\\n.\\nthere')\n\
            subprocess.run([sys.argv[1], '-t', '-oi'], input=message.as_bytes(), check=True)\n";
        let mut program = machine.program(python);
        program.args(["-c", script]).arg(machine.sendmail());
        silent(run(&mut program));
        for mailbox in ["ceo@contoso.com", "admin@contoso.com"] {
            let text = machine.arrived(mailbox, "from Python");
            assert!(!text.contains("Bcc"), "{text}");
            assert!(text.ends_with("hi\r\n.\r\nthere\r\n"), "{text}");
        }
    }

    // What was written is nobody's but the recipients'.
    let log = daemon.terminate().expect_status(0).stderr;
    assert!(log.contains("sendmail uid "), "{log}");
    for private in [
        "secret-needle",
        "Cron <root",
        "df\"",
        "SMART",
        "from Python",
    ] {
        assert!(!log.contains(private), "{private}: {log}");
    }
}

#[test]
fn mail_programs_are_served() {
    let machine = Machine::new("");
    let _daemon = Daemon::start(&machine.home);
    let sendmail = machine.sendmail().display().to_string();
    let to = "ceo@contoso.com";
    let subjects = [
        "from bsd-mailx",
        "from mailutils",
        "from s-nail",
        "from mutt",
    ];
    let mailrc = machine.home.path().join("mailrc");
    fs::write(&mailrc, format!("set sendmail={sendmail}\n")).unwrap();
    let mailer = format!("set sendmail=\"sendmail://{sendmail}\"");
    let mta = format!("mta={sendmail}");
    let mutt = format!("set sendmail=\"{sendmail} -oem -oi\"");
    let programs: [(&str, Vec<&str>); 4] = [
        ("bsd-mailx", vec!["-s", subjects[0], to]),
        (
            "mail.mailutils",
            vec!["--exec", &mailer, "-s", subjects[1], to],
        ),
        ("s-nail", vec!["-n", "-S", &mta, "-s", subjects[2], to]),
        (
            "mutt",
            vec![
                "-n",
                "-F",
                "/dev/null",
                "-e",
                &mutt,
                "-s",
                subjects[3],
                "--",
                to,
            ],
        ),
    ];
    for ((program, arguments), subject) in programs.into_iter().zip(subjects) {
        let Some(path) = find_program(program) else {
            skip(&format!("{program} is not installed"));
            continue;
        };
        let mut command = machine.program(path);
        command.env("MAILRC", &mailrc).args(arguments);
        run_with(&mut command, "Gr\u{fc}\u{df}e\n").expect_status(0);
        let text = machine.arrived(to, subject);
        assert!(
            text.contains("<alerts@contoso.com>\r\n") || text.contains("alerts@contoso.com\r\n"),
            "{text}"
        );
        assert!(text.contains("To: ") && text.contains(to), "{text}");
        assert_eq!(
            text.matches("Message-ID:").count() + text.matches("Message-Id:").count(),
            1,
            "{text}"
        );
    }
}

#[test]
fn php_is_served() {
    let Some(php) = find_program("php") else {
        return skip("php is not installed");
    };
    let machine = Machine::new("");
    let _daemon = Daemon::start(&machine.home);
    let mut command = machine.program(php);
    let path = format!("sendmail_path={} -t -i", machine.sendmail().display());
    let script = "exit(mail('ceo@contoso.com', 'from PHP', \"hi\\n.\\nthere\", \
        \"From: Shop <shop@example.org>\\r\\nBcc: admin@contoso.com\", '-fshop@example.org') ? 0 : 1);";
    command.args(["-n", "-d", &path, "-r", script]);
    silent(run(&mut command));
    for mailbox in ["ceo@contoso.com", "admin@contoso.com"] {
        let text = machine.arrived(mailbox, "from PHP");
        assert!(
            text.contains("From: Shop <alerts@contoso.com>\r\n"),
            "{text}"
        );
        assert!(text.contains("Reply-To: shop@example.org\r\n"), "{text}");
        assert!(text.ends_with("hi\r\n.\r\nthere\r\n"), "{text}");
        assert!(!text.contains("Bcc"), "{text}");
    }
    // PHP hears of what went wrong.
    let mut command = machine.program(find_program("php").unwrap());
    let script = "exit(mail('no address', 'x', 'x') ? 0 : 1);";
    command.args(["-n", "-d", &path, "-r", script]);
    let ended = run(&mut command).expect_status(1);
    assert!(
        ended.stderr.contains("is not a mail address"),
        "{}",
        ended.stderr
    );
}

#[test]
fn git_send_email_is_served() {
    let Some(git) = find_program("git") else {
        return skip("git is not installed");
    };
    let machine = Machine::new("");
    let git = |arguments: &[&str]| {
        let mut command = machine.program(&git);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ann");
            command.env(format!("GIT_{who}_EMAIL"), "alerts@contoso.com");
        }
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(arguments);
        run(&mut command)
    };
    if git(&["send-email", "-h"])
        .stderr
        .contains("not a git command")
    {
        return skip("git send-email is not installed");
    }
    let _daemon = Daemon::start(&machine.home);
    git(&["init", "-q", "repository"]).expect_status(0);
    fs::write(machine.home.path().join("repository/a"), ".\na\n").unwrap();
    git(&["-C", "repository", "add", "a"]).expect_status(0);
    git(&["-C", "repository", "commit", "-q", "-m", "a dot"]).expect_status(0);
    let command = format!("--sendmail-cmd={}", machine.sendmail().display());
    let arguments = [
        "-C",
        "repository",
        "send-email",
        "--quiet",
        "--confirm=never",
        "--root",
    ];
    let to = [
        "--to=ceo@contoso.com",
        "--suppress-cc=all",
        &command,
        "HEAD",
    ];
    git(&[&arguments[..], &to].concat()).expect_status(0);
    let text = machine.arrived("ceo@contoso.com", "[PATCH] a dot");
    assert!(
        text.contains("From: Ann <alerts@contoso.com>\r\n"),
        "{text}"
    );
    assert!(text.contains("+.\r\n+a\r\n"), "{text}");
}

#[test]
fn postfix_understands_the_same_of_the_same() {
    let Some(postfix) = find_program("sendmail").filter(|_| find_program("postconf").is_some())
    else {
        return skip("Postfix is not installed");
    };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let postdrop = at("postdrop");
    fs::copy(root().join("tests/support/postdrop.py"), &postdrop).unwrap();
    fs::set_permissions(&postdrop, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "compatibility_level = 3.6\nmaillog_file =\nmyhostname = web1.example.org\n\
         command_directory = {0}\nqueue_directory = {0}\n",
        directory.path().display()
    );
    fs::write(at("main.cf"), config).unwrap();
    let header = "From: alerts@contoso.com\nDate: Mon, 23 Nov 2026 12:00:00 +0000\n\
        Message-ID: <1@contoso.com>\n";
    let home = queue_only("rewrite_from = false");
    for (arguments, message) in [
        (
            &["a@example.org", "b@example.org, C <c@example.org>"][..],
            "Subject: x\n\nhi\n",
        ),
        (
            &["-t"],
            "To: a@example.org, \"B, b\" <b@example.org>\nCc: g: c@example.org;\nBcc: d@example.org\n\nhi\n",
        ),
        (
            &["-t", "z@example.org"],
            "To: a@example.org\nResent-To: r@example.org\nCc: c@example.org\n\nhi\n",
        ),
        (
            &["-t", "-i"],
            "To: a@example.org\nSubject: x\n\n.\n..\n.x\n",
        ),
        (&["-t"], "To: a@example.org\n\nhi\n.\nnot this\n"),
        (
            &["-i", "-f", "N <alerts@contoso.com>", "a@example.org"],
            "To: x@example.org\n\nhi",
        ),
        (
            &["-f", "<>", "--", "a@example.org"],
            "Subject: folded\n  twice\n\tthrice\n\nFrom here\n",
        ),
        (
            &["-ti"],
            "to:a@example.org\r\nSubject: x\r\n\r\nhi\r\n.\r\nthere\r\n",
        ),
        (
            &["-oi", "-oem", "-om", "a@example.org"],
            "\nno header but this\n",
        ),
        (&["a@example.org"], "Subject: x\nno field\nTo: body\n"),
    ] {
        let message = format!("From root Mon Nov 23 12:00:00 2026\n{header}{message}");
        let mut theirs = Command::new(&postfix);
        theirs.arg("-C").arg(directory.path()).args(arguments);
        run_with(&mut theirs, &message).expect_status(0);
        let theirs: Value = serde_json::from_str(&read_to_string(&at("postdrop.json"))).unwrap();

        let mut ours = home.program(Path::new("sendmail"));
        run_with(ours.args(arguments), &message).expect_status(0);
        let list = home.json(["queue", "list"]);
        let id = list.as_array().unwrap().last().unwrap()["id"]
            .as_str()
            .unwrap();
        let shown = home.json(["queue", "show", id]);
        let recipients = shown["recipients"].as_array().unwrap().iter();
        let mut recipients: Vec<&str> = recipients
            .map(|one| one["address"].as_str().unwrap())
            .collect();
        let mut expected: Vec<&str> = theirs["recipients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
            .collect();
        recipients.sort_unstable();
        expected.sort_unstable();
        assert_eq!(recipients, expected, "{arguments:?} {message:?}");
        if arguments.contains(&"-f") {
            assert_eq!(
                shown["from"].as_str().unwrap_or_default(),
                theirs["sender"],
                "{arguments:?}"
            );
        }
        let text = home.run(["queue", "export", id]).expect_status(0).stdout;
        assert_eq!(
            text.replace("\r\n", "\n"),
            as_cleaned_up(theirs["message"].as_str().unwrap()),
            "{arguments:?} {message:?}"
        );
    }
}

/// What Postfix's cleanup(8) makes of what its sendmail queued: `Bcc` goes, and the empty line comes
/// that parts header and body.
fn as_cleaned_up(message: &str) -> String {
    let mut out = String::new();
    let mut lines = message.lines().peekable();
    let mut is_dropped = false;
    while let Some(line) = lines.peek() {
        let is_folded = line.starts_with([' ', '\t']);
        let name = line.split(':').next().unwrap_or_default();
        if !is_folded && (!line.contains(':') || name.is_empty() || name.contains(' ')) {
            break;
        }
        if !is_folded {
            is_dropped = name.eq_ignore_ascii_case("Bcc");
        }
        if !is_dropped {
            out += line;
            out += "\n";
        }
        lines.next();
    }
    out += "\n";
    if lines.peek() == Some(&"") {
        lines.next();
    }
    for line in lines {
        out += line;
        out += "\n";
    }
    out
}
