//! `sendmail`: programs nobody here wrote send mail as they always have, and it arrives.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::home::Home;
use support::sandbox::Sandbox;
use support::{Ended, find_program, postrider, read_to_string, root, run, run_with, skip};

/// A machine whose `sendmail` is Postrider's.
struct Machine {
    sandbox: Sandbox,
    home: Home,
}

impl Machine {
    /// With more lines for its configuration, under `[sendmail]`.
    fn new(more: &str) -> Self {
        let sandbox = Sandbox::start();
        let config = format!(
            "{}\n[sendmail]\naccount = 'sandbox'\nlocal_to = 'admin@contoso.com'\n{more}\n",
            sandbox.config()
        );
        let mut home = Home::new(&config);
        home.set(sandbox.client_secret());
        install(home.path());
        Self { sandbox, home }
    }

    fn program(&self, program: impl AsRef<Path>) -> Command {
        self.home.program(program.as_ref())
    }

    fn sendmail(&self) -> PathBuf {
        self.home.path().join("bin/sendmail")
    }

    /// Waits for a message with this subject in somebody's mailbox.
    #[track_caller]
    fn arrived(&self, mailbox: &str, subject: &str) -> String {
        let line = format!("Subject: {subject}\r\n");
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let mail = self.sandbox.mail(mailbox);
            let mut texts = mail.iter().map(|path| read_to_string(path));
            if let Some(text) = texts.find(|text| text.contains(&line)) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "{subject:?} did not arrive at {mailbox}"
            );
            thread::yield_now();
        }
    }
}

/// Puts `sendmail` and its other names into `bin`.
fn install(home: &Path) {
    fs::create_dir(home.join("bin")).unwrap();
    // The plugins are built.
    let _ = postrider();
    for name in ["sendmail", "mailq", "newaliases"] {
        symlink(env!("CARGO_BIN_EXE_postrider"), home.join("bin").join(name)).unwrap();
    }
}

trait Programs {
    fn program(&self, program: &Path) -> Command;
}

impl Programs for Home {
    /// Any program, in this user's environment.
    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let own = self.postrider([]);
        let variables = own.get_envs();
        command.env_clear();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        let path = format!("{}:/usr/bin:/bin", self.path().join("bin").display());
        command.env("PATH", path).env("LC_ALL", "C.UTF-8");
        command.env("LOGNAME", "root").env("USER", "root");
        command.env("POSTRIDER_CONFIG", self.path().join("postrider.toml"));
        command.current_dir(self.path());
        command
    }
}

/// Nothing is said where all went well.
#[track_caller]
fn silent(ended: Ended) {
    let ended = ended.expect_status(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}

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
fn smtp_on_standard_input_ends_with_what_the_queue_has() {
    let machine = Machine::new("");
    let _daemon = Daemon::start(&machine.home);
    let mut command = machine.program("sendmail");
    let dialogue = "EHLO localhost\r\nMAIL FROM:<alerts@contoso.com> RET=HDRS ENVID=x1\r\n\
        RCPT TO:<ceo@contoso.com> NOTIFY=SUCCESS,FAILURE\r\nDATA\r\nSubject: from SMTP\r\n\r\n\
        ..\r\nhi\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<nobody>\r\nDATA\r\n\r\n.\r\nQUIT\r\n";
    let ended = run_with(command.arg("-bs"), dialogue).expect_status(0);
    let replies: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .collect();
    assert!(
        replies[5].starts_with("250 2.0.0 queued as Q"),
        "{replies:?}"
    );
    assert_eq!(replies.last().unwrap()[..3], *"221", "{replies:?}");
    let text = machine.arrived("ceo@contoso.com", "from SMTP");
    assert!(text.ends_with("\r\n\r\n.\r\nhi\r\n"), "{text}");

    let id = replies[5].rsplit_once(' ').unwrap().1;
    let shown = machine.home.json(["queue", "show", id]);
    let asked = json!({ "notify": ["success", "failure"], "ret": "headers", "envid": "x1" });
    assert_eq!(shown["dsn"], asked, "{shown}");
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

/// A home with one account whose server is not there: what is queued stays.
fn queue_only(more: &str) -> Home {
    let home = Home::new(&format!(
        "[account.alerts]\nusername = 'alerts@contoso.com'\n\
         server = {{ host = 'localhost', port = 1, tls = 'implicit' }}\n\
         auth = {{ plugin = 'basic', password = {{ env = 'P' }} }}\n[sendmail]\n{more}\n"
    ));
    install(home.path());
    home
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
    assert!(ended.stderr.contains("start `postrider serve`"), "{}", ended.stderr);
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
