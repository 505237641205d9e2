//! A full disk and one that takes no writes, in a mount of this test's own.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use postrider_vault::{Kind, Options, Vault, VaultErrorKind};

use crate::support::{self, Place, command, new_data_key, now, value};

const TEST: &str = "space::a_full_or_read_only_disk_is_said_and_breaks_nothing";

fn on_a_small_disk(options: &Options) {
    let vault = Vault::open(options).unwrap();
    vault.put(Kind::Grant, "a", b"old").unwrap();
    let filler = options.dir.with_file_name("filler");
    fill(&filler);

    let large = vec![1; 100_000];
    assert_eq!(
        vault.put(Kind::Grant, "a", &large).unwrap_err().kind,
        VaultErrorKind::DiskFull
    );
    let error = vault.put(Kind::Grant, "b", b"new").unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::DiskFull, "{error}");
    assert_eq!(
        vault.remove(Kind::Grant, "a").unwrap_err().kind,
        VaultErrorKind::DiskFull
    );
    let rekey = postrider_vault::Rekey {
        key: None,
        new_data_key: true,
        now: now(),
    };
    assert_eq!(
        vault.rekey(&rekey, &mut |_| {}).unwrap_err().kind,
        VaultErrorKind::DiskFull
    );
    unharmed(options);

    fs::remove_file(&filler).unwrap();
    assert!(new_data_key(&vault).finished);
    vault.put(Kind::Grant, "b", &large).unwrap();
    vault.remove(Kind::Grant, "b").unwrap();

    remount_read_only(&options.dir);
    unharmed(options);
    for error in [
        vault.put(Kind::Grant, "a", b"new").unwrap_err(),
        vault.put(Kind::Grant, "c", b"new").unwrap_err(),
        vault.remove(Kind::Grant, "a").unwrap_err(),
        vault.try_lock(Kind::Grant, "a").unwrap_err(),
        vault.rekey(&rekey, &mut |_| {}).unwrap_err(),
        Vault::open(&support::options(&options.dir.with_file_name("another"))).unwrap_err(),
    ] {
        assert_eq!(error.kind, VaultErrorKind::ReadOnly, "{error}");
    }
    unharmed(options);
}

fn unharmed(options: &Options) {
    let vault = Vault::open(options).unwrap();
    assert_eq!(value(&vault, Kind::Grant, "a").unwrap(), b"old");
    assert_eq!(vault.list(Kind::Grant).unwrap().len(), 1);
    assert!(vault.status().unwrap().problems.is_empty());
}

fn fill(path: &std::path::Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn remount_read_only(dir: &std::path::Path) {
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(dir.parent().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_full_or_read_only_disk_is_said_and_breaks_nothing() {
    if let Some((_, options)) = support::work() {
        return on_a_small_disk(&options);
    }
    let place = Place::new();
    let in_a_mount = |command: &Command| {
        let script = r#"mount -t tmpfs -o size=512k,mode=700 tmpfs "$0" && exec "$@""#;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(place.root.path())
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (name, value) in command.get_envs() {
            unshare.env(name, value.unwrap());
        }
        unshare
    };
    if !in_a_mount(&Command::new("true"))
        .status()
        .is_ok_and(|status| status.success())
    {
        return support::skip("a file system cannot be mounted here");
    }
    let status = in_a_mount(&command(TEST, "disk", place.dir()))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
