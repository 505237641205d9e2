//! Whatever is wrong with a plugin has an error of its own, and the host lives.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postrider_auth::{AuthError, AuthErrorKind, LoadError, Loader, LoaderSettings};
use serde_json::json;
use support::{Built, credential, root, sha256};

fn loader() -> Loader {
    Loader::new(LoaderSettings::default())
}

/// Why the plugin at `plugins/examples/bad/NAME.c` is not loaded.
fn load_error(name: &str) -> LoadError {
    error_of(&Built::from_file(
        "bad",
        &format!("plugins/examples/bad/{name}.c"),
    ))
}

fn error_of(built: &Built) -> LoadError {
    loader()
        .load_file(&built.path, Some(&built.pin()))
        .unwrap_err()
}

/// A table around `good_describe` and the rest of `bad.h`, with `major` as given.
fn table(major: &str, describe: &str) -> String {
    format!(
        "PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void) {{
             static const pr_auth_v1 table = {{PR_MAGIC, {major}, PR_MINOR, sizeof(pr_auth_v1), 0,
                 {describe}, good_create, good_destroy, good_begin, good_step, good_end}};
             return &table;
         }}"
    )
}

/// What obtaining a token from a plugin ends with, and what trying again does.
async fn obtain_errors(built: &Built, loader: &Loader) -> (AuthError, AuthError) {
    let plugin = loader.load_file(&built.path, Some(&built.pin())).unwrap();
    let credential = credential(plugin, json!({}), &[], &[]);
    (
        credential.access_token().await.unwrap_err(),
        credential.access_token().await.unwrap_err(),
    )
}

#[test]
fn what_is_no_plugin_is_told_apart_from_one_that_lies() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("libpostrider_text.so");
    fs::write(&text, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o644)).unwrap();
    let error = loader().load_file(&text, Some(&sha256(&text))).unwrap_err();
    assert!(matches!(error, LoadError::NotLoadable { .. }), "{error}");

    assert!(matches!(load_error("missing_symbol"), LoadError::NoSymbol));
    assert!(matches!(load_error("null_table"), LoadError::NoTable));
    assert!(matches!(
        load_error("wrong_magic"),
        LoadError::WrongMagic { .. }
    ));
    let error = load_error("lying_size");
    assert!(
        matches!(error, LoadError::TooSmall { needed: 64, .. }),
        "{error}"
    );
    let error = load_error("null_entry");
    assert!(
        matches!(error, LoadError::NullFunction { name: "step" }),
        "{error}"
    );
    let error = load_error("garbage_description");
    assert!(matches!(error, LoadError::Description { .. }), "{error}");
}

#[test]
fn another_major_version_is_named() {
    let text = format!("#include \"bad.h\"\n{}", table("2", "good_describe"));
    let error = error_of(&Built::from_text("bad", &text));
    assert_eq!(
        error.to_string(),
        "the plugin speaks abi 2, this host speaks abi 1"
    );
}

#[test]
fn a_plugin_that_calls_itself_something_else_is_refused() {
    let built = Built::from_file("good", "plugins/examples/bad/unknown_code.c");
    let error = error_of(&built);
    assert!(
        matches!(&error, LoadError::OtherName { described, .. } if described == "bad"),
        "{error}"
    );
}

#[test]
fn a_plugin_that_hangs_while_it_is_loaded_does_not_hang_the_host() {
    let text = format!(
        "#define _POSIX_C_SOURCE 199309L
         #include <time.h>
         #include \"bad.h\"
         static int32_t forever(pr_sink *out) {{
             (void)out;
             for (;;) nanosleep(&(struct timespec){{1, 0}}, NULL);
             return PR_DONE;
         }}
         {}",
        table("PR_MAJOR", "forever")
    );
    let built = Built::from_text("bad", &text);
    let loader = loader().with_call_deadline(Duration::from_millis(200));
    let error = loader
        .load_file(&built.path, Some(&built.pin()))
        .unwrap_err();
    assert!(matches!(error, LoadError::Unresponsive { .. }), "{error}");
}

#[test]
fn who_else_could_write_is_named_before_any_code_runs() {
    // The constructor would end the test's process.
    let text = "#include <stdlib.h>\n#include \"bad.h\"
        __attribute__((constructor)) static void run(void) { abort(); }
        PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, good_begin, good_step)";
    let built = Built::from_text("bad", text);
    let pin = built.pin();
    let load = |pin: Option<&str>| loader().load_file(&built.path, pin).unwrap_err();
    let mode = |mode| fs::set_permissions(&built.path, fs::Permissions::from_mode(mode)).unwrap();

    mode(0o757);
    let error = load(Some(&pin));
    assert!(
        matches!(&error, LoadError::Writable { component, mode: 0o757 } if *component == built.path),
        "{error}"
    );
    mode(0o755);

    let parent = built.path.parent().unwrap();
    fs::set_permissions(parent, fs::Permissions::from_mode(0o777)).unwrap();
    let error = load(Some(&pin));
    assert!(
        matches!(&error, LoadError::Writable { component, mode: 0o777 } if component == parent),
        "{error}"
    );
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();

    let link = parent.join("libpostrider_link.so");
    symlink(&built.path, &link).unwrap();
    let error = loader().load_file(&link, Some(&pin)).unwrap_err();
    assert!(matches!(error, LoadError::Symlink { .. }), "{error}");

    let error = load(None);
    let entry = format!("plugins.pins.bad = \"{pin}\"");
    assert!(matches!(error, LoadError::NoPin { .. }));
    assert!(error.to_string().ends_with(&entry), "{error}");

    let other = "0".repeat(64);
    let error = load(Some(&other));
    assert!(matches!(error, LoadError::OtherContent { .. }));
    let told = error.to_string();
    assert!(told.contains(&pin) && told.contains(&other), "{told}");

    if chown(&built.path, Some(4_242_424), None).is_ok() {
        let error = load(Some(&pin));
        assert!(
            matches!(error, LoadError::ForeignOwner { uid: 4_242_424, .. }),
            "{error}"
        );
    } else {
        let _ = writeln!(
            std::io::stderr(),
            "not root: a file of another user was not tried"
        );
    }
}

#[tokio::test]
async fn garbage_overflow_and_unknown_codes_are_told_apart() {
    let loader = loader();
    for (name, kind, told) in [
        (
            "garbage",
            AuthErrorKind::Internal,
            "\"bad\" (obtain): its action is not json",
        ),
        (
            "overflow",
            AuthErrorKind::Internal,
            "\"bad\" (obtain): it wrote more than 1 MiB",
        ),
        (
            "unknown_code",
            AuthErrorKind::Internal,
            "\"bad\" (obtain) failed with -77: from a future version",
        ),
    ] {
        let built = Built::from_file("bad", &format!("plugins/examples/bad/{name}.c"));
        let (error, again) = obtain_errors(&built, &loader).await;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(told), "{error}");
        assert_eq!(error, again, "the instance is still there");
    }
}

#[tokio::test]
async fn a_plugin_that_never_returns_loses_its_instance() {
    let built = Built::from_file("bad", "plugins/examples/bad/never_returns.c");
    let loader = loader().with_call_deadline(Duration::from_secs(1));
    let (error, again) = obtain_errors(&built, &loader).await;

    assert_eq!(error.kind, AuthErrorKind::Unresponsive);
    assert!(
        error
            .message
            .contains("did not return from step within 1000 ms"),
        "{error}"
    );
    assert_eq!(again.kind, AuthErrorKind::Unresponsive);
    assert!(again.message.contains("an earlier call"), "{again}");
}

#[tokio::test]
async fn a_plugin_that_hangs_before_it_has_an_instance_is_not_tried_again() {
    let text = "#define _POSIX_C_SOURCE 199309L
        #include <time.h>
        #include \"bad.h\"
        static int32_t forever(const pr_host *host, pr_bytes config, void **inst, pr_sink *out) {
            (void)host, (void)config, (void)inst, (void)out;
            for (;;) nanosleep(&(struct timespec){1, 0}, NULL);
            return PR_DONE;
        }
        PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void) {
            static const pr_auth_v1 table = {PR_MAGIC, PR_MAJOR, PR_MINOR, sizeof(pr_auth_v1), 0,
                good_describe, forever, good_destroy, good_begin, good_step, good_end};
            return &table;
        }";
    let built = Built::from_text("bad", text);
    let loader = loader().with_call_deadline(Duration::from_secs(1));
    let (error, again) = obtain_errors(&built, &loader).await;

    assert_eq!(error.kind, AuthErrorKind::Unresponsive);
    assert!(
        error.message.contains("did not return from create"),
        "{error}"
    );
    assert_eq!(error, again);
}

#[tokio::test]
async fn a_plugin_that_panics_is_an_internal_error_wherever_it_does() {
    let path = panics();
    let plugin = loader().load_file(&path, Some(&sha256(&path))).unwrap();

    for at in ["create", "begin", "step"] {
        let credential = credential(plugin.clone(), json!({"at": at}), &[], &[]);
        for _ in 0..2 {
            let error = credential.access_token().await.unwrap_err();
            assert_eq!(error.kind, AuthErrorKind::Internal, "{at}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error}");
        }
    }
    // Its result was there before it panicked, or was not; the host is, either way.
    let _ = credential(plugin.clone(), json!({"at": "end"}), &[], &[])
        .access_token()
        .await;

    let fine = credential(plugin, json!({}), &[], &[])
        .access_token()
        .await
        .unwrap();
    assert_eq!(fine.unwrap().generation(), 1);
}

/// `crates/plugin/examples/panics.rs` as a library, built by the cargo that runs this test.
fn panics() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        // Else ring, whose build script looks at it, is compiled anew for this and the next cargo.
        .env_remove("CARGO_MANIFEST_DIR")
        .args([
            "build",
            "--package",
            "postrider-plugin",
            "--example",
            "panics",
        ])
        .args(["--message-format", "json", "--quiet"])
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    let messages = String::from_utf8(built.stdout).unwrap();
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "panics")
        .find_map(|message| message["filenames"][0].as_str().map(PathBuf::from))
        .expect("cargo says where the library is")
}
