//! The vault as its operator meets it: secrets put there, keys changed, records moved, damage
//! told.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret as _;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::{Value, json};
use support::home::Home;
use support::sandbox::{PERSON, Sandbox};
use support::worlds::{at_the_sandbox, one_time_refresh_tokens};
use support::{Ended, find_program, run, run_with, skip, write_private};

const CONFIG: &str = r#"
[account.printer]
username = "printer@example.org"
server = { host = "smtp.example.org" }
auth = { plugin = "basic", password = { vault = "printer/password" } }
"#;

/// Puts a secret into the vault of `home`.
#[track_caller]
fn set(home: &Home, name: &str, value: &str) -> Ended {
    run_with(&mut home.postrider(["secret", "set", name]), value).expect_status(0)
}

/// Runs `command` at a terminal of its own, types `keys` once `question` is asked, and gives the
/// screen and whether the terminal shows again what is typed.
fn at_terminal(command: &Command, question: &str, keys: &[u8]) -> (String, bool) {
    let mut front = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    grantpt(&front).unwrap();
    unlockpt(&front).unwrap();
    let name = ptsname(&front, Vec::new()).unwrap();
    let name = Path::new(name.to_str().unwrap());
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut session = Command::new("setsid");
    session
        .args(["--ctty", "--wait"])
        .arg(command.get_program());
    session.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    session.stdin(terminal.try_clone().unwrap());
    session.stdout(terminal.try_clone().unwrap());
    session.stderr(terminal.try_clone().unwrap());
    let mut child = session.spawn().unwrap();

    let (mut screen, mut octets) = (String::new(), [0; 1 << 10]);
    while !screen.contains(question) {
        let read = front.read(&mut octets).unwrap();
        screen.push_str(&String::from_utf8_lossy(&octets[..read]));
    }
    front.write_all(keys).unwrap();
    child.wait().unwrap();
    let modes = tcgetattr(&terminal).unwrap().local_modes;
    let all = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    (screen, modes.contains(all))
}

/// What `{"error": …}` says.
#[track_caller]
fn error(ended: &Ended) -> Value {
    ended.json()["error"].clone()
}

/// Every file below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The files of the vault that hold records: those that putting a secret there adds.
fn record_of(home: &Home, name: &str, value: &str) -> PathBuf {
    set(home, name, value);
    let before: Vec<_> = files_below(&home.state())
        .iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    set(home, name, value);
    let changed = before
        .into_iter()
        .find(|(path, octets)| {
            let is_record = !path.ends_with("ledger") && path.to_string_lossy().contains("records");
            is_record && fs::read(path).is_ok_and(|now| now != *octets)
        })
        .unwrap();
    changed.0
}

#[test]
fn a_secret_is_put_there_listed_replaced_and_removed() {
    let home = Home::new(CONFIG);
    let listed = home.json(["secret", "list"]);
    assert_eq!(listed["secrets"], json!([]));
    assert_eq!(
        listed["missing"],
        json!([{ "name": "printer/password", "used_by": ["account.printer.auth.password"] }])
    );
    assert!(
        !home.state().join("vault").exists(),
        "looking makes no vault"
    );

    let first = run_with(
        &mut home.postrider([
            "secret",
            "set",
            "printer/password",
            "--expires",
            "2100-03-01",
        ]),
        "hunter2\n",
    )
    .expect_status(0);
    assert!(first.stdout.contains("in the vault"), "{}", first.stdout);
    assert!(first.stdout.contains("2100-03-01, in "), "{}", first.stdout);
    assert!(
        first.stderr.contains("key lies in a file beside it"),
        "{}",
        first.stderr
    );

    let listed = home.json(["secret", "list"]);
    assert_eq!(listed["missing"], json!([]));
    let secret = &listed["secrets"][0];
    assert_eq!(secret["name"], "printer/password");
    assert_eq!(secret["expires"], "2100-03-01T00:00:00Z");
    assert!(secret["days"].as_i64().unwrap() > 20_000);
    assert_eq!(secret["used_by"], json!(["account.printer.auth.password"]));

    let second = set(&home, "printer/password", "hunter3");
    assert!(second.stdout.contains("is replaced"), "{}", second.stdout);
    assert!(second.stdout.contains("--expires"), "{}", second.stdout);
    assert!(
        second.stderr.is_empty(),
        "said once and not again: {}",
        second.stderr
    );
    let listed = home.run(["secret", "list"]).expect_status(0);
    assert!(!listed.stdout.contains("2100"), "{}", listed.stdout);

    let kept = home
        .run(["secret", "remove", "printer/password"])
        .expect_status(78);
    assert!(
        kept.stderr.contains("account.printer.auth.password"),
        "{}",
        kept.stderr
    );
    let mistyped = home
        .run(["secret", "remove", "printer/pasword"])
        .expect_status(78);
    assert!(
        mistyped.stderr.contains("printer/password"),
        "{}",
        mistyped.stderr
    );
    home.run(["secret", "remove", "printer/password", "--force"])
        .expect_status(0);
    assert_eq!(home.json(["secret", "list"])["secrets"], json!([]));

    for path in files_below(&home.state()) {
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
        let octets = fs::read(&path).unwrap();
        for canary in [&b"hunter"[..], b"printer"] {
            assert!(
                !octets.windows(canary.len()).any(|window| window == canary),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_secret_in_the_arguments_is_refused_and_not_repeated() {
    let home = Home::new(CONFIG);

    for arguments in [
        &["secret", "set", "a", "hunter2"][..],
        &["secret", "set", "a", "hunter2", "hunter3"],
        &["secret", "set", "a", "--value=hunter2"],
        &["secret", "set", "a", "--value", "hunter2"],
    ] {
        let ended = home.run(arguments.iter().copied()).expect_status(64);
        let said = ended.stdout + &ended.stderr;
        assert!(!said.contains("hunter2"), "{said}");
    }
    let ended = home.run(["secret", "set", "a", "hunter2"]);
    assert!(
        ended.stderr.contains("list of processes"),
        "{}",
        ended.stderr
    );
    assert!(!home.state().exists());
}

#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_as_it_was() {
    let home = Home::new(CONFIG);
    let command = home.postrider(["secret", "set", "printer/password"]);

    let (screen, sane) = at_terminal(&command, "Value: ", b"hunt\x03");

    assert!(!screen.contains("hunt"), "{screen}");
    assert!(sane, "what is typed from now on is not shown");
}

#[test]
fn what_is_no_secret_is_refused() {
    let home = Home::new(CONFIG);
    let long = "x".repeat((64 << 10) + 1);

    for (name, value, status, said) in [
        ("a", "", 78, "is empty"),
        ("a", "\n", 78, "is empty"),
        ("a", "a\0b", 78, "holds NUL"),
        ("a", long.as_str(), 78, "64 KiB"),
        ("a b", "x", 64, "a secret's name has"),
        ("../a", "x", 64, "a secret's name has"),
    ] {
        let ended = run_with(&mut home.postrider(["secret", "set", name]), value);
        assert_eq!(ended.status, status, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let soon = run_with(
        &mut home.postrider(["secret", "set", "a", "--expires", "soon"]),
        "x",
    )
    .expect_status(64);
    assert!(soon.stderr.contains("2027-03-01"), "{}", soon.stderr);
    set(&home, "a", &long[1..]);
}

#[test]
fn an_account_signs_in_with_a_secret_of_the_vault() {
    let sandbox = Sandbox::start();
    let (variable, secret) = sandbox.client_secret();
    let config = sandbox.config().replace(
        &format!("env = \"{variable}\""),
        "vault = \"sandbox/secret\"",
    );
    assert!(config.contains("vault ="), "{config}");
    let home = Home::new(&config);

    let without = home
        .run(["--json", "account", "test", "sandbox", "--no-send"])
        .expect_status(78);
    assert!(
        without.stdout.contains("secret.missing"),
        "{}",
        without.stdout
    );
    assert!(
        without
            .stdout
            .contains("postrider secret set sandbox/secret"),
        "{}",
        without.stdout
    );

    set(&home, "sandbox/secret", secret);
    home.run(["account", "test", "sandbox", "--to", "ops@contoso.com"])
        .expect_status(0);
    assert_eq!(sandbox.mail("ops@contoso.com").len(), 1);
}

#[test]
fn in_a_sandbox_the_vault_is_neither_read_nor_made() {
    let home = Home::new("");
    write_private(
        &home.path().join("script.lua"),
        r#"
        local pr = require "postrider"
        local ops = pr.account {
          name = "ops", provider = "microsoft365",
          username = "svc-mail@contoso.com", sender = "alerts@contoso.com",
          auth = { plugin = "oauth", flow = "client_credentials",
                   tenant = "contoso.onmicrosoft.com",
                   client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
                   client_secret = pr.secret.vault "ops" },
        }
        assert(ops:send { to = "ops@contoso.com", subject = "x", text = "x" })
        "#,
    );

    let ended = home.run(["run", "--sandbox", "script.lua"]);

    assert_ne!(ended.status, 0);
    assert!(
        ended
            .stderr
            .contains("in the sandbox the vault is not opened"),
        "{}",
        ended.stderr
    );
    assert!(!home.state().join("vault").exists());
}

#[test]
fn another_key_opens_the_vault_once_the_configuration_names_it() {
    let home = Home::new(CONFIG);
    set(&home, "printer/password", "hunter2");
    let status = home.json(["vault", "status"]);
    assert_eq!(status["key"]["source"], "generated_file");
    assert!(status["key"]["advice"].as_str().unwrap().contains("rekey"));
    let old_data_key = status["data_keys"][0]["id"].clone();

    let key = home.path().join("kek");
    write_private(&key, "c2l4dGVlbiBvY3RldHMgYW5kIHNpeHRlZW4gbW9yZQ==\n");
    let key_path = key.to_str().unwrap();
    // Configured, and not yet what opens it: nobody may believe that it protects anything.
    home.configure(&format!("{CONFIG}\n[vault]\nkey_file = \"{key_path}\"\n"));
    let believing = home.run(["secret", "list"]).expect_status(0);
    let advice = format!("postrider vault rekey --key-file {key_path}");
    assert!(believing.stderr.contains(&advice), "{}", believing.stderr);
    home.configure(CONFIG);
    let rekeyed = home
        .run(["vault", "rekey", "--key-file", key_path])
        .expect_status(0);
    let line = format!("key_file = \"{key_path}\"");
    assert!(rekeyed.stdout.contains(&line), "{}", rekeyed.stdout);
    assert!(!home.state().join("vault.key").exists());

    let unknown = home.run(["vault", "status", "--json"]).expect_status(78);
    assert_eq!(error(&unknown)["code"], "vault.no_key");
    home.configure(&format!("{CONFIG}\n[vault]\n{line}\n"));
    let status = home.json(["vault", "status"]);
    assert_eq!(
        status["key"],
        json!({ "source": "key_file", "advice": null })
    );
    assert_eq!(status["records"]["secret"], 1);
    assert_eq!(status["data_keys"].as_array().unwrap().len(), 1);
    assert_ne!(status["data_keys"][0]["id"], old_data_key);
    let again = home.json(["vault", "rekey", "--key-file", key_path, "--keep-data-key"]);
    assert_eq!(again["configure"], Value::Null);
    assert_eq!(again["records"], 0);

    let passphrase = run_with(
        &mut home.postrider(["vault", "rekey", "--passphrase"]),
        "correct horse\n",
    )
    .expect_status(0);
    assert!(
        passphrase.stdout.contains("passphrase = {"),
        "{}",
        passphrase.stdout
    );
    let mut home = home;
    home.configure(&format!(
        "{CONFIG}\n[vault]\npassphrase = {{ env = \"VAULT_PASSPHRASE\" }}\n"
    ));
    let unset = home.run(["secret", "list", "--json"]).expect_status(78);
    assert_eq!(error(&unset)["code"], "secret.missing");
    assert_eq!(error(&unset)["at"], "vault.passphrase");
    home.set(("VAULT_PASSPHRASE", "correct horse"));
    assert_eq!(
        home.json(["vault", "status"])["key"]["source"],
        "passphrase"
    );
    home.set(("VAULT_PASSPHRASE", "wrong horse"));
    let wrong = home.run(["secret", "list", "--json"]).expect_status(78);
    assert_eq!(error(&wrong)["code"], "vault.wrong_key");
    assert!(!wrong.stdout.contains("horse"), "{}", wrong.stdout);
}

#[test]
fn the_systemd_credential_goes_before_everything_else() {
    let credentials = tempfile::tempdir().unwrap();
    write_private(
        &credentials.path().join("postrider.kek"),
        "c2l4dGVlbiBvY3RldHMgYW5kIHNpeHRlZW4gbW9yZQ==",
    );
    let home = Home::new(&format!("{CONFIG}\n[vault]\nkey_file = \"nowhere\"\n"));
    let with = |arguments: &[&str], input: &str| {
        run_with(
            home.postrider(arguments.iter().copied())
                .env("CREDENTIALS_DIRECTORY", credentials.path()),
            input,
        )
    };

    let made = with(&["secret", "set", "a"], "hunter2").expect_status(0);

    assert!(made.stderr.is_empty(), "nothing to advise: {}", made.stderr);
    let status = with(&["vault", "status", "--json"], "").expect_status(0);
    assert_eq!(status.json()["key"]["source"], "credential");
    let without = home.run(["vault", "status", "--json"]).expect_status(78);
    assert_eq!(error(&without)["code"], "vault.no_key");
}

/// An age identity in a file, and its recipient.
fn identity(home: &Home, name: &str) -> (String, String) {
    let identity = age::x25519::Identity::generate();
    let path = home.path().join(name);
    write_private(&path, identity.to_string().expose_secret());
    (
        path.to_str().unwrap().to_owned(),
        identity.to_public().to_string(),
    )
}

#[test]
fn records_move_from_one_vault_to_another() {
    let (laptop, server) = (Home::new(CONFIG), Home::new(CONFIG));
    for (name, value) in [
        ("printer/password", "hunter2"),
        ("b", "two"),
        ("c", "three"),
    ] {
        set(&laptop, name, value);
    }
    let (own, recipient) = identity(&server, "own.age");
    let (stranger, _) = identity(&server, "stranger.age");

    let file = laptop.path().join("vault.age");
    let file = file.to_str().unwrap();
    let export = ["vault", "export", "--to", &recipient, "--output", file];
    assert_eq!(laptop.json(export)["records"].as_array().unwrap().len(), 3);
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    let sealed = fs::read_to_string(file).unwrap();
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let exists = laptop.run(export).expect_status(64);
    assert!(exists.stderr.contains("--force"), "{}", exists.stderr);
    assert_eq!(fs::read_to_string(file).unwrap(), sealed);
    laptop
        .run(export.into_iter().chain(["--force"]))
        .expect_status(0);

    let refused = server
        .run(["--json", "vault", "import", file, "--identity", &stranger])
        .expect_status(65);
    assert_eq!(error(&refused)["code"], "vault.transfer");
    fs::set_permissions(&own, Permissions::from_mode(0o644)).unwrap();
    let open = server
        .run(["vault", "import", file, "--identity", &own])
        .expect_status(78);
    assert!(open.stderr.contains("others can read"), "{}", open.stderr);
    fs::set_permissions(&own, Permissions::from_mode(0o600)).unwrap();

    set(&server, "b", "another");
    let import = ["vault", "import", file, "--identity", &own];
    let named = |name: &str| json!([{ "kind": "secret", "name": name }]);
    let imported = server.json(import);
    assert_eq!(imported["added"].as_array().unwrap().len(), 2);
    assert_eq!(imported["kept"], named("b"));
    let imported = server.json(import.into_iter().chain(["--replace"]));
    assert_eq!(imported["replaced"], named("b"));
    assert_eq!(imported["same"].as_array().unwrap().len(), 2);
    assert_eq!(server.json(["vault", "status"])["records"]["secret"], 3);
    assert_eq!(server.json(["secret", "list"])["missing"], json!([]));
}

#[test]
fn an_export_may_be_piped_and_sealed_with_a_passphrase() {
    let (laptop, server) = (Home::new(CONFIG), Home::new(CONFIG));
    set(&laptop, "printer/password", "hunter2");
    set(&laptop, "b", "two");
    let (own, recipient) = identity(&server, "own.age");

    let piped = laptop
        .run([
            "vault",
            "export",
            "--to",
            &recipient,
            "--only",
            "printer/password",
        ])
        .expect_status(0);
    assert!(
        piped.stderr.contains("exported 1 record"),
        "{}",
        piped.stderr
    );
    run_with(
        &mut server.postrider(["vault", "import", "-", "--identity", &own]),
        &piped.stdout,
    )
    .expect_status(0);
    let listed = server.json(["secret", "list"]);
    assert_eq!(listed["secrets"].as_array().unwrap().len(), 1);

    let file = laptop.path().join("vault.age");
    let file = file.to_str().unwrap();
    let export = [
        "vault",
        "export",
        "--passphrase",
        "--only",
        "secret",
        "--output",
        file,
    ];
    run_with(&mut laptop.postrider(export), "correct horse\n").expect_status(0);
    let import = ["--json", "vault", "import", file];
    let wrong = run_with(&mut server.postrider(import), "wrong horse\n").expect_status(65);
    assert_eq!(error(&wrong)["code"], "vault.transfer");
    let right = run_with(&mut server.postrider(import), "correct horse\n").expect_status(0);
    assert_eq!(right.json()["added"][0]["name"], "b");

    let nothing = laptop
        .run(["vault", "export", "--to", &recipient, "--only", "nothing"])
        .expect_status(78);
    assert!(
        nothing.stderr.contains("nothing for nothing"),
        "{}",
        nothing.stderr
    );
    assert!(nothing.stdout.is_empty());
    laptop
        .run(["vault", "export", "--to", "age1nonsense"])
        .expect_status(65);
}

#[test]
fn an_account_moves_with_its_tokens_and_its_secrets() {
    let sandbox = Sandbox::start();
    let (variable, secret) = sandbox.client_secret();
    let config = sandbox.config().replace(
        &format!("env = \"{variable}\""),
        "vault = \"sandbox/secret\"",
    );
    let (laptop, server) = (Home::new(&config), Home::new(&config));
    set(&laptop, "sandbox/secret", secret);
    set(&laptop, "other", "not of this account");
    let token = laptop.token("sandbox");
    let requests = sandbox.token_requests();
    let (own, recipient) = identity(&server, "own.age");

    let piped = laptop
        .run(["vault", "export", "--to", &recipient, "--only", "sandbox"])
        .expect_status(0);
    let imported = run_with(
        &mut server.postrider(["--json", "vault", "import", "-", "--identity", &own]),
        &piped.stdout,
    )
    .expect_status(0)
    .json();

    let kinds: Vec<&str> = imported["added"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["secret", "grant"], "{imported}");
    assert_eq!(server.token("sandbox"), token);
    assert_eq!(sandbox.token_requests(), requests);
}

#[test]
fn a_key_that_was_exchanged_is_noticed() {
    let home = Home::new(CONFIG);
    set(&home, "printer/password", "hunter2");
    let key = home.state().join("vault.key");
    fs::remove_file(&key).unwrap();
    let gone = home.run(["vault", "status", "--json"]).expect_status(78);
    assert_eq!(error(&gone)["code"], "vault.no_key");

    write_private(&key, "c2l4dGVlbiBvY3RldHMgYW5kIHNpeHRlZW4gbW9yZQ==\n");

    for arguments in [
        &["vault", "status"][..],
        &["secret", "list"],
        &["secret", "remove", "b"],
    ] {
        let ended = home
            .run(arguments.iter().copied().chain(["--json"]))
            .expect_status(78);
        assert_eq!(error(&ended)["code"], "vault.wrong_key");
    }
    let ended = run_with(&mut home.postrider(["secret", "set", "b"]), "x").expect_status(78);
    assert!(ended.stderr.contains("try: "), "{}", ended.stderr);
}

#[test]
fn what_others_could_read_or_change_is_not_used() {
    let home = Home::new(CONFIG);
    set(&home, "printer/password", "hunter2");
    let with_mode = |path: &Path, mode: u32, code: &str| {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let ended = home.run(["secret", "list", "--json"]).expect_status(78);
        assert_eq!(error(&ended)["code"], code, "{}", path.display());
        assert_eq!(error(&ended)["at"], path.to_str().unwrap());
        fs::set_permissions(path, before).unwrap();
        home.run(["secret", "list"]).expect_status(0);
    };
    let state = home.state();

    with_mode(&state, 0o770, "config.state_dir_unsafe");
    with_mode(&state.join("vault"), 0o777, "vault.unsafe_permissions");
    with_mode(
        &state.join("vault/vault.json"),
        0o644,
        "vault.unsafe_permissions",
    );
    with_mode(&state.join("vault.key"), 0o444, "vault.unsafe_permissions");
}

#[test]
fn a_damaged_record_is_named_and_the_others_are_of_use() {
    let sandbox = Sandbox::start();
    let (variable, secret) = sandbox.client_secret();
    let config = sandbox.config().replace(
        &format!("env = \"{variable}\""),
        "vault = \"sandbox/secret\"",
    );
    let home = Home::new(&config);
    let path = record_of(&home, "sandbox/secret", secret);
    set(&home, "other", "two");
    let old = fs::read(&path).unwrap();
    set(&home, "sandbox/secret", secret);
    let new = fs::read(&path).unwrap();

    for (octets, code) in [
        (&old[..], "vault.rolled_back"),
        (&new[..new.len() / 2], "vault.truncated"),
        (&[], "vault.truncated"),
    ] {
        fs::write(&path, octets).unwrap();
        let status = home.run(["vault", "status", "--json"]).expect_status(65);
        let status = status.json();
        assert_eq!(status["ok"], false);
        assert_eq!(status["problems"].as_array().unwrap().len(), 1);
        assert_eq!(status["problems"][0]["error"]["code"], code);
        assert_eq!(status["problems"][0]["name"], "sandbox/secret");
        assert_eq!(status["records"]["secret"], 1, "the other one is sound");

        let listed = home
            .run(["secret", "list", "--json"])
            .expect_status(65)
            .json();
        assert_eq!(listed["secrets"][0]["name"], "other");
        assert_eq!(listed["secrets"][1]["problem"]["code"], code);

        let used = home
            .run(["--json", "account", "test", "sandbox", "--no-send"])
            .expect_status(65);
        assert!(used.stdout.contains(code), "{}", used.stdout);
        assert!(
            used.stdout.contains("postrider secret set"),
            "{}",
            used.stdout
        );
    }
    let mut flipped = new.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&path, flipped).unwrap();
    let said = home.run(["vault", "status"]).expect_status(65);
    assert!(
        said.stdout.contains("damaged  secret sandbox/secret"),
        "{}",
        said.stdout
    );

    set(&home, "sandbox/secret", secret);
    home.run(["vault", "status"]).expect_status(0);
    home.run(["account", "test", "sandbox", "--no-send"])
        .expect_status(0);
}

#[test]
fn a_disk_that_takes_no_writes_is_told_apart_from_a_full_one() {
    let home = Home::new(CONFIG);
    set(&home, "printer/password", "hunter2");
    let binary = env!("CARGO_BIN_EXE_postrider");
    let state = home.state();
    let mounted = |mount: &str| {
        let script = format!("{mount} && exec \"$0\" \"$@\"");
        let mut command = Command::new(find_program("unshare")?);
        command
            .args([
                "--mount",
                "--map-root-user",
                "--",
                "sh",
                "-c",
                &script,
                binary,
            ])
            .env("STATE", &state)
            .current_dir(home.path());
        Some(command)
    };
    let can_mount = mounted("mount --bind \"$STATE\" \"$STATE\"").is_some_and(|mut command| {
        command.args(["--version"]);
        run(&mut command).status == 0
    });
    if !can_mount {
        return support::skip("nothing can be mounted here");
    }

    let read_only = "mount --bind \"$STATE\" \"$STATE\" && mount -o remount,ro,bind \"$STATE\"";
    let mut command = mounted(read_only).unwrap();
    command.args(["--state-dir", "state", "--json", "secret", "set", "b"]);
    let ended = run_with(&mut command, "two").expect_status(74);
    assert_eq!(error(&ended)["code"], "vault.read_only");
    let mut command = mounted(read_only).unwrap();
    command.args(["--state-dir", "state", "secret", "list"]);
    let listed = run(&mut command).expect_status(0);
    assert!(
        listed.stdout.contains("printer/password"),
        "reading goes on"
    );

    let full = "cp -a \"$STATE\" copy && mount -t tmpfs -o size=256k,mode=700 none \"$STATE\" && \
                cp -a copy/. \"$STATE\" && { cat /dev/zero > \"$STATE/ballast\" 2>&-; true; }";
    let mut command = mounted(full).unwrap();
    command.args(["--state-dir", "state", "--json", "secret", "set", "b"]);
    let ended = run_with(&mut command, "two").expect_status(75);
    assert_eq!(error(&ended)["code"], "vault.disk_full");
    assert_eq!(error(&ended)["retryable"], true);
}

#[test]
fn what_it_holds_in_memory_stays_there() {
    let home = Home::new(CONFIG);
    let mut child = home
        .postrider(["secret", "set", "a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The vault is made before the secret is asked for, so this is well past the start.
    let vault = home.state().join("vault/vault.json");
    while !vault.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        support::pause();
    }

    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let (limits, status) = (about("limits"), about("status"));
    let _ = child.stdin.take().unwrap().write_all(b"hunter2");
    assert!(child.wait().unwrap().success());

    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[test]
fn what_no_account_refers_to_any_more_is_pruned() {
    let sandbox = Sandbox::start();
    let mut home = Home::new(sandbox.config());
    home.set(sandbox.client_secret());
    let prune = |arguments: &[&str]| {
        let all = ["--json", "vault", "prune"]
            .into_iter()
            .chain(arguments.iter().copied());
        home.run(all).expect_status(0).json()
    };
    let none = json!({ "removed": [], "kept": [] });
    assert_eq!(prune(&[]), none, "there is no vault");
    home.token("sandbox");
    assert_eq!(prune(&["--yes"]), none, "an account refers to it");

    // The account goes, and its tokens stay.
    home.configure(CONFIG);
    let listed = prune(&["--dry-run"]);
    assert_eq!(listed["kept"][0]["account"], "sandbox", "{listed}");
    assert_eq!(
        listed["kept"][0]["living"], false,
        "an application's: {listed}"
    );
    let removed = prune(&[]);
    assert_eq!(removed["removed"][0]["name"], listed["kept"][0]["name"]);
    assert_eq!(prune(&["--yes"]), none);
}

#[test]
fn a_sign_in_that_may_still_work_is_not_pruned_unasked() {
    let all = at_the_sandbox("authorization_code", one_time_refresh_tokens);
    let (_sandbox, home, mut browser) = match all {
        Ok(all) => all,
        Err(reason) => return skip(&reason),
    };
    home.login("sandbox-person", &mut browser, PERSON)
        .0
        .expect_status(0);
    home.configure(CONFIG);

    let kept = home.json(["vault", "prune"]);
    assert_eq!(kept["removed"], json!([]), "{kept}");
    assert_eq!(kept["kept"][0]["account"], "sandbox-person", "{kept}");
    assert_eq!(kept["kept"][0]["username"], PERSON.0, "{kept}");
    let config = home.path().join("postrider.toml");
    let at_hand = ["--config", config.to_str().unwrap(), "vault", "prune"];
    at_terminal(&home.postrider(at_hand), "[y/N]", b"n\n");
    assert_eq!(home.json(["vault", "prune"]), kept);

    // Without a configuration every sign-in looks like nobody's.
    fs::remove_file(&config).unwrap();
    home.run(["vault", "prune", "--yes"]).expect_status(78);
    home.configure(CONFIG);
    at_terminal(&home.postrider(at_hand), "[y/N]", b"y\n");
    let none = json!({ "removed": [], "kept": [] });
    assert_eq!(home.json(["vault", "prune"]), none);
}
