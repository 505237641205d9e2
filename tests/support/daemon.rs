//! A `postrider serve` that a story watches: what it tells its service manager, what it logs, and
//! its control socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Ended;
use super::home::Home;

/// More than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the story itself tells in place of the manager's process table.
const ENDED: &str = "ENDED";

/// A running daemon.
pub(crate) struct Daemon {
    process: Child,
    socket: PathBuf,
    told: Mutex<Receiver<String>>,
    log: Log,
}

/// The lines of its log, in JSON as they are written where no terminal is.
#[derive(Clone)]
struct Log {
    lines: Arc<(Mutex<Lines>, Condvar)>,
    reading: Arc<Mutex<Option<JoinHandle<String>>>>,
}

#[derive(Default)]
struct Lines {
    lines: Vec<Value>,
    /// Nothing follows.
    ended: bool,
}

impl Lines {
    /// The newest that holds `part`.
    fn find(&self, part: &str) -> Option<&Value> {
        self.lines.iter().rev().find(|line| holds(line, part))
    }
}

impl Daemon {
    /// Starts it in `home`, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(home: &Home) -> Self {
        Self::started_by(&mut home.postrider(["serve"]), home)
    }

    /// The same with a command of the story's own.
    #[track_caller]
    pub(crate) fn started_by(command: &mut Command, home: &Home) -> Self {
        let daemon = Self::begin(command, home);
        daemon.told("READY=1");
        daemon
    }

    /// Starts it, ready or not.
    pub(crate) fn begin(command: &mut Command, home: &Home) -> Self {
        static NOTIFY: AtomicU32 = AtomicU32::new(0);
        let number = NOTIFY.fetch_add(1, Ordering::Relaxed);
        let notify = home.path().join(format!("notify-{number}"));
        let manager = UnixDatagram::bind(&notify).unwrap();
        let (tell, told) = channel();
        thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(octets) = manager.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..octets]).into_owned();
                if tell.send(text).is_err() {
                    return;
                }
            }
        });
        let mut process = command
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::read(&mut process, notify);
        Self {
            process,
            socket: home.state().join("control.sock"),
            told: Mutex::new(told),
            log,
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it tells its service manager something with `part` in it.
    #[track_caller]
    pub(crate) fn told(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let told = self.told.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match told.recv_timeout(left) {
                Ok(text) if text.contains(part) => return text,
                Ok(text) if text != ENDED => {}
                Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("it never told \"{part}\"; it logged {:#?}", self.lines())
                }
            }
        }
    }

    /// The log so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log.lines.0.lock().unwrap().lines.clone()
    }

    /// The messages of the log so far that hold `part`.
    pub(crate) fn said(&self, part: &str) -> Vec<Value> {
        let lines = self.log.lines.0.lock().unwrap();
        let holding = lines.lines.iter().filter(|line| holds(line, part));
        holding.cloned().collect()
    }

    /// Waits for a line of the log that holds `part`.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> Value {
        let (lines, more) = &*self.log.lines;
        let missing = |log: &mut Lines| !log.ended && log.find(part).is_none();
        let lines = lines.lock().unwrap();
        let (log, _) = more.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        let Some(line) = log.find(part) else {
            panic!("it never logged \"{part}\", but {:#?}", log.lines)
        };
        line.clone()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Reloads it with `SIGHUP`, and waits until it says that it is ready again.
    #[track_caller]
    pub(crate) fn hang_up(&self) -> String {
        self.signal(Signal::HUP);
        let told = self.told("RELOADING=1");
        assert!(told.contains("MONOTONIC_USEC="), "{told}");
        self.told("READY=1")
    }

    /// Asks on the control socket: the answer's status and body.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        ask(&self.socket, method, path, "")
    }

    /// The same with something to say.
    #[track_caller]
    pub(crate) fn tell(&self, path: &str, body: &Value) -> (u16, Value) {
        ask(&self.socket, "POST", path, &body.to_string())
    }

    /// The same of a daemon that may be gone by now, or not be there yet: the answer, if it came
    /// whole.
    pub(crate) fn try_to_tell(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        try_to_ask(&self.socket, "POST", path, &body.to_string()).ok()
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.log.lines.0.lock().unwrap().ended
    }

    /// How it stands.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let (status, answer) = self.ask("GET", "/v1/status");
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// How one of its gateways stands.
    #[track_caller]
    pub(crate) fn gateway(&self, name: &str) -> Value {
        let status = self.status();
        let mut all = status["gateways"].as_array().unwrap().iter();
        let one = all.find(|one| one["name"] == name);
        one.cloned()
            .unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// The port of this gateway's only listener.
    #[track_caller]
    pub(crate) fn gateway_port(&self, name: &str) -> u16 {
        let shown = self.gateway(name);
        let address = shown["listen"][0].as_str().unwrap();
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// The octets of memory that are its own.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.unwrap().parse::<u64>().unwrap() << 10
    }

    /// Tells it to end, and waits for that.
    pub(crate) fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.end().signal, Some(9));
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let status = self.process.wait().unwrap();
        Ended::new(status, Vec::new(), self.log.all().into_bytes())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Log {
    /// Reads it to its end, which is told at `notify` after all that the process told there.
    fn read(process: &mut Child, notify: PathBuf) -> Self {
        let errors = BufReader::new(process.stderr.take().unwrap());
        let lines = Arc::<(Mutex<Lines>, Condvar)>::default();
        let into = Arc::clone(&lines);
        let reading = thread::spawn(move || {
            let mut all = String::new();
            for line in errors.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line);
                let value = value.unwrap_or(line.clone().into());
                into.0.lock().unwrap().lines.push(value);
                into.1.notify_all();
                all += &line;
                all.push('\n');
            }
            into.0.lock().unwrap().ended = true;
            into.1.notify_all();
            // Nobody listens any more where the story is over.
            let _ =
                UnixDatagram::unbound().and_then(|socket| socket.send_to(ENDED.as_bytes(), notify));
            all
        });
        Self {
            lines,
            reading: Arc::new(Mutex::new(Some(reading))),
        }
    }

    fn all(&self) -> String {
        let reading = self.reading.lock().unwrap().take();
        reading.unwrap().join().unwrap()
    }
}

/// Whether a text with `part` in it is anywhere in the value.
pub(crate) fn holds(line: &Value, part: &str) -> bool {
    line.to_string().contains(part)
}

/// A request on a control socket: the answer's status and body.
#[track_caller]
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    try_to_ask(socket, method, path, body).unwrap()
}

fn try_to_ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    // HTTP/1.0: the answer ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: postrider\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok((status.ok_or_else(cut)?, body))
}
