//! A scrape as Prometheus reads it: by this repository's own reading of the format, and by the
//! reference parser.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::{root, run_with};

/// The samples of a scrape, each as `name{label="value"}`: lines that are nothing else are a
/// mistake, and so is a sample that comes twice or belongs to no family.
#[track_caller]
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut lines = text.lines();
    assert_eq!(lines.next_back(), Some("# EOF"));
    let mut family = "";
    let mut families = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let [keyword, name, _] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            if name != family {
                assert!(families.insert(name), "{name} comes twice");
                family = name;
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect(line);
        assert!(sample.starts_with(family), "{line} is not of {family}");
        let value = value.parse().expect(line);
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
    }
    samples
}

/// A scrape, as the reference parser reads it; or why that is not there.
pub(crate) fn read_by_a_stranger(text: &str) -> Result<Vec<Value>, String> {
    let peers = root().join("tests/peers");
    let python = peers.join("venv/bin/python");
    if !python.exists() {
        return Err(
            "prometheus-client is not installed (python3 -m venv tests/peers/venv, then \
             tests/peers/venv/bin/pip install -r tests/peers/requirements.txt)"
                .to_owned(),
        );
    }
    let ended = run_with(Command::new(python).arg(peers.join("openmetrics.py")), text);
    let ended = ended.expect_status(0);
    Ok(ended.json().as_array().unwrap().clone())
}
