//! A settings file: any octets are settings or a list of mistakes that can be shown.

use std::path::Path;

use postrider_config::{Config, Presets};

pub(crate) fn run(data: &[u8]) {
    let path = Path::new("fuzz.toml");
    if let Err(errors) = Config::parse_octets(data.to_vec(), Some(path), &Presets::builtin()) {
        assert!(!errors.problems.is_empty());
        let shown = errors.to_string();
        assert!(!shown.contains(['\r', '\0']), "{shown}");
    }
}
