//! `pr.sleep` and `pr.join`: waiting, and doing things at the same time.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use mlua::{Function, Lua, MultiValue, Table, Value};

use crate::activity::Activity;
use crate::call::{Args, Registrar, Reply, Work};
use crate::engine::{self, World};
use crate::fault::Fault;
use crate::meter::Meter;
use crate::time;

/// How deep `pr.join` may nest: each level takes a stretch of the thread's own stack.
const DEPTH: usize = 16;
/// The most functions of one `pr.join`.
const FUNCTIONS: usize = 100_000;

/// Registers what lets a script wait.
pub(crate) fn register(registrar: &Registrar<'_>, world: &World) -> mlua::Result<()> {
    let clock = world.backend.clock();
    let activity = world.invoker.activity().clone();
    registrar.add_waiting_here("sleep", move |_, mut args| {
        let span = time::duration(&args.next()).map_err(Fault::Misuse)?;
        args.end()?;
        let until = clock.now().checked_add(span).unwrap_or(Timestamp::MAX);
        let (slept, asleep) = (clock.sleep(span), activity.sleep(until));
        Ok(Box::pin(async move {
            slept.await;
            drop(asleep);
            Ok(Reply::value(Value::Nil))
        }))
    })?;
    let meter = Arc::clone(registrar.meter);
    let activity = world.invoker.activity().clone();
    registrar.add_waiting_here("join", move |lua, args| join(lua, &meter, &activity, args))
}

/// Runs functions at the same time and waits for all of them, also when one raises: a send
/// that has begun must not be left with an outcome nobody knows.
fn join(lua: &Lua, meter: &Arc<Meter>, activity: &Activity, args: Args) -> Result<Work, Fault> {
    if meter.depth() >= DEPTH {
        return Err(Fault::Misuse(format!("nests deeper than {DEPTH}")));
    }
    let Some(budget) = meter.current() else {
        return Err(Fault::misuse("no call is under way"));
    };
    let mut tasks = FuturesUnordered::new();
    for (index, function) in functions(args)?.into_iter().enumerate() {
        let task = engine::start(lua, meter, &budget, function, MultiValue::new())?;
        let busy = activity.begin();
        tasks.push(async move { (index, task.await, busy) });
    }
    let lent = activity.lend();
    Ok(Box::pin(async move {
        let mut ended = Vec::with_capacity(tasks.len());
        let mut last = None;
        while let Some((index, end, busy)) = tasks.next().await {
            ended.push((index, end?));
            // The last one is at work until whoever waits for it is.
            last = tasks.is_empty().then_some(busy);
        }
        drop(lent);
        drop(last);
        ended.sort_by_key(|(index, _)| *index);
        let mut results = Vec::with_capacity(ended.len());
        for (_, end) in ended {
            match end {
                Ok(values) => results.push(values),
                Err(raised) => return Err(Fault::Rethrown(raised.value)),
            }
        }
        Ok(Reply::made(move |lua| packed(lua, results)))
    }))
}

/// The functions: each an argument, or all in one list.
fn functions(mut args: Args) -> Result<Vec<Function>, Fault> {
    let mut values = Vec::new();
    if args.left() == 1 {
        match args.next() {
            Value::Table(list) => {
                if list.raw_len() > FUNCTIONS {
                    return Err(Fault::Misuse(format!(
                        "there are more than {FUNCTIONS} functions"
                    )));
                }
                for item in list.sequence_values::<Value>() {
                    values.push(item?);
                }
            }
            value => values.push(value),
        }
    } else {
        while args.left() > 0 {
            values.push(args.next());
        }
    }
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| match value {
            Value::Function(function) => Ok(function),
            other => Err(Fault::Misuse(format!(
                "item {} must be a function, got {}",
                index + 1,
                super::call::kind(&other)
            ))),
        })
        .collect()
}

/// A list with, for each function, its results and their number `n`, as `table.pack` does.
fn packed(lua: &Lua, results: Vec<MultiValue>) -> mlua::Result<Table> {
    let list = lua.create_table_with_capacity(results.len(), 0)?;
    for values in results {
        let count = values.len();
        let packed = lua.create_table_with_capacity(count, 1)?;
        for (index, value) in values.into_iter().enumerate() {
            packed.raw_set(index + 1, value)?;
        }
        packed.raw_set("n", count)?;
        list.raw_push(packed)?;
    }
    Ok(list)
}
