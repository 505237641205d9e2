//! `sendmail`: what it takes and refuses, where that goes, and who may hand it in.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::machine::{Machine, Programs as _, queue_only, silent};
use support::{find_program, read_to_string, run, run_with, skip};

#[test]
fn smtp_on_standard_input_ends_with_what_the_queue_has() {
    let machine = Machine::new("");
    let _daemon = Daemon::start(&machine.home);
    let mut command = machine.program("sendmail");
    let dialogue = "EHLO localhost\r\nMAIL FROM:<alerts@contoso.com> RET=HDRS ENVID=x1\r\n\
        RCPT TO:<ceo@contoso.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;boss+2B1@contoso.com\r\n\
        RCPT TO:<cfo@contoso.com> NOTIFY=NEVER\r\nDATA\r\nSubject: from SMTP\r\n\r\n\
        ..\r\nhi\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<nobody>\r\nDATA\r\n\r\n.\r\nQUIT\r\n";
    let ended = run_with(command.arg("-bs"), dialogue).expect_status(0);
    let replies: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .collect();
    assert!(
        replies[6].starts_with("250 2.0.0 queued as Q"),
        "{replies:?}"
    );
    assert_eq!(replies.last().unwrap()[..3], *"221", "{replies:?}");
    let text = machine.arrived("ceo@contoso.com", "from SMTP");
    assert!(text.ends_with("\r\n\r\n.\r\nhi\r\n"), "{text}");

    let id = replies[6].rsplit_once(' ').unwrap().1;
    let shown = machine.home.json(["queue", "show", id]);
    assert_eq!(
        shown["dsn"],
        json!({ "ret": "headers", "envid": "x1" }),
        "{shown}"
    );
    let [first, second] = [0, 1].map(|n| &shown["recipients"][n]);
    assert_eq!(first["notify"], json!(["success", "failure"]), "{shown}");
    assert_eq!(first["orcpt"], "rfc822;boss+2B1@contoso.com", "{shown}");
    assert_eq!(second["notify"], json!([]), "{shown}");
    assert!(second.get("orcpt").is_none(), "{shown}");
}

#[test]
fn other_users_hand_in_mail_at_a_socket_of_their_own_and_do_nothing_else_there() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can be somebody else");
    }
    let machine = Machine::new("socket = 'run/submit.sock'\nusers = ['4711']");
    // Others get to the socket, and to nothing else.
    fs::set_permissions(machine.home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let daemon = Daemon::start(&machine.home);
    let socket = machine.home.path().join("run/submit.sock");
    let as_user = |user: u32, program: &str| {
        let mut command = machine.program(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        command.env("POSTRIDER_SUBMIT_SOCKET", &socket);
        command.uid(user).gid(user);
        command
    };
    let binary = env!("CARGO_BIN_EXE_postrider");
    if as_user(4711, binary).arg("--version").output().is_err() {
        return skip("other users cannot run the binary where it lies");
    }

    let mut allowed = as_user(4711, binary);
    allowed.args(["sendmail", "-i", "ceo@contoso.com"]);
    silent(run_with(
        &mut allowed,
        "Subject: from PHP as another\n\nhi\n",
    ));
    machine.arrived("ceo@contoso.com", "from PHP as another");
    daemon.says("sendmail uid 4711");

    let mut other = as_user(4712, binary);
    other.args(["sendmail", "-i", "ceo@contoso.com"]);
    let ended = run_with(&mut other, "Subject: x\n\nhi\n").expect_status(77);
    assert!(ended.stderr.contains("users"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);

    // Not the daemon's other business, nor its other socket.
    let curl = |socket: &Path, path: &str| {
        let mut command = as_user(4711, "curl");
        let url = format!("http://localhost{path}");
        command.args(["-s", "--unix-socket"]).arg(socket).arg(url);
        run(&mut command)
    };
    if find_program("curl").is_none() {
        return skip("curl is not installed");
    }
    let hello = curl(&socket, "/v1/sendmail").expect_status(0);
    assert!(hello.stdout.contains("max_message"), "{}", hello.stdout);
    for path in [
        "/v1/status",
        "/v1/accounts",
        "/v1/accounts/sandbox/token",
        "/v1/hello",
    ] {
        let answer = curl(&socket, path).expect_status(0).stdout;
        assert_eq!(answer, "", "{path}: {answer}");
    }
    assert_ne!(
        curl(&machine.home.state().join("control.sock"), "/v1/hello").status,
        0
    );

    // While the daemon is away, mail is not lost in silence.
    daemon.terminate().expect_status(0);
    let mut away = as_user(4711, binary);
    away.args(["sendmail", "-i", "ceo@contoso.com"]);
    let ended = run_with(&mut away, "Subject: x\n\nhi\n").expect_status(75);
    assert!(ended.stderr.contains("postrider serve"), "{}", ended.stderr);
}

#[test]
fn without_a_daemon_it_is_queued_and_listed() {
    let home = queue_only("");
    let mut empty = home.program(Path::new("mailq"));
    assert_eq!(
        run(&mut empty).expect_status(0).stdout,
        "Mail queue is empty\n"
    );

    let mut command = home.program(Path::new("sendmail"));
    command.args(["-F", "Ann", "ops@example.org"]);
    // There is somebody to be told that nobody delivers it.
    let ended = run_with(&mut command, "Subject: x\n\nhi\n.\nnot this\n").expect_status(0);
    assert!(ended.stderr.contains("postrider serve"), "{}", ended.stderr);
    let list = home.json(["queue", "list"]);
    let id = list[0]["id"].as_str().unwrap();
    let text = home.run(["queue", "export", id]).expect_status(0).stdout;
    assert!(
        text.starts_with("From: Ann <alerts@contoso.com>\r\nMessage-ID: <"),
        "{text}"
    );
    assert!(text.ends_with("Subject: x\r\n\r\nhi\r\n"), "{text}");

    for program in ["mailq", "sendmail"] {
        let mut listing = home.program(Path::new(program));
        let listed = run(listing.arg("-bp")).expect_status(0).stdout;
        assert!(
            listed.contains(id) && listed.contains("ops@example.org"),
            "{listed}"
        );
        assert!(listed.ends_with("in 1 Request.\n"), "{listed}");
    }
    let mut aliases = home.program(Path::new("newaliases"));
    silent(run(&mut aliases));
}

#[test]
fn root_leaves_another_users_queue_alone() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can get in another user's way");
    }
    let home = queue_only("");
    fs::create_dir(home.state()).unwrap();
    chown(home.state(), Some(4711), Some(4711)).unwrap();
    let mut command = home.program(Path::new("sendmail"));
    let ended = run_with(command.arg("ops@example.org"), "\nhi\n").expect_status(75);
    assert!(
        ended.stderr.contains("start `postrider serve`"),
        "{}",
        ended.stderr
    );
    assert_eq!(fs::read_dir(home.state()).unwrap().count(), 0);
}

#[test]
fn without_a_daemon_it_delivers_when_it_is_asked_to() {
    let machine = Machine::new("");
    let mut queueing = machine.program("sendmail");
    let message = "Subject: later\n\nhi\n";
    run_with(queueing.arg("ceo@contoso.com"), message).expect_status(0);
    assert_eq!(machine.sandbox.mail("ceo@contoso.com").len(), 0);
    let mut flushing = machine.program("sendmail");
    run(flushing.arg("-q")).expect_status(0);
    machine.arrived("ceo@contoso.com", "later");

    let mut at_once = machine.program("sendmail");
    at_once.args(["-odi", "admin@contoso.com"]);
    run_with(&mut at_once, "Subject: at once\n\nhi\n").expect_status(0);
    machine.arrived("admin@contoso.com", "at once");
}

#[test]
fn a_message_whose_answer_was_lost_is_queued_once() {
    let home = queue_only("");
    let daemon = Daemon::start(&home);
    let (between, control) = (
        home.path().join("between.sock"),
        home.state().join("control.sock"),
    );
    let listener = UnixListener::bind(&between).unwrap();
    let relay = thread::spawn(move || {
        let mut queued = Vec::new();
        // Of the first connection only the greeting is answered; the second is whole.
        for answers in [1, 2] {
            let (client, _) = listener.accept().unwrap();
            let server = UnixStream::connect(&control).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let forth = thread::spawn(move || drop(io::copy(&mut from, &mut to)));
            for number in 1..=2 {
                let answer = http_answer(&server);
                if number <= answers {
                    (&client).write_all(answer.as_bytes()).unwrap();
                }
                if number == 2 {
                    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
                    queued.push(serde_json::from_str::<Value>(body).unwrap());
                }
            }
            for stream in [client, server] {
                let _ = stream.shutdown(Shutdown::Both);
            }
            forth.join().unwrap();
        }
        queued
    });

    let mut command = home.program(Path::new("sendmail"));
    command
        .env("POSTRIDER_SUBMIT_SOCKET", &between)
        .arg("ops@example.org");
    silent(run_with(&mut command, "Subject: once\n\nhi\n"));

    let queued = relay.join().unwrap();
    assert_eq!(queued[0]["duplicate"], false, "{queued:?}");
    assert_eq!(queued[1]["duplicate"], true, "{queued:?}");
    assert_eq!(queued[0]["id"], queued[1]["id"]);
    assert_eq!(home.json(["queue", "list"]).as_array().unwrap().len(), 1);
    drop(daemon);
}

/// The next answer: head and body.
fn http_answer(mut stream: &UnixStream) -> String {
    let mut answer = String::new();
    let mut octets = [0; 4096];
    loop {
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return answer;
            }
        }
        let count = stream.read(&mut octets).unwrap();
        assert_ne!(count, 0, "{answer}");
        answer += std::str::from_utf8(&octets[..count]).unwrap();
    }
}

#[test]
fn what_is_refused_is_refused_in_one_line_with_a_status_that_programs_know() {
    let home = queue_only("");
    for (arguments, message, status, words) in [
        (&["-z"][..], "", 64, "no option -z"),
        (&[], "Subject: x\n\n", 64, "-t"),
        (&["-t"], "Subject: x\n\n", 64, "To, Cc, Bcc"),
        (&["-q15m"], "", 64, "postrider serve"),
        (&["a b@example.org"], "\n", 65, "not a mail address"),
        (&["root"], "\n", 67, "local_to"),
        (
            &["--account", "other", "a@example.org"],
            "\n",
            78,
            "account",
        ),
    ] {
        let mut command = home.program(Path::new("sendmail"));
        let ended = run_with(command.args(arguments), message).expect_status(status);
        assert!(ended.stderr.starts_with("sendmail: "), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    let list = home.json(["queue", "list"]);
    assert_eq!(list, Value::Array(Vec::new()));
}

#[test]
fn a_large_message_is_never_in_memory() {
    const MEBIBYTES: usize = 40;
    let home = queue_only("");
    let daemon = Daemon::start(&home);
    let before = daemon.memory();
    let mut command = home.program(Path::new("sendmail"));
    command.arg("ops@example.org").stdin(Stdio::piped());
    let mut sending = command.spawn().unwrap();
    let mut message = sending.stdin.take().unwrap();
    message.write_all(b"Subject: large\n\n").unwrap();
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    for _ in 0..MEBIBYTES * 1024 {
        message.write_all(&line).unwrap();
    }
    let status = read_to_string(Path::new(&format!("/proc/{}/status", sending.id())));
    let anonymous = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kilobytes: usize = anonymous
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(kilobytes < MEBIBYTES * 1024 / 4, "{anonymous}");
    drop(message);
    assert!(sending.wait().unwrap().success());
    let grown = daemon.memory().saturating_sub(before);
    assert!(grown < (MEBIBYTES << 20) as u64 / 4, "{grown}");
    let list = home.json(["queue", "list"]);
    assert!(
        list[0]["octets"].as_u64().unwrap() > (MEBIBYTES << 20) as u64,
        "{list}"
    );
}
