//! A queue whose disk is full, read-only, damaged or held by somebody else: what is said of it,
//! and that nothing acknowledged is lost.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::office::{Office, TO, send};
use support::{Peer, find_program, run, says, skip};

/// A shell of the user's, with mounts of its own: `first` is done as its root, with the state
/// directory as `$1`, then `then`, with `postrider` as `$2`.
fn mounted(office: &Office, state: &Path, first: &str, then: &str) -> Command {
    let mut command = Command::new("unshare");
    let own = office.home.postrider([]);
    command
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(format!("{first} || exit 99\n{then}"))
        .arg("sh")
        .arg(state)
        .arg(own.get_program());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .current_dir(office.home.path())
        .env("POSTRIDER_STATE_DIR", state);
    command
}

/// Whether such a mount can be made here.
fn is_possible(office: &Office, state: &Path, mount: &str) -> bool {
    let possible = run(&mut mounted(office, state, mount, "true")).status == 0;
    if !possible {
        skip("no mount of one's own (unshare --map-root-user --mount)");
    }
    possible
}

/// A shell's function `queue SUBJECT`, which says how it ended.
const QUEUE: &str = r#"
    queue() {
        "$postrider" send --queue --account sandbox --to admin@contoso.com --subject "$1" --text x
        echo "$1: $?"
    }
    postrider=$2 state=$1
"#;

#[test]
fn a_full_disk_refuses_new_mail_and_keeps_the_old() {
    let office = Office::new();
    let disk = tempfile::tempdir().unwrap();
    let small = "mount -t tmpfs -o size=8m,mode=0700 tmpfs \"$1\"";
    if !is_possible(&office, disk.path(), small) {
        return;
    }
    let story = r#"
        queue first
        # Less than what is kept free for what becomes of the queued.
        head -c 6000000 /dev/zero > "$state/filler"
        queue second
        "$postrider" queue list; echo "list: $?"
        "$postrider" queue flush; echo "flush: $?"
        # Not an octet left.
        cat /dev/zero >> "$state/filler" 2> /dev/null
        queue third
        rm "$state/filler"
        queue fourth
        "$postrider" queue flush; echo "flushed: $?"
    "#;
    let ended = run(&mut mounted(
        &office,
        disk.path(),
        small,
        &format!("{QUEUE}{story}"),
    ));
    says(
        &ended,
        &[
            "first: 0\n",
            "second: 75\n",
            "list: 0\n",
            "flush: 0\n",
            "third: 75\n",
            "fourth: 0\n",
            "flushed: 0\n",
            "full but for a reserve",
            "free some space: what is queued is safe, and nothing more is taken",
        ],
    );
    assert_eq!(office.subjects(), ["first", "fourth"]);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_said_to_be_so() {
    let office = Office::new();
    let id = office.queue("kept", &[]);
    let state = office.home.state();
    let read_only = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\"";
    if !is_possible(&office, &state, read_only) {
        return;
    }
    let story = "queue refused
        \"$postrider\" queue flush; echo \"flush: $?\"";
    let ended = run(&mut mounted(
        &office,
        &state,
        read_only,
        &format!("{QUEUE}{story}"),
    ));
    says(
        &ended,
        &[
            "refused: 74\n",
            "flush: 74\n",
            "spool.db",
            "who owns the state directory, and whether its file system is mounted read-only",
        ],
    );
    assert!(office.subjects().is_empty());
    assert_eq!(office.state(&id).0, "queued");
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["kept"]);
}

#[test]
fn a_queue_that_another_process_holds_is_busy_and_loses_nothing() {
    let Some(python) = find_program("python3") else {
        return skip("python3 is not installed");
    };
    let office = Office::new();
    office.queue("kept", &[]);
    let script = "import sqlite3, sys\n\
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        connection.execute('BEGIN IMMEDIATE')\n\
        print('{}', flush=True)\n\
        sys.stdin.read()\n";
    let database = office.home.state().join("queue/spool.db");
    let (holder, _) = Peer::announcing(Command::new(python).args(["-c", script]).arg(&database));
    let busy = office.home.run(send(TO, "refused")).expect_status(75);
    says(
        &busy,
        &["the queue is held by another process", "try again"],
    );
    drop(holder);

    office.queue("taken", &[]);
    office.run(&["flush"], 0);
    assert_eq!(office.subjects(), ["kept", "taken"]);
}

#[test]
fn a_damaged_page_is_said_to_be_one_and_what_is_readable_is_read() {
    let Some(python) = find_program("python3") else {
        return skip("python3 is not installed");
    };
    let office = Office::new();
    for number in 0..4 {
        office.queue(&format!("message {number}"), &[]);
    }
    let database = office.home.state().join("queue/spool.db");
    // What came last is in the log beside it, until that is written back.
    let write_back = "import sqlite3, sys\n\
        sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)')\n";
    run(Command::new(python).args(["-c", write_back]).arg(&database)).expect_status(0);
    let whole = fs::read(&database).unwrap();
    let restore = || {
        for log in ["spool.db-wal", "spool.db-shm"] {
            let _ = fs::remove_file(database.with_file_name(log));
        }
        fs::write(&database, &whole).unwrap();
    };
    let pages = whole.len() / 4096;
    assert!(pages > 8, "{pages}");
    let mut refusals = 0;
    for page in 0..pages {
        restore();
        let mut octets = whole.clone();
        octets[page * 4096..][..4096].fill(0xa5);
        fs::write(&database, &octets).unwrap();
        let mut added = send(TO, "another");
        added.push("--no-daemon");
        for command in [
            &["queue", "list", "--all"][..],
            &["queue", "export", "Q00003"],
            &added,
        ] {
            let ended = office.home.run(command.iter().copied());
            if ended.status == 0 {
                // Nothing that is there is passed over in silence.
                let is_list = command[1] == "list";
                let listed = ended.stdout.matches("  sandbox  ").count();
                assert!(!is_list || listed == 4, "{page} {ended:?}");
                continue;
            }
            // What it is, and what to do about it.
            refusals += 1;
            assert_eq!(ended.status, 70, "{page} {command:?} {ended:?}");
            says(&ended, &["move the queue directory away and keep it"]);
            assert!(!ended.stderr.contains("panicked"), "{page} {ended:?}");
        }
    }
    assert!(refusals > pages / 2, "{refusals} of {pages} pages");

    // Whoever has a copy has it all.
    restore();
    office.run(&["flush"], 0);
    assert_eq!(office.arrivals().len(), 4);
}
