//! `[scripts]` and `[serve]`.

use super::{Field, Kind, field};

pub(crate) static SCRIPTS: &[Field] = &[
    field(
        "dir",
        Kind::Path,
        "A directory: every `*.lua` in it is run, but no `*_test.lua`, in the order of their names. In place of `files`.",
    ),
    field(
        "files",
        Kind::Paths,
        "The scripts to run. In place of `dir`.",
    ),
    field(
        "lib",
        Kind::Path,
        "Where `require` and `pr.template` look after the script's own directory.",
    ),
    field(
        "env",
        Kind::Variables,
        "Environment variables that `pr.env` may read. No secrets: `pr.secret.env` needs no entry here.",
    ),
    field(
        "run",
        Kind::Programs,
        "Programs that `pr.run` may start, each by its absolute path.",
    ),
    field(
        "fs",
        Kind::Table(FS),
        "Directories that scripts may read and write.",
    ),
    field("limits", Kind::Table(LIMITS), "What each script may use."),
    field(
        "limits_for",
        Kind::LimitsFor,
        "What one script may use, where it differs: `FILE` is the script's file name, such as `\"report.lua\"`.",
    ),
];

pub(crate) static FS: &[Field] = &[
    field(
        "read",
        Kind::Paths,
        "Directories with what `pr.fs.read`, `pr.fs.list` and `pr.csv.read` may read.",
    ),
    field(
        "write",
        Kind::Paths,
        "Directories that `pr.fs.write` may write in. To read there too, name them in both.",
    ),
];

pub(crate) static LIMITS: &[Field] = &[
    field(
        "memory",
        Kind::Memory,
        "Memory of the script's Lua state. Default: 256MiB.",
    ),
    field(
        "cpu",
        Kind::Duration,
        "Time that one call may spend running Lua, waiting excluded. Default: 30s.",
    ),
    field(
        "timeout",
        Kind::Duration,
        "Time that one call may take, waiting included. Default: none.",
    ),
    field(
        "calls",
        Kind::Count { most: 10_000 },
        "Calls that may be under way at once: handlers, hooks and schedules. Default: 64.",
    ),
    field(
        "timers",
        Kind::Count { most: 1_000_000 },
        "Schedules and timers that may wait at once. Default: 1000.",
    ),
    field(
        "load_timeout",
        Kind::Duration,
        "Time that loading the script may take, waiting included. Default: 60s.",
    ),
];

pub(crate) static SERVE: &[Field] = &[
    field(
        "socket",
        Kind::Path,
        "The control socket, mode 0600. Default: `control.sock` in the state directory.",
    ),
    field(
        "metrics",
        Kind::Listen,
        "Where `/metrics` and `/healthz` answer, such as `127.0.0.1:9464`; a loopback address. Default: nowhere.",
    ),
    field(
        "danger_metrics_anywhere",
        Kind::Flag,
        "Lets `metrics` be any address: who reaches it reads which accounts there are and how they stand.",
    ),
    field(
        "shutdown_timeout",
        Kind::Duration,
        "How long calls under way may take to end when the daemon is told to stop. Default: 30s.",
    ),
    field(
        "watch",
        Kind::Flag,
        "Reload when a script or this file changes. Default: true; SIGHUP reloads in any case.",
    ),
    field(
        "watch_interval",
        Kind::Duration,
        "How often to look for changes. Default: 2s.",
    ),
];
