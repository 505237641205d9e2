//! What scripts cost: a daemon with few and with many, and a hook in the way of every message.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs of each kind, alternating; medians are shown.
const RUNS: usize = 5;
/// Messages of one run.
const MESSAGES: usize = 400;

/// A script as they are: a handler and a schedule.
const SCRIPT: &str = r#"
local pr = require "postrider"
pr.on("token.reauthorization_required", function(event) pr.log.warn(event.account) end)
pr.every("1h", function() end, { name = "NAME" })
"#;

/// The sandbox as it ships, but for its pace: that is not what is measured.
fn unpaced() -> String {
    include_str!("../../crates/sandbox/scenarios/default.toml")
        .replace("messages_per_minute = 30", "messages_per_minute = 1000000")
}

const SENDER: &str = r#"
local pr = require "postrider"
local account = pr.account {
  name = "bench", provider = "microsoft365",
  username = "svc-mail@contoso.com", sender = "alerts@contoso.com",
  messages_per_minute = 1000000, recipients_per_day = 1000000,
  auth = {
    plugin = "oauth", flow = "client_credentials", tenant = "contoso.onmicrosoft.com",
    client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
    client_secret = pr.secret.env "SANDBOX_CLIENT_SECRET",
  },
}
if pr.args[2] == "hook" then
  pr.on("message.before_send", function(message)
    message.subject = "[ops] " .. message.subject
    return message
  end)
end
local function send() assert(account:send { to = "ops@example.org", subject = "x", text = "y" }) end
send()
local began = pr.time.now()
for _ = 1, tonumber(pr.args[1]) do send() end
print((pr.time.now() - began) * 1e6 // tonumber(pr.args[1]))
"#;

/// Measures and prints all of it.
pub(crate) fn bench(postrider: &Path) -> Result<(), String> {
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    for scripts in [1, 100] {
        daemon(postrider, &home.path().join(scripts.to_string()), scripts)?;
    }
    hook(postrider, home.path())
}

fn daemon(postrider: &Path, home: &Path, scripts: usize) -> Result<(), String> {
    let dir = home.join("scripts");
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let config = home.join("postrider.toml");
    write(&config, "[scripts]\ndir = \"scripts\"\n")?;
    for number in 0..scripts {
        let text = SCRIPT.replace("NAME", &format!("job-{number}"));
        write(&dir.join(format!("{number:03}.lua")), &text)?;
    }
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let socket = UnixDatagram::bind(home.join(format!("notify-{run}")))
            .map_err(|error| error.to_string())?;
        let began = Instant::now();
        let mut daemon = Command::new(postrider)
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(home.join("state"))
            .args(["--log", "error", "serve"])
            .env("NOTIFY_SOCKET", home.join(format!("notify-{run}")))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let outcome = wait_until_ready(&socket).and_then(|()| {
            ready.push(began.elapsed().as_micros());
            // What start-up needed and nobody needs any more is given back.
            std::thread::sleep(Duration::from_secs(1));
            resident_kib(&daemon)
        });
        let _ = daemon.kill();
        let _ = daemon.wait();
        resident.push(outcome?);
    }
    println!(
        "serve, {scripts} scripts: ready after {:.1} ms, {:.1} MiB resident when idle",
        f64::from(u32::try_from(median(ready)).unwrap_or(u32::MAX)) / 1000.0,
        f64::from(u32::try_from(median(resident)).unwrap_or(u32::MAX)) / 1024.0,
    );
    Ok(())
}

fn wait_until_ready(socket: &UnixDatagram) -> Result<(), String> {
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(|error| error.to_string())?;
    let mut said = [0; 4096];
    loop {
        let length = socket
            .recv(&mut said)
            .map_err(|error| format!("the daemon is not ready: {error}"))?;
        if String::from_utf8_lossy(&said[..length]).contains("READY=1") {
            return Ok(());
        }
    }
}

fn resident_kib(process: &Child) -> Result<u128, String> {
    let path = format!("/proc/{}/status", process.id());
    let file = fs::File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        if let Some(rest) = line.strip_prefix("VmRSS:") {
            let kib = rest.trim().trim_end_matches("kB").trim();
            return kib.parse().map_err(|_| format!("{path}: {line}"));
        }
    }
    Err(format!("{path} has no VmRSS"))
}

/// A hook that changes every message, against none; the server is the sandbox in the same
/// process.
fn hook(postrider: &Path, home: &Path) -> Result<(), String> {
    let script = home.join("send.lua");
    write(&script, SENDER)?;
    write(&home.join("scenario.toml"), &unpaced())?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        without.push(send(postrider, home, &script, "none")?);
        with.push(send(postrider, home, &script, "hook")?);
    }
    let (without, with) = (median(without), median(with));
    println!(
        "a message: {without} µs, with a before_send hook {with} µs ({:.2} times)",
        f64::from(u32::try_from(with).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(without.max(1)).unwrap_or(u32::MAX)),
    );
    Ok(())
}

fn send(postrider: &Path, home: &Path, script: &Path, hook: &str) -> Result<u128, String> {
    let output = Command::new(postrider)
        .current_dir(home)
        .arg("--state-dir")
        .arg(home.join("sandbox"))
        .args(["run", "--sandbox", "--scenario"])
        .arg(home.join("scenario.toml"))
        .arg(script)
        .args([&MESSAGES.to_string(), hook])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let first = said.lines().next().unwrap_or_default();
    let figure = first.split('.').next().unwrap_or_default();
    figure
        .parse()
        .map_err(|_| format!("the script said: {first}"))
}

fn median(mut figures: Vec<u128>) -> u128 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
