//! What `[scripts]` and `[serve]` come to.
#![allow(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a failure is a failed test"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_config::{Config, Presets, ScriptLimits, Scripts, ServeSettings};

fn parse(text: &str) -> Config {
    let path = Path::new("/etc/postrider/postrider.toml");
    Config::parse(text, Some(path), &Presets::builtin()).unwrap()
}

fn refused(text: &str) -> String {
    Config::parse(text, None, &Presets::builtin())
        .unwrap_err()
        .to_string()
}

#[test]
fn nothing_written_means_no_scripts_and_no_reach() {
    let config = parse("");
    assert_eq!(config.scripts.scripts, Scripts::None);
    assert!(config.scripts.read.is_empty() && config.scripts.write.is_empty());
    assert!(config.scripts.env.is_empty() && config.scripts.run.is_empty());
    assert_eq!(config.serve, ServeSettings::default());
    assert!(config.serve.watch);
    assert_eq!(config.serve.metrics, None);
}

#[test]
fn paths_begin_at_the_file() {
    let config = parse(
        "[scripts]
         dir = 'scripts.d'
         lib = 'lib'
         run = ['/usr/bin/df']
         fs = { read = ['in', '/srv'], write = ['out'] }
         [serve]
         socket = 'control.sock'",
    );
    let here = |name: &str| Path::new("/etc/postrider").join(name);
    let scripts = config.scripts;
    assert_eq!(scripts.scripts, Scripts::Dir(here("scripts.d")));
    assert_eq!(scripts.lib, Some(here("lib")));
    assert_eq!(scripts.run, [PathBuf::from("/usr/bin/df")]);
    assert_eq!(scripts.read, [here("in"), PathBuf::from("/srv")]);
    assert_eq!(scripts.write, [here("out")]);
    assert_eq!(config.serve.socket, Some(here("control.sock")));
}

#[test]
fn a_script_has_its_own_limits_and_else_those_of_all() {
    let config = parse(
        "[scripts]
         files = ['report.lua', 'night/rotate.lua']
         [scripts.limits]
         memory = '64MiB'
         cpu = '2s'
         [scripts.limits_for.'rotate.lua']
         memory = 134217728
         timeout = '1h'",
    );
    let every = ScriptLimits {
        memory_octets: Some(64 << 20),
        cpu: Some(Duration::from_secs(2)),
        ..ScriptLimits::default()
    };
    let scripts = config.scripts;
    assert_eq!(scripts.limits_of(Path::new("/x/report.lua")), every);
    assert_eq!(
        scripts.limits_of(Path::new("/x/rotate.lua")),
        ScriptLimits {
            memory_octets: Some(128 << 20),
            timeout: Some(Duration::from_hours(1)),
            ..every
        }
    );
}

#[test]
fn metrics_are_for_this_machine_unless_danger_is_written() {
    for address in ["127.0.0.1:9464", "[::1]:0"] {
        let config = parse(&format!("[serve]\nmetrics = '{address}'"));
        assert_eq!(config.serve.metrics, Some(address.parse().unwrap()));
    }
    let said = refused("[serve]\nmetrics = '0.0.0.0:9464'");
    assert!(
        said.contains("can be reached from elsewhere") && said.contains("danger_metrics_anywhere"),
        "{said}"
    );
    let anywhere = "[serve]\nmetrics = '0.0.0.0:9464'\ndanger_metrics_anywhere = true";
    let metrics = parse(anywhere).serve.metrics.unwrap();
    assert!(metrics.ip().is_unspecified());
}

#[test]
fn a_scripts_file_name_is_its_name_and_no_two_share_it() {
    let said = refused("[scripts]\nfiles = ['report.lua', 'night/report.lua', 'rotate']");
    for fault in [
        "another script is called \"report.lua\" too",
        "\"rotate\" does not end with .lua",
    ] {
        assert!(said.contains(fault), "{said}");
    }
    let said =
        refused("[scripts]\nfiles = ['report.lua']\n[scripts.limits_for.'raport.lua']\ncalls = 1");
    assert!(
        said.contains("`files` names no such script")
            && said.contains("did you mean \"report.lua\"?"),
        "{said}"
    );
}
