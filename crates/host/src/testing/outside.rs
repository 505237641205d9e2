//! What a test says in place of the outside: web servers and programs, and what they were asked.

use std::collections::{BTreeMap, VecDeque};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::lua::Scripted;
use crate::lua::request::{Request, Response};

/// An answer, and how often it is still given; `None` is for ever.
struct Answer<A> {
    answer: A,
    left: Option<u32>,
}

/// Everything outside the sandbox, as the test has it.
#[derive(Default)]
pub(super) struct Outside {
    http: VecDeque<Answer<HttpAnswer>>,
    requests: Vec<Value>,
    programs: VecDeque<Answer<ProgramAnswer>>,
    runs: Vec<Value>,
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    /// What scripts asked for that the test says nothing of.
    unscripted: Vec<Failure>,
}

struct HttpAnswer {
    url: Option<String>,
    method: Option<String>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    fails: Option<String>,
}

struct ProgramAnswer {
    program: String,
    ended: Ended,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) status: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Outside {
    /// From now on `answer` is given; nothing if it is for the sandbox to give.
    pub(super) fn script(&mut self, answer: Scripted) -> Option<Scripted> {
        match answer {
            Scripted::Http {
                url,
                method,
                status,
                headers,
                body,
                fails,
                times,
            } => self.http.push_back(Answer {
                answer: HttpAnswer {
                    url,
                    method,
                    status,
                    headers,
                    body,
                    fails,
                },
                left: times,
            }),
            Scripted::Process {
                program,
                status,
                stdout,
                stderr,
                times,
            } => self.programs.push_back(Answer {
                answer: ProgramAnswer {
                    program,
                    ended: Ended {
                        status,
                        stdout,
                        stderr,
                    },
                },
                left: times,
            }),
            other => return Some(other),
        }
        None
    }

    pub(super) fn set_env(&mut self, name: String, value: String) {
        self.env.insert(name, value);
    }

    pub(super) fn set_secret(&mut self, name: String, value: String) {
        self.secrets.insert(name, value);
    }

    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// The variables that the test sets.
    pub(super) fn variables(&self) -> Vec<String> {
        self.env.keys().cloned().collect()
    }

    /// What a secret of this form and name is here. Made up, it is an address too: scripts keep
    /// webhooks as secrets.
    pub(super) fn secret(&self, form: &str, name: &str) -> String {
        let set = self.env.get(name).filter(|_| form == "env");
        let set = set.or_else(|| self.secrets.get(name));
        set.cloned().unwrap_or_else(|| {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            let name: String = name.chars().take(100).map(plain).collect();
            format!("https://secret.test/{name}")
        })
    }

    /// Answers a request as the test says.
    pub(super) fn answer(&mut self, request: &Request) -> Result<Response, Failure> {
        let url = request.url.expose_secret().to_owned();
        let method = format!("{:?}", request.method).to_ascii_uppercase();
        self.requests.push(told(request, &url, &method));
        let fits = |answer: &HttpAnswer| {
            let same_method = answer.method.as_deref().is_none_or(|one| one == method);
            same_method && answer.url.as_deref().is_none_or(|one| matches(one, &url))
        };
        let Some(answer) = take(&mut self.http, fits) else {
            let failure = Failure::new(
                "test.unscripted",
                format!("{method} {url}: the test says nothing of such a request"),
            )
            .with_remedy(format!(
                "say how it is answered: t.http:reply {{ url = \"{url}\", status = 200 }}"
            ));
            self.unscripted.push(failure.clone());
            return Err(failure);
        };
        match &answer.fails {
            Some(code) => Err(Failure::new(code, format!("{url}: as the test says")).retryable()),
            None => Ok(Response {
                status: answer.status,
                headers: answer.headers.clone(),
                body: answer.body.clone(),
            }),
        }
    }

    /// Ends a program as the test says.
    pub(super) fn run(
        &mut self,
        program: &str,
        args: &[String],
        stdin: &[u8],
    ) -> Result<Ended, Failure> {
        let stdin = String::from_utf8_lossy(stdin);
        self.runs
            .push(json!({ "program": program, "args": args, "stdin": stdin }));
        let answer = take(&mut self.programs, |answer| answer.program == program);
        if let Some(answer) = answer {
            return Ok(answer.ended.clone());
        }
        let failure = Failure::new(
            "test.unscripted",
            format!("{program}: the test says nothing of this program, and none is run"),
        )
        .with_remedy(format!(
            "say what it writes: t.process:reply {{ program = \"{program}\", stdout = \"…\" }}"
        ));
        self.unscripted.push(failure.clone());
        Err(failure)
    }

    pub(super) fn requests(&self) -> Value {
        Value::Array(self.requests.clone())
    }

    pub(super) fn runs(&self) -> Value {
        Value::Array(self.runs.clone())
    }

    /// The first thing asked for that the test says nothing of.
    pub(super) fn unscripted(&self) -> Option<&Failure> {
        self.unscripted.first()
    }
}

/// The first answer that fits and is still to be given; a later one where it is used up.
fn take<A>(answers: &mut VecDeque<Answer<A>>, fits: impl Fn(&A) -> bool) -> Option<&A> {
    let given = answers
        .iter_mut()
        .find(|one| one.left != Some(0) && fits(&one.answer))?;
    if let Some(left) = &mut given.left {
        *left -= 1;
    }
    Some(&given.answer)
}

/// `https://hooks.example.org/*` is whatever begins so.
fn matches(wanted: &str, url: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => url.starts_with(beginning),
        None => url == wanted,
    }
}

/// A request as the test sees it; its body as JSON too, if it is that.
fn told(request: &Request, url: &str, method: &str) -> Value {
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.expose_secret().into()))
        .collect();
    let mut told = json!({
        "url": url,
        "method": method,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
    });
    if let Ok(body) = serde_json::from_slice::<Value>(&request.body) {
        told["json"] = body;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::request::{Method, RESPONSE_OCTETS, TIMEOUT};

    fn post(url: &str) -> Request {
        Request {
            method: Method::Post,
            url: url.into(),
            headers: Vec::new(),
            body: b"{\"a\":1}".to_vec(),
            timeout: TIMEOUT,
            max_octets: RESPONSE_OCTETS,
            ca_file: None,
            danger_plaintext: false,
        }
    }

    fn reply(url: &str, status: u16, times: Option<u32>) -> Scripted {
        Scripted::Http {
            url: Some(url.to_owned()),
            method: None,
            status,
            headers: Vec::new(),
            body: Vec::new(),
            fails: None,
            times,
        }
    }

    #[test]
    fn answers_are_given_in_their_order_and_as_often_as_they_say() {
        let mut outside = Outside::default();
        assert!(
            outside
                .script(reply("https://a.test/*", 500, Some(1)))
                .is_none()
        );
        assert!(
            outside
                .script(reply("https://a.test/x", 200, None))
                .is_none()
        );

        let mut status = |url| outside.answer(&post(url)).map(|response| response.status);

        assert_eq!(status("https://a.test/x").unwrap(), 500);
        assert_eq!(status("https://a.test/x").unwrap(), 200);
        assert_eq!(status("https://a.test/x").unwrap(), 200);
        let unscripted = status("https://a.test/y").unwrap_err();
        assert_eq!(unscripted.code, "test.unscripted");
        assert!(
            unscripted
                .remedy
                .unwrap()
                .contains("t.http:reply { url = \"https://a.test/y\"")
        );
        assert_eq!(outside.requests()[3]["json"]["a"], 1);
        assert!(outside.unscripted().is_some());
    }

    #[test]
    fn a_secret_is_what_the_test_says_or_made_up() {
        let mut outside = Outside::default();
        outside.set_env("HOOK".to_owned(), "https://hook.test/".to_owned());
        outside.set_secret("ops/key".to_owned(), "k".to_owned());

        assert_eq!(outside.secret("env", "HOOK"), "https://hook.test/");
        assert_eq!(outside.secret("vault", "ops/key"), "k");
        assert_eq!(outside.secret("vault", "HOOK"), "https://secret.test/HOOK");
    }
}
