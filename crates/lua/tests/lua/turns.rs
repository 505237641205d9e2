//! However a script runs away, each of its turns is short, and others have theirs.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use postrider_lua::Limits;
use rustix::time::{ClockId, clock_gettime};

use crate::host::{Run, run_within};

/// The processor time of this thread: what others do to the machine does not count.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap(),
        now.tv_nsec.try_into().unwrap(),
    )
}

/// A future, and what its polls cost.
struct Measured<F> {
    future: Pin<Box<F>>,
    polls: usize,
    longest: Duration,
}

impl<F: Future> Future for Measured<F> {
    type Output = (F::Output, usize, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_time();
        let answer = self.future.as_mut().poll(context);
        self.longest = self.longest.max(thread_time().saturating_sub(before));
        self.polls += 1;
        answer.map(|output| (output, self.polls, self.longest))
    }
}

/// Runs the script beside another task on one thread: how it ended, how often it had its turn,
/// how often the other had, and the longest turn.
async fn beside_another(script: &str, limits: Limits) -> (Run, usize, usize, Duration) {
    let (ended, others) = (AtomicBool::new(false), AtomicUsize::new(0));
    let measured = Measured {
        future: Box::pin(run_within(script, limits)),
        polls: 0,
        longest: Duration::ZERO,
    };
    let script = async {
        let measured = measured.await;
        ended.store(true, Ordering::Relaxed);
        measured
    };
    let other = async {
        while !ended.load(Ordering::Relaxed) {
            others.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let ((run, polls, longest), ()) = tokio::join!(script, other);
    (run, polls, others.into_inner(), longest)
}

const RUNAWAYS: &[(&str, &str)] = &[
    ("a loop", "while true do end"),
    ("calls", "local function f() end while true do f() end"),
    (
        "protected calls",
        "while true do pcall(function() while true do pcall(error) end end) end",
    ),
    (
        "coroutines",
        "while true do coroutine.wrap(function() for i = 1, 1e9 do coroutine.yield(i) end end)() end",
    ),
    (
        "a comparator",
        "local t = {} for i = 1, 1e5 do t[i] = -i end while true do table.sort(t, function(a, b) return a < b end) end",
    ),
    (
        "a comparator that does not end",
        "table.sort({ 3, 2, 1 }, function() while true do end end)",
    ),
    (
        "sorting",
        "local t = {} for i = 1, 2e5 do t[i] = (i * 7919) % 1000003 end while true do table.sort(t) end",
    ),
    (
        "concatenating",
        "local t = {} for i = 1, 1e6 do t[i] = 'x' end while true do table.concat(t, ',') end",
    ),
    (
        "repeating",
        "while true do local _ = ('x'):rep(1 << 24) end",
    ),
    (
        "repeating with a separator",
        "while true do local _ = (''):rep(1 << 24, 'x') end",
    ),
    (
        "long texts",
        "local s = ('x'):rep(1 << 24) while true do local _ = s:upper():lower():reverse() end",
    ),
    (
        "lengthening a text",
        "local s = ('x'):rep(1 << 20) while true do local _ = s .. 'y' end",
    ),
    (
        "cutting a text",
        "local s = ('x'):rep(1 << 20) while true do local _ = s:sub(2) end",
    ),
    (
        "formatting",
        "local s = ('\\0'):rep(1 << 20) while true do local _ = ('%q'):format(s) end",
    ),
    (
        "searching",
        "local s = ('x'):rep(1 << 24) while true do pcall(s.find, s, 'x-y') end",
    ),
    (
        "searching for text",
        "local s = ('x'):rep(1 << 24) while true do s:find('xxxy', 1, true) end",
    ),
    (
        "replacing",
        "local s = ('ab'):rep(1 << 18) while true do s:gsub('a(b)', '%1%1') end",
    ),
    (
        "replacing by a function",
        "('x'):rep(100):gsub('x', function() while true do end end)",
    ),
    (
        "unpacking",
        "local t = {} for i = 1, 2e5 do t[i] = i end while true do select('#', table.unpack(t)) end",
    ),
    (
        "inserting in front",
        "local t = {} for i = 1, 1e6 do t[i] = i end while true do table.insert(t, 1, 0) end",
    ),
    (
        "collecting",
        "local t = {} for i = 1, 3e5 do t[i] = { i } end while true do collectgarbage() end",
    ),
    ("garbage", "while true do local _ = { {}, {}, {} } end"),
    (
        "loading",
        "local s = 'x = 1 ' s = s:rep(1e5) while true do load(s) end",
    ),
    (
        "a metamethod for text",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
    ),
    (
        "the same for a format",
        "string.format('%s', setmetatable({}, { __tostring = function() while true do end end }))",
    ),
    (
        "the same for a list",
        "table.concat(setmetatable({}, { __len = function() return 3 end, __index = function() while true do end end }))",
    ),
    (
        "the same for ipairs",
        "for _ in ipairs(setmetatable({}, { __index = function() while true do end end })) do end",
    ),
    (
        "decoding",
        "local pr = require 'postrider' local s = '[' .. ('1,'):rep(4e4) .. '1]' while true do pr.json.decode(s) end",
    ),
    (
        "encoding",
        "local pr = require 'postrider' local t = {} for i = 1, 4e4 do t[i] = i end while true do pr.json.encode(t) end",
    ),
    (
        "unicode",
        "local s = ('x'):rep(1 << 22) while true do utf8.len(s) end",
    ),
    (
        "tasks in tasks",
        "local pr = require 'postrider' local function f(n) if n == 0 then while true do end end pr.join(function() f(n - 1) end, function() f(n - 1) end) end f(6)",
    ),
    (
        "an error for each",
        "while true do pcall(function() local x = nil; x.y = 1 end) end",
    ),
    (
        "closing while it is stopped",
        "table.sort({ 1, 2, 3 }, function() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end)",
    ),
    (
        "closing in a handler",
        "while true do xpcall(function() error 'x' end, function() local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end end) end",
    ),
];

#[tokio::test]
async fn no_turn_of_a_runaway_script_is_long_and_others_have_theirs() {
    let limits = Limits {
        cpu: Duration::from_millis(400),
        ..Limits::default()
    };
    let mut long = Vec::new();
    for (name, script) in RUNAWAYS {
        let (run, polls, others, longest) = beside_another(script, limits.clone()).await;

        assert_eq!(
            run.error().failure.code,
            "script.cpu_limit",
            "{name}: {:?}",
            run.ended
        );
        // One turn each, by turns.
        assert!(
            others + 1 >= polls,
            "{name}: {polls} turns, {others} of the other"
        );
        println!("{name}: {polls} turns, the longest {longest:?}");
        // Our own matcher takes seven times as long where it is not optimised.
        let unoptimised = cfg!(debug_assertions) && *name == "searching";
        let bound = Duration::from_millis(if unoptimised { 500 } else { 100 });
        if longest > bound {
            long.push((name, longest));
        }
    }
    assert!(long.is_empty(), "{long:?}");
}
