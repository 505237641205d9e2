//! `postrider queue list`: what is where, and why it waits.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::SystemTime;

use jiff::Timestamp;
use postrider_spool::{Filter, Listed, StateKind, Store};

use crate::app::queue::{failure, report};
use crate::cli::output::Output;
use crate::failure::Failure;
use crate::when;

/// Lists what has a recipient in one of these states, the oldest first.
pub(super) async fn run(
    store: &dyn Store,
    filter: &Filter,
    states: &[Option<StateKind>],
    limit: usize,
    now: Timestamp,
    output: &Output,
) -> Result<ExitCode, Failure> {
    // One more than is shown tells that there are more.
    let at_most = limit.saturating_add(1);
    let mut found = BTreeMap::new();
    for state in states {
        let filter = Filter {
            state: *state,
            ..filter.clone()
        };
        let listed = first(store, filter, at_most).await?;
        found.extend(listed.into_iter().map(|message| (message.id, message)));
    }
    let more = found.len() > limit;
    let found = found.into_values().take(limit);
    let mut found: Vec<report::Listed> = found.map(report::Listed::from).collect();
    say_pauses(store, &mut found, now).await?;
    output.json(&found);
    let now = SystemTime::now();
    let rows: Vec<Vec<String>> = found.iter().map(|message| row(message, now)).collect();
    let head = [
        "ID",
        "QUEUED",
        "ACCOUNT",
        "STATE",
        "NEXT",
        "RECIPIENT",
        "WHY",
    ];
    output.table(&head, &rows, "nothing waits; --all shows what is done, too");
    // Mail that was given up does not wait, and is no good news.
    if states.len() > 1 {
        let failed = Filter {
            state: Some(StateKind::Failed),
            ..filter.clone()
        };
        let failed = first(store, failed, at_most).await?.len();
        let (failed, plus) = (failed.min(limit), if failed > limit { "+" } else { "" });
        if failed > 0 {
            output.note(&format!("{failed}{plus} failed: --state failed shows why"));
        }
    }
    if more {
        output.note("there are more: --limit shows them, and --account, --state and others choose");
    }
    Ok(ExitCode::SUCCESS)
}

/// Says of each message if it waits for its account, which pauses or is parked.
pub(super) async fn say_pauses<'m>(
    store: &dyn Store,
    messages: impl IntoIterator<Item = &'m mut report::Listed>,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut pauses = HashMap::new();
    for message in messages {
        if !pauses.contains_key(&message.account) {
            let state = store.account_state(&message.account, now).await;
            let state = state.map_err(|error| failure(&error))?;
            let pause = state.back_off.filter(|pause| pause.until > now);
            pauses.insert(message.account.clone(), pause);
        }
        message.waits_for(pauses[&message.account].as_ref());
    }
    Ok(())
}

/// So many of what matches, page by page.
pub(super) async fn first(
    store: &dyn Store,
    mut filter: Filter,
    at_most: usize,
) -> Result<Vec<Listed>, Failure> {
    let mut found = Vec::new();
    while found.len() < at_most {
        let wanted = (at_most - found.len()).min(Filter::PAGE);
        filter.limit = Some(wanted);
        let page = store.list(filter.clone()).await;
        let page = page.map_err(|error| failure(&error))?;
        filter.after = page.last().map(|last| last.id);
        let is_last = page.len() < wanted;
        found.extend(page);
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn row(message: &report::Listed, now: SystemTime) -> Vec<String> {
    let states: Vec<String> = match message.states.len() {
        1 => message.states.keys().map(ToString::to_string).collect(),
        _ => (message.states.iter())
            .map(|(state, count)| format!("{count} {state}"))
            .collect(),
    };
    let recipients: u64 = message.states.values().sum();
    let others = match recipients {
        0 | 1 => String::new(),
        many => format!(" +{}", many - 1),
    };
    vec![
        message.id.clone(),
        when::relative(message.queued_at, now),
        message.account.clone(),
        states.join(", "),
        match message.paused_until.or(message.due_at) {
            Some(at) if at.0 > now => when::relative(at, now),
            Some(_) => "now".to_owned(),
            None => String::new(),
        },
        format!("{}{others}", message.recipient),
        match &message.paused_why {
            Some(why) => format!("the account waits: {why}"),
            None => message.why.clone().unwrap_or_default(),
        },
    ]
}
