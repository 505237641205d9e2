//! Which scripts the configuration names, and what each may use.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use postrider_config::{ScriptSettings, Scripts};

use crate::failure::Failure;
use crate::lua::Limits;

/// The files of the scripts, in the order they are loaded in.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn files(settings: &ScriptSettings) -> Result<Vec<PathBuf>, Failure> {
    match &settings.scripts {
        Scripts::None => Ok(Vec::new()),
        Scripts::Files(files) => Ok(files.clone()),
        Scripts::Dir(dir) => in_directory(dir),
    }
}

fn in_directory(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |problem: std::io::Error| {
        Failure::new(
            "file.unreadable",
            format!("the directory of scripts cannot be read: {problem}"),
        )
        .at(dir.display().to_string())
        .with_remedy("make it, or name another as dir under [scripts]")
    };
    let mut scripts = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if is_script(&path) && !path.is_dir() {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// Whether the script can be read without waiting for ever: a pipe might never end.
///
/// # Errors
/// It is something else than a file. What else is wrong with it shows when it is read.
pub(super) fn check(file: &Path) -> Result<(), Failure> {
    match fs::metadata(file) {
        Ok(found) if !found.is_file() => {
            let what = match found.file_type() {
                kind if kind.is_dir() => "a directory",
                kind if kind.is_fifo() => "a named pipe",
                kind if kind.is_socket() => "a socket",
                _ => "a device",
            };
            let message = format!("the script is {what}, not a file");
            Err(Failure::new("file.not_regular", message)
                .at(file.display().to_string())
                .with_remedy("put the script there, or move away what is in its place"))
        }
        _ => Ok(()),
    }
}

/// Editors keep what is being written beside it, under names that begin with a dot or a `#`.
fn is_script(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| {
        name.strip_suffix(".lua").is_some_and(|stem| {
            !stem.is_empty() && !stem.starts_with(['.', '#']) && !stem.ends_with("_test")
        })
    })
}

/// What the script in `file` may use.
pub(super) fn limits(settings: &ScriptSettings, file: &Path) -> Limits {
    let usual = Limits::default();
    let set = settings.limits_of(file);
    let count = |set: Option<u32>, usual| {
        set.map_or(usual, |count| usize::try_from(count).unwrap_or(usize::MAX))
    };
    Limits {
        memory_octets: set.memory_octets.unwrap_or(usual.memory_octets),
        cpu: set.cpu.unwrap_or(usual.cpu),
        wall: set.timeout.or(usual.wall),
        calls: count(set.calls, usual.calls),
        timers: count(set.timers, usual.timers),
        load_timeout: set.load_timeout.unwrap_or(usual.load_timeout),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_config::ScriptLimits;

    use super::*;

    #[test]
    fn a_directory_has_its_scripts_by_name_without_tests_and_what_editors_leave() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.lua",
            "a.lua",
            "a_test.lua",
            ".a.lua",
            ".#b.lua",
            "#b.lua#",
            "a.lua~",
            "4913",
            ".lua",
            "notes.txt",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("c.lua")).unwrap();
        let settings = ScriptSettings {
            scripts: Scripts::Dir(dir.path().to_owned()),
            ..ScriptSettings::default()
        };

        let found = files(&settings).unwrap();

        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.lua", "b.lua"]);
    }

    #[test]
    fn a_script_has_the_limits_that_are_set_and_the_usual_ones_besides() {
        let all = ScriptLimits {
            memory_octets: Some(1 << 20),
            calls: Some(3),
            timers: Some(4),
            load_timeout: Some(Duration::from_secs(5)),
            ..ScriptLimits::default()
        };
        let own = ScriptLimits {
            calls: Some(6),
            timeout: Some(Duration::from_secs(7)),
            ..ScriptLimits::default()
        };
        let settings = ScriptSettings {
            limits: all,
            limits_for: [("b.lua".to_owned(), own)].into(),
            ..ScriptSettings::default()
        };

        let expected = Limits {
            memory_octets: 1 << 20,
            cpu: Limits::default().cpu,
            wall: None,
            calls: 3,
            timers: 4,
            load_timeout: Duration::from_secs(5),
        };
        assert_eq!(limits(&settings, Path::new("/a.lua")), expected);
        let expected = Limits {
            calls: 6,
            wall: Some(Duration::from_secs(7)),
            ..expected
        };
        assert_eq!(limits(&settings, Path::new("/b.lua")), expected);
    }

    #[test]
    fn a_script_that_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.lua");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let looped = dir.path().join("loop.lua");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let settings = ScriptSettings {
            scripts: Scripts::Dir(dir.path().to_owned()),
            ..ScriptSettings::default()
        };

        // They are named like scripts, so that somebody meant them to be some.
        assert_eq!(files(&settings).unwrap(), [looped.clone(), pipe.clone()]);
        let failure = check(&pipe).unwrap_err();
        assert_eq!(failure.code, "file.not_regular");
        assert!(failure.message.contains("a named pipe"), "{failure}");
        // The system says what is wrong with it.
        check(&looped).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let settings = ScriptSettings {
            scripts: Scripts::Dir(PathBuf::from("/nowhere/scripts.d")),
            ..ScriptSettings::default()
        };

        let failure = files(&settings).unwrap_err();

        assert_eq!(failure.code, "file.unreadable");
        assert_eq!(failure.at.as_deref(), Some("/nowhere/scripts.d"));
    }
}
