//! Another mailer's configuration, with the files that it names: any octets are imported or
//! refused, what is said of them is short and of one line each, and no secret is shown.

use std::fmt::Write as _;

use postrider_import::{Files, Imported, Options, emailproxy, msmtp, postfix, sasl_xoauth2};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;

/// Stands between the configuration, the file that every path leads to, and `master.cf`.
const SEPARATOR: char = '\u{1e}';

struct Three<'a>([&'a str; 3]);

impl Files for Three<'_> {
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String> {
        let [main, named, master] = self.0;
        let text = match path {
            "main" => main,
            "master.cf" => master,
            _ => named,
        };
        Ok(Some(Zeroizing::new(text.to_owned())))
    }
}

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, SEPARATOR);
    let files = Three([(); 3].map(|()| parts.next().unwrap_or_default()));
    let options = Options::default();
    // Without a password: opening tokens takes a second each.
    let imports = [
        msmtp("main", &files, &options),
        postfix("main", &files, &options),
        sasl_xoauth2("main", "passwords", &files, &options),
        emailproxy("main", None, &files, None, &options),
    ];
    for imported in imports {
        match imported {
            Ok(imported) => check(&imported, &text),
            Err(error) => assert_line(&error.to_string()),
        }
    }
}

fn check(imported: &Imported, text: &str) {
    for left in &imported.not_carried {
        for line in [&left.what, &left.why].into_iter().chain(&left.instead) {
            assert_line(line);
        }
    }
    let mut shown = format!("{imported:?}");
    for account in &imported.accounts {
        assert!((1..=64).contains(&account.name.len()), "{}", account.name);
        let settings = serde_json::to_string(&account.settings);
        let _ = write!(shown, "{}", settings.expect("settings are JSON"));
    }
    // What stands in the files once stands there as a secret alone, unless a parameter names it,
    // or its table gives senders, too.
    let elsewhere = ["$", "canonical", "header_checks"];
    if elsewhere.iter().any(|word| text.contains(word)) {
        return;
    }
    for secret in imported.accounts.iter().flat_map(|it| &it.secrets) {
        let secret = secret.value.expose_secret();
        if secret.len() >= 8 && text.matches(secret).count() == 1 {
            assert!(!shown.contains(secret), "{secret:?} in {shown}");
        }
    }
}

fn assert_line(text: &str) {
    assert!(text.len() < 2_000, "{}", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}
