//! A user with an account at a sandbox, who sends by the queue: what is in it, and what arrived.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::home::Home;
use super::sandbox::Sandbox;
use super::{Ended, pause, read_to_string, run_with};

/// More than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whom most mail is for.
pub(crate) const TO: &str = "admin@contoso.com";

/// The user, whose account is called `sandbox`, and its provider.
pub(crate) struct Office {
    pub(crate) sandbox: Sandbox,
    pub(crate) home: Home,
}

impl Office {
    /// Without a limit that a story would have to wait for.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// The same with more lines in `postrider.toml`.
    pub(crate) fn with(more: &str) -> Self {
        Self::at(|sandbox| format!("{more}\n{}", hurried(sandbox.config())))
    }

    /// With a `postrider.toml` of the story's own.
    pub(crate) fn at(config: impl FnOnce(&Sandbox) -> String) -> Self {
        let sandbox = Sandbox::with(|scenario| {
            scenario["limits"]["messages_per_minute"] = toml_edit::value(100_000);
        });
        let mut home = Home::new(&config(&sandbox));
        home.set(sandbox.client_secret());
        Self { sandbox, home }
    }

    /// Queues a message to [`TO`], and gives its name. `more` are arguments.
    #[track_caller]
    pub(crate) fn queue(&self, subject: &str, more: &[&str]) -> String {
        self.queue_to(TO, subject, more)
    }

    /// The same to somebody.
    #[track_caller]
    pub(crate) fn queue_to(&self, to: &str, subject: &str, more: &[&str]) -> String {
        let arguments = send(to, subject);
        let queued = self.home.json(arguments.into_iter().chain(more.to_vec()));
        queued["id"].as_str().unwrap().to_owned()
    }

    /// Lets a device sign in at a gateway with this password.
    #[track_caller]
    pub(crate) fn admit(&self, gateway: &str, device: &str, password: &str) {
        let arguments = [
            "gateway",
            "credential",
            "add",
            device,
            "--gateway",
            gateway,
            "--password-stdin",
        ];
        run_with(&mut self.home.postrider(arguments), password).expect_status(0);
    }

    /// `postrider queue …`, which ends with `status`.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str], status: i32) -> Ended {
        let arguments = ["queue"].iter().chain(arguments).copied();
        self.home.run(arguments).expect_status(status)
    }

    /// A message as `queue show` tells of it.
    #[track_caller]
    pub(crate) fn show(&self, id: &str) -> Value {
        self.home.json(["queue", "show", id])
    }

    /// The state of a message's only recipient, and why it is in it.
    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> (String, String) {
        let shown = self.show(id);
        let [recipient] = &shown["recipients"].as_array().unwrap()[..] else {
            panic!("{shown}");
        };
        let text = |key: &str| recipient[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("why"))
    }

    /// Waits until the message's only recipient is in this state, and says why it is.
    #[track_caller]
    pub(crate) fn comes_to(&self, id: &str, state: &str) -> String {
        let mut last = String::new();
        until(&format!("{id} is {state}"), || {
            let (found, why) = self.state(id);
            last.clone_from(&why);
            (found == state).then_some(why)
        })
    }

    /// Strikes once at a step of the mail server.
    pub(crate) fn fault(&self, at: &str, effect: &Value) {
        self.faults(at, effect, Some(1));
    }

    /// So often, or until [`Sandbox::mend_tokens`], which ends all faults.
    pub(crate) fn faults(&self, at: &str, effect: &Value, times: Option<u32>) {
        let mut fault = json!({ "at": at, "effect": effect });
        if let Some(times) = times {
            fault["times"] = times.into();
        }
        self.sandbox.control("POST", "scenario/fault", Some(&fault));
    }

    /// The subjects of what arrived for [`TO`], in order.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let mail = self.messages().into_iter();
        mail.map(|message| field(&message, "Subject")).collect()
    }

    /// The message to [`TO`] with this subject, once it has arrived.
    #[track_caller]
    pub(crate) fn arrived(&self, subject: &str) -> String {
        let line = format!("Subject: {subject}");
        until(&format!("{subject} arrives"), || {
            let mut mail = self.messages().into_iter();
            mail.find(|message| message.lines().any(|one| one == line))
        })
    }

    /// All that arrived for [`TO`], in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mail = self.sandbox.mail(TO).into_iter();
        mail.map(|path| read_to_string(&path)).collect()
    }

    /// How often each message arrived for [`TO`], by its Message-ID.
    pub(crate) fn arrivals(&self) -> BTreeMap<String, u32> {
        let mut arrivals = BTreeMap::new();
        for message in self.messages() {
            let id = field(&message, "Message-ID");
            *arrivals.entry(id).or_default() += 1;
        }
        arrivals
    }
}

/// The sandbox's lines, for accounts that need not keep Exchange's pace.
pub(crate) fn hurried(config: &str) -> String {
    let provider = "provider = \"microsoft365\"\n";
    config.replace(
        provider,
        &format!("{provider}messages_per_minute = 100000\n"),
    )
}

/// The arguments that queue a message.
pub(crate) fn send<'a>(to: &'a str, subject: &'a str) -> Vec<&'a str> {
    vec![
        "send",
        "--queue",
        "--account",
        "sandbox",
        "--to",
        to,
        "--subject",
        subject,
        "--text",
        "x",
    ]
}

/// The first field of that name in a message's header, on one line.
#[track_caller]
pub(crate) fn field(message: &str, name: &str) -> String {
    let name = format!("{name}: ");
    let line = message.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("the field").trim_end().to_owned()
}

/// Looks until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause();
    }
}
