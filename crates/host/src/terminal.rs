//! A person, for the moments in a sign-in that need one.
//!
//! Everything is written to standard error, so that standard output stays the answer. What a
//! person brings back (a redirected URL, a password) is neither shown nor logged.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use postrider_auth::{DeviceCode, Interaction, Prompt, ReturnedBrowser, Secret, Unattended};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::zeroize::Zeroizing;
use url::{Host, Url};

use crate::failure::Failure;
use crate::hidden;

/// The longest line that is read: an authorization code is 2 KB at most.
const LINE_OCTETS: u64 = 16 << 10;
/// How often something else than the redirected URL may be pasted.
const PASTES: usize = 3;

/// Whoever is at the terminal, or nobody when there is none.
pub(crate) fn interaction() -> Arc<dyn Interaction> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        Arc::new(Person::new(Way::Show))
    } else {
        Arc::new(Unattended)
    }
}

/// How a sign-in page reaches a person, and its answer us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Their browser is opened here.
    Browser,
    /// They open a browser here themselves.
    Show,
    /// Their browser is on another machine; they bring back the address it ended at.
    Paste,
}

/// A person who is there to sign in.
#[derive(Debug)]
pub(crate) struct Person {
    way: Way,
    /// What to do where no browser can be opened.
    otherwise: &'static str,
    /// The browser that came back, until it is told how it went.
    browser: Mutex<Option<ReturnedBrowser>>,
    /// Why the person could not do what was asked: a plugin only learns that they did not.
    trouble: Mutex<Option<Failure>>,
}

impl Person {
    /// One who signs in this way.
    pub(crate) fn new(way: Way) -> Self {
        Self {
            way,
            otherwise: "use --paste or --device-code",
            browser: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// The same, of a command whose options for it have other names.
    pub(crate) fn otherwise(self, otherwise: &'static str) -> Self {
        Self { otherwise, ..self }
    }

    /// Shows in the browser that came back, if one did, how the sign-in went.
    pub(crate) fn tell(&self, heading: &str, paragraphs: &[&str]) {
        if let Some(browser) = take(&self.browser) {
            browser.show(heading, paragraphs);
        }
    }

    /// Why the person could not do what was asked; once.
    pub(crate) fn take_trouble(&self) -> Option<Failure> {
        take(&self.trouble)
    }

    fn is_in_trouble(&self, why: Failure) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Waits for the address that the browser elsewhere ended at.
    async fn pasted(&self, url: &str) -> Option<Secret> {
        let expected = Expected::of(url);
        say(&format!(
            "Open this address in a browser on any machine:\n\n    {url}\n\nWhen you have signed \
             in, that browser ends at a page that it cannot show. Copy its whole address, which \
             begins with\n\n    {}\n",
            expected.start()
        ));
        let _echo = Echo::kept();
        for _ in 0..PASTES {
            let line = blocking(|| ask("Paste it here (it is not shown): ", true)).await;
            let line = match line {
                Ok(line) => line,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {
                    self.is_in_trouble(cancelled());
                    return None;
                }
                Err(_) => break,
            };
            match expected.check(&line) {
                Ok(redirected) => {
                    take(&self.trouble);
                    return Some(redirected);
                }
                Err(why) => {
                    say(&format!("That is not it: {why}."));
                    self.is_in_trouble(
                        Failure::new(
                            "usage.pasted",
                            format!("what was pasted is not the redirected address: {why}"),
                        )
                        .with_remedy(
                            "sign in again, and copy the whole address from the address bar",
                        ),
                    );
                }
            }
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert_with(|| {
            Failure::new("usage.pasted", "no address was pasted")
                .with_remedy("give it on standard input, or at a terminal")
        });
        None
    }
}

impl Interaction for Person {
    fn device_code(&self, _account: &str, code: &DeviceCode) -> bool {
        let minutes = code.expires_in.div_ceil(60);
        let complete = code
            .verification_uri_complete
            .as_ref()
            .map_or_else(String::new, |url| {
                format!("\n\n(or open {url}, which has the code in it)")
            });
        say(&format!(
            "In a browser on any machine open\n\n    {}\n\nand enter the code\n\n    {}{complete}\
             \n\nwithin {minutes} minutes. Waiting …",
            code.verification_uri, code.user_code
        ))
    }

    fn open_url<'a>(&'a self, _account: &'a str, url: &'a str) -> BoxFuture<'a, Option<Secret>> {
        async move {
            if self.way == Way::Paste {
                return self.pasted(url).await;
            }
            say(&format!(
                "Open this address in a browser on this machine:\n\n    {url}\n\nWaiting …"
            ));
            if self.way == Way::Browser {
                say(&match open_browser(url.to_owned()).await {
                    Ok(()) => "Your browser was told to open it.".to_owned(),
                    Err(()) => format!(
                        "No browser could be opened here. If you have none on this machine, stop \
                         with Ctrl-C and {}.",
                        self.otherwise
                    ),
                });
            }
            // The redirect is awaited by whoever asked.
            pending().await
        }
        .boxed()
    }

    fn returned(&self, browser: ReturnedBrowser) {
        take(&self.trouble);
        *self.browser.lock().unwrap_or_else(PoisonError::into_inner) = Some(browser);
    }

    fn prompt<'a>(&'a self, account: &'a str, prompt: &'a Prompt) -> BoxFuture<'a, Option<Secret>> {
        let question = format!("{} (account \"{account}\"): ", prompt.label);
        let secret = prompt.secret;
        async move {
            let _echo = Echo::kept();
            let answer = blocking(move || ask(&question, secret)).await;
            if let Err(problem) = &answer
                && problem.kind() == io::ErrorKind::Interrupted
            {
                self.is_in_trouble(cancelled());
            }
            answer.ok().map(|answer| Secret::new(answer.as_str()))
        }
        .boxed()
    }
}

/// The person stopped it.
pub(crate) fn cancelled() -> Failure {
    Failure::new("cancelled", "stopped; nothing was changed")
}

/// The redirect that a sign-in ends with, as far as the sign-in's own address tells.
struct Expected {
    redirect_uri: Option<Url>,
    state: Option<String>,
}

impl Expected {
    /// What follows from `url`, the address of the sign-in (RFC 6749 §4.1.1).
    fn of(url: &str) -> Self {
        let url = Url::parse(url).ok();
        let parameter = |name: &str| parameter(url.as_ref()?, name);
        Self {
            redirect_uri: parameter("redirect_uri").and_then(|uri| Url::parse(&uri).ok()),
            state: parameter("state"),
        }
    }

    /// How it begins.
    fn start(&self) -> &str {
        self.redirect_uri
            .as_ref()
            .map_or("http://localhost", Url::as_str)
    }

    /// The redirected URL in `pasted`, or why it is none.
    fn check(&self, pasted: &str) -> Result<Secret, String> {
        let around = |c: char| c.is_whitespace() || "\"'<>".contains(c);
        let pasted = pasted.trim_matches(around);
        if pasted.is_empty() {
            return Err("nothing was pasted".to_owned());
        }
        let Ok(url) = Url::parse(pasted) else {
            return Err("it is no address, or not the whole of it".to_owned());
        };
        let fits = match &self.redirect_uri {
            Some(uri) => {
                (uri.scheme(), uri.host(), uri.port(), uri.path())
                    == (url.scheme(), url.host(), url.port(), url.path())
            }
            None => url.scheme() == "http" && is_loopback(&url),
        };
        if !fits {
            return Err(format!("it does not begin with {}", self.start()));
        }
        if parameter(&url, "code").is_none() && parameter(&url, "error").is_none() {
            return Err("it holds no answer of the sign-in; was all of it copied?".to_owned());
        }
        if self.state.is_some() && parameter(&url, "state") != self.state {
            return Err("it is of another sign-in than this one".to_owned());
        }
        Ok(Secret::new(pasted))
    }
}

fn parameter(url: &Url, wanted: &str) -> Option<String> {
    url.query_pairs()
        .find_map(|(name, value)| (name == wanted).then(|| value.into_owned()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Opens the person's browser, which goes on by itself.
async fn open_browser(url: String) -> Result<(), ()> {
    // A desktop's opener starts text browsers, or waits, where there is no display.
    let variables = ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_INTEROP"];
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(target_os = "linux") && !variables.into_iter().any(set) {
        return Err(());
    }
    blocking(move || webbrowser::open(&url))
        .await
        .map_err(|problem| tracing::debug!("no browser was opened: {problem}"))
}

/// Runs what waits for a person where waiting is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
}

/// One line of an answer. A secret one is read from the terminal without echo where standard
/// input is one.
fn ask(question: &str, secret: bool) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if secret && stdin.is_terminal() {
        return hidden::ask(question);
    }
    if stdin.is_terminal() {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question}")?;
        stderr.flush()?;
    }
    line_of(&mut stdin.lock())
}

fn line_of(input: &mut impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(1 << 10));
    if input.take(LINE_OCTETS).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Zeroizing::new(
        line.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

fn say(text: &str) -> bool {
    writeln!(io::stderr().lock(), "{text}").is_ok()
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Puts the terminal's modes back as they were: a question that nobody waits for any more
/// leaves them changed.
struct Echo(Option<(File, Termios)>);

impl Echo {
    fn kept() -> Self {
        let terminal = File::open("/dev/tty").ok();
        Self(terminal.and_then(|terminal| {
            let modes = tcgetattr(&terminal).ok()?;
            Some((terminal, modes))
        }))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some((terminal, modes)) = &self.0 {
            let _ = tcsetattr(terminal, OptionalActions::Now, modes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGN_IN: &str = "https://login.example.org/authorize?client_id=c&state=s%2B1&\
                           redirect_uri=http%3A%2F%2Flocalhost%3A4000";

    #[test]
    fn only_this_sign_ins_redirect_may_be_pasted() {
        let expected = Expected::of(SIGN_IN);

        for right in [
            "http://localhost:4000/?code=1&state=s%2B1",
            "  \"http://localhost:4000/?state=s%2B1&code=1&session_state=x\"\n",
            "http://localhost:4000/?error=access_denied&state=s%2B1",
        ] {
            assert!(expected.check(right).is_ok(), "{right}");
        }
        for (wrong, why) in [
            ("", "nothing"),
            ("1", "no address"),
            ("localhost:4000/?code=1&state=s%2B1", "does not begin with"),
            (
                "http://localhost:4001/?code=1&state=s%2B1",
                "does not begin with http://localhost:4000/",
            ),
            (
                "https://localhost:4000/?code=1&state=s%2B1",
                "does not begin with",
            ),
            (
                "http://evil.example:4000/?code=1&state=s%2B1",
                "does not begin with",
            ),
            (
                "http://localhost:4000/x?code=1&state=s%2B1",
                "does not begin with",
            ),
            ("http://localhost:4000/", "no answer"),
            ("http://localhost:4000/?code=1&state=s", "another sign-in"),
            ("http://localhost:4000/?code=1", "another sign-in"),
        ] {
            let said = expected.check(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn without_a_redirect_uri_any_loopback_will_do() {
        let expected = Expected::of("https://login.example.org/authorize");

        assert!(expected.check("http://127.0.0.1:1/cb?code=1").is_ok());
        assert!(expected.check("http://[::1]:1/cb?code=1").is_ok());
        assert!(expected.check("http://example.org/cb?code=1").is_err());
    }

    #[test]
    fn a_line_is_bounded_and_its_end_taken_off() {
        let mut two = io::Cursor::new(b"one\r\ntwo".to_vec());
        assert_eq!(line_of(&mut two).unwrap().as_str(), "one");
        assert_eq!(line_of(&mut two).unwrap().as_str(), "two");
        assert!(line_of(&mut two).is_err());

        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(line_of(&mut endless).unwrap().len() as u64, LINE_OCTETS);
    }

    #[test]
    fn a_person_in_trouble_says_so_once() {
        let person = Person::new(Way::Paste);
        person.is_in_trouble(cancelled());

        assert_eq!(person.take_trouble().unwrap().code, "cancelled");
        assert!(person.take_trouble().is_none());
    }
}
