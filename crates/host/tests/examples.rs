//! Every example of the reference and of the book does what it shows, in a world like a test's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_host::testing::{Examples, Runner, Settings};
use postrider_lua_api::items;

/// What examples take for granted: these accounts, and leave to read and to run.
const CONFIG: &str = r#"
[gateway.office]
listen = "192.168.1.5:2525"
clients = ["127.0.0.0/8", "192.168.1.0/24"]
account = "alerts"

[account.alerts]
provider = "microsoft365"
username = "svc-mail@contoso.com"
sender = "alerts@contoso.com"

[account.alerts.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"
client_secret = { env = "ALERTS_CLIENT_SECRET" }

[account.sandbox]
provider = "microsoft365"
username = "svc-mail@contoso.com"
sender = "alerts@contoso.com"

[account.sandbox.auth]
plugin = "oauth"
flow = "client_credentials"
tenant = "contoso.onmicrosoft.com"
client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"
client_secret = { env = "SANDBOX_CLIENT_SECRET" }

[scripts]
env = ["REPORT_TO"]
run = ["/usr/bin/df"]
"#;

/// What lies beside them.
const FILES: &[(&str, &str)] = &[
    ("df.txt", "sda1 91%\n"),
    ("disks.txt", "/\n/srv\n"),
    ("people.csv", "name;mail\nAda;ada@example.org\n"),
    (
        "report.txt",
        "Subject: {{ disks | length }} disks\n\n{% for disk in disks %}{{ disk }}\n{% endfor %}",
    ),
];

/// Lua somewhere in the documentation.
struct Example {
    /// Where: `pr.account`, or `scripting.md:19`.
    at: String,
    source: String,
}

impl Example {
    /// Whether it is of a test file.
    fn is_case(&self) -> bool {
        self.source.contains("pr.test.case(")
    }
}

/// Those of the descriptor table, out of which the reference is made.
fn of_the_reference() -> Vec<Example> {
    let example = |item: &postrider_lua_api::Item| Example {
        at: item.name.to_owned(),
        source: item.example.to_owned(),
    };
    items().map(example).collect()
}

/// Those of the book's pages: each block of Lua that is not marked `lua,ignore`.
fn of_the_book() -> Vec<Example> {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let mut found = Vec::new();
    let mut pages: Vec<PathBuf> = fs::read_dir(pages)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // That is the reference.
        .filter(|page| {
            page.extension().is_some_and(|word| word == "md") && !page.ends_with("lua.md")
        })
        .collect();
    pages.sort();
    for page in pages {
        let name = page.file_name().unwrap().display().to_string();
        let text = fs::read_to_string(&page).unwrap();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            if line.trim() == "```lua" {
                let block = lines.by_ref().take_while(|(_, line)| line.trim() != "```");
                let block: Vec<&str> = block.map(|(_, line)| line).collect();
                found.push(Example {
                    at: format!("{name}:{}", number + 1),
                    source: block.join("\n"),
                });
            }
        }
    }
    found
}

/// Runs all that are no tests, and says which failed.
fn failures(examples: &[Example]) -> Vec<String> {
    // It builds the plugins.
    support::postrider();
    let stage = Examples::new().unwrap();
    let mut failed = Vec::new();
    for example in examples.iter().filter(|example| !example.is_case()) {
        // The book goes on with what it opened on its first page.
        let source = if example.source.contains("require \"postrider\"") {
            example.source.clone()
        } else {
            format!("local alerts = account; {}", example.source)
        };
        if let Err(failure) = stage.run(&source, Some(CONFIG), FILES) {
            failed.push(format!("{}: {failure}", example.at));
        }
    }
    failed
}

/// Runs all that are tests, each in a file of its own, and says which failed.
fn failed_cases(examples: &[Example], beside: &[&str]) -> Vec<String> {
    support::postrider();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("postrider.toml");
    fs::write(&config, CONFIG).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
    for script in beside {
        fs::copy(scripts.join(script), directory.path().join(script)).unwrap();
    }
    let settings = Settings {
        config: Some(config),
        filter: None,
        timeout: Duration::from_mins(1),
    };
    let runner = Runner::new(settings).unwrap();
    let mut failed = Vec::new();
    for example in examples.iter().filter(|example| example.is_case()) {
        let file = directory.path().join("example_test.lua");
        let given = if example.source.contains("require \"postrider\"") {
            ""
        } else {
            "local pr = require \"postrider\"; "
        };
        fs::write(&file, format!("{given}{}", example.source)).unwrap();
        let result = runner.run_file(&file, |_| {});
        let problems = result.cases.iter().filter_map(|case| case.problem.as_ref());
        for problem in problems.chain(&result.broken) {
            failed.push(format!("{}: {}", example.at, problem.failure));
        }
        if result.broken.is_none() && result.cases.is_empty() {
            failed.push(format!("{}: it has no case", example.at));
        }
    }
    failed
}

#[test]
fn the_examples_of_the_reference_run() {
    let examples = of_the_reference();
    assert!(examples.iter().any(|example| !example.is_case()));

    let failed = failures(&examples);

    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_test_cases_of_the_reference_pass() {
    let examples = of_the_reference();
    assert!(examples.iter().any(Example::is_case));

    let failed = failed_cases(&examples, &[]);

    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_examples_of_the_book_run() {
    let examples = of_the_book();
    assert!(examples.len() > 10, "only {}", examples.len());

    let mut failed = failures(&examples);
    failed.extend(failed_cases(&examples, &["gateway.lua", "rotate.lua"]));

    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn an_example_that_is_wrong_is_noticed() {
    let wrong = |source: &str| Example {
        at: "here".to_owned(),
        source: source.to_owned(),
    };
    let examples = [
        wrong("account:send { subjekt = \"x\" }"),
        wrong("pr.after(\"10m\", function() error \"later\" end)"),
        wrong("pr.test.case(\"x\", function(t) t.eq(1, 2) end)"),
        wrong("-- pr.test.case(\"x\")"),
    ];

    assert_eq!(failures(&examples).len(), 1);
    assert_eq!(failed_cases(&examples, &[]).len(), 2);
}
