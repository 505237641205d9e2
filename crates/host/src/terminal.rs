//! A person at a terminal, for the moments in a sign-in that need one.
//!
//! Everything is written to standard error, so that standard output stays the answer.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, pending, ready};
use postrider_auth::{DeviceCode, Interaction, Prompt, Secret, Unattended};

/// Whoever is at the terminal, or nobody when there is none.
pub(crate) fn interaction() -> Arc<dyn Interaction> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        Arc::new(Terminal)
    } else {
        Arc::new(Unattended)
    }
}

/// Whether somebody could answer.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

struct Terminal;

impl Interaction for Terminal {
    fn device_code(&self, account: &str, code: &DeviceCode) -> bool {
        let minutes = code.expires_in.div_ceil(60);
        say(&format!(
            "Account \"{account}\" needs a sign-in. On any device open\n\n    {}\n\nand enter \
             the code\n\n    {}\n\nwithin {minutes} minutes. Waiting …",
            code.verification_uri, code.user_code
        ))
    }

    fn open_url<'a>(&'a self, account: &'a str, url: &'a str) -> BoxFuture<'a, Option<Secret>> {
        if say(&format!(
            "Account \"{account}\" needs a sign-in. In a browser on this machine open\n\n    \
             {url}\n\nWaiting …"
        )) {
            pending().boxed()
        } else {
            ready(None).boxed()
        }
    }

    fn prompt<'a>(&'a self, account: &'a str, prompt: &'a Prompt) -> BoxFuture<'a, Option<Secret>> {
        let question = format!("{} (account \"{account}\"): ", prompt.label);
        let secret = prompt.secret;
        async move {
            tokio::task::spawn_blocking(move || ask(&question, secret))
                .await
                .ok()
                .flatten()
        }
        .boxed()
    }
}

fn ask(question: &str, secret: bool) -> Option<Secret> {
    if secret {
        return rpassword::prompt_password(question).ok().map(Secret::new);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}").ok()?;
    stderr.flush().ok()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    let answer = line.trim_end_matches(['\r', '\n']);
    (!answer.is_empty()).then(|| Secret::new(answer))
}

fn say(text: &str) -> bool {
    writeln!(io::stderr().lock(), "{text}").is_ok()
}
