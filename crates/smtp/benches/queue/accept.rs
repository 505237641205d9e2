//! How many messages a second are made safe, and with how many flushes each.

use serde_json::{Value, json};

use crate::{
    Options,
    daemon::Daemon,
    limit, median, number,
    postfix::{self, Postfix, Then},
    server::Server,
    submit,
};
use postrider_smtp::TlsMode;

const SUBMITTERS: [usize; 3] = [1, 10, 50];
/// Messages of one run, and fewer where each flush is counted.
const MESSAGES: u64 = 6_000;
const POSTFIX_MESSAGES: u64 = 2_000;
const TRACED: u64 = 2_000;

#[derive(Default)]
struct Runs {
    postrider: Vec<f64>,
    postfix: Vec<f64>,
    sqlite: Vec<f64>,
    append: Vec<f64>,
}

pub(crate) fn compare(options: &Options) -> Value {
    let server = Server::start(TlsMode::Implicit);
    // Nothing leaves: what is measured is how it gets in.
    server.shut(true);
    let no_postfix = postfix::missing();
    if let Some(why) = &no_postfix {
        options.say(&format!("Postfix is left out: {why}"));
    }
    options.say("\naccepted and safe on the disk, messages a second");
    options.say(&format!(
        "{:<12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>11}{:>13}{:>13}",
        "submitters",
        "postrider",
        "Postfix",
        "SQLite",
        "append",
        "x Postfix",
        "x SQLite",
        "syncs each",
        "Postfix's"
    ));
    let mut rows = Vec::new();
    for submitters in SUBMITTERS {
        let mut runs = Runs::default();
        let (messages, postfix_messages) =
            (options.count(MESSAGES), options.count(POSTFIX_MESSAGES));
        for _ in 0..options.rounds {
            runs.sqlite.push(limit::sqlite(submitters));
            runs.append.push(limit::append(submitters));
            if no_postfix.is_none() {
                let postfix = Postfix::start(&Then::Hold);
                let took = submit::to_postfix(postfix.smtpd, submitters, postfix_messages);
                runs.postfix
                    .push(number(postfix_messages) / took.as_secs_f64());
            }
            let daemon = Daemon::start(&options.postrider, &server, 1);
            let took = submit::to_postrider(&daemon.socket(), submitters, messages);
            runs.postrider.push(number(messages) / took.as_secs_f64());
        }
        let [ours, theirs, sqlite, append] =
            [runs.postrider, runs.postfix, runs.sqlite, runs.append].map(median);
        let syncs = syncs(options, &server, submitters);
        let their_syncs = no_postfix
            .is_none()
            .then(|| postfix_syncs(submitters, options.count(TRACED)))
            .flatten();
        let shown = |syncs: Option<f64>| syncs.map_or("-".into(), |syncs| format!("{syncs:.3}"));
        options.say(&format!(
            "{submitters:<12}{ours:>11.0}{theirs:>11.0}{sqlite:>11.0}{append:>11.0}{:>11.2}{:>11.2}{:>13}{:>13}",
            ours / theirs,
            ours / sqlite,
            shown(syncs),
            shown(their_syncs)
        ));
        rows.push(json!({
            "submitters": submitters, "postrider_per_second": ours, "postfix_per_second": theirs,
            "sqlite_per_second": sqlite, "append_per_second": append,
            "times_postfix": ours / theirs, "times_sqlite": ours / sqlite,
            "syncs_per_message": syncs, "postfix_syncs_per_message": their_syncs,
        }));
    }
    Value::from(rows)
}

fn syncs(options: &Options, server: &Server, submitters: usize) -> Option<f64> {
    let idle = Daemon::traced(&options.postrider, server, 1).syncs()?;
    let daemon = Daemon::traced(&options.postrider, server, 1);
    let messages = options.count(TRACED);
    submit::to_postrider(&daemon.socket(), submitters, messages);
    Some(number(daemon.syncs()?.saturating_sub(idle)) / number(messages))
}

fn postfix_syncs(submitters: usize, messages: u64) -> Option<f64> {
    let postfix = Postfix::traced(&Then::Hold);
    submit::to_postfix(postfix.smtpd, submitters, messages);
    Some(number(postfix.syncs()?) / number(messages))
}
