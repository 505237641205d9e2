//! `postrider send`: one message from flags and standard input.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::host::Host;
use super::output::{Output, complain};
use crate::app::SendOutcome;
use crate::failure::Failure;
use crate::lua::{Attachment, Priority, Queueing, SendRequest, Source};

/// The largest message read from standard input: Exchange Online's ceiling.
const STDIN_CAP: u64 = 157_286_400;

/// The message.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  df -h | postrider send --account alerts --to ops@example.org --subject 'Disk report'
  postrider send --account alerts --to a@example.org --to b@example.org \\
      --subject Report --text 'See attached.' --attach report.pdf
  postrider send --account alerts --raw message.eml
  postrider send --account alerts --to ops@example.org --subject Disk --text 'Full.' \\
      --queue --idempotency-key disk-full

The body is read from standard input when neither --text, --html nor --raw is given.
Exit status 0 means that the server took the message for every recipient, 75 that some or all
may succeed later, 69 that some or all were refused for good. With --queue, 0 means that the
message is safe on disk; `postrider serve` or `postrider queue flush` delivers it.")]
pub(super) struct Arguments {
    /// The account to send through
    #[arg(long, short, value_name = "NAME")]
    account: String,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["cc", "bcc", "raw"])]
    to: Vec<String>,
    /// A recipient of a copy; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    cc: Vec<String>,
    /// A recipient whom no header names; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    bcc: Vec<String>,
    /// The author [default: the account's sender]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Where answers go; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    reply_to: Vec<String>,
    /// The subject
    #[arg(long, short)]
    subject: Option<String>,
    /// The body as plain text
    #[arg(long)]
    text: Option<String>,
    /// The body as HTML
    #[arg(long)]
    html: Option<String>,
    /// A file to attach; may be repeated
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// A further header field, as 'Name: value'; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = header)]
    header: Vec<(String, String)>,
    /// How urgent it is
    #[arg(long, value_enum)]
    priority: Option<PriorityArgument>,
    /// A finished RFC 5322 message to send as it is, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "attach", "header", "priority", "reply_to"])]
    raw: Option<PathBuf>,
    /// Do not wait for the server: put it into the queue, from where it is delivered and tried
    /// again for days
    #[arg(long)]
    queue: bool,
    /// The same key again queues nothing, and answers the first receipt
    #[arg(long, value_name = "KEY", requires = "queue")]
    idempotency_key: Option<String>,
    /// Not before this time, such as 2026-03-01T08:00:00Z
    #[arg(long, value_name = "TIME", requires = "queue", value_parser = moment)]
    send_at: Option<Timestamp>,
    /// What is not delivered by then has failed
    #[arg(long, value_name = "TIME", requires = "queue", value_parser = moment)]
    expires_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PriorityArgument {
    High,
    Normal,
    Low,
}

pub(super) async fn run(
    arguments: Arguments,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let account = arguments.account.clone();
    // Nobody types a message for an account that is not there.
    host.account(&account).await?;
    let request = tokio::task::spawn_blocking(move || request(arguments))
        .await
        .map_err(|_| Failure::new("internal", "reading the message was interrupted"))??;
    if request.queue.is_some() {
        return enqueue(&account, request, host, output).await;
    }
    let outcome = host.send(&account, request).await;
    // The answer first: taking leave may take a while, and nobody waits for it.
    if let Ok(receipt) = &outcome {
        output.json(receipt);
        print_receipt(receipt, output);
    }
    host.close().await;
    outcome.map(|receipt| ExitCode::from(receipt.exit_code()))
}

async fn enqueue(
    account: &str,
    request: SendRequest,
    host: &Host,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let queued = host.enqueue(account, request).await?;
    output.json(&queued);
    output.line(format!("Message-ID {}", queued.message_id));
    let word = if queued.duplicate {
        "queued already"
    } else {
        "queued"
    };
    output.line(format!("{}  {}", output.good(word), queued.id));
    if !host.has_daemon() {
        output.note("no daemon runs: `postrider serve` or `postrider queue flush` delivers it");
    }
    Ok(ExitCode::SUCCESS)
}

/// One line per recipient.
pub(super) fn print_receipt(receipt: &SendOutcome, output: &Output) {
    output.line(format!("Message-ID {}", receipt.message_id));
    for recipient in &receipt.recipients {
        let verdict = if recipient.verdict == "accepted" {
            output.good(&recipient.verdict)
        } else {
            output.bad(&recipient.verdict)
        };
        output.line(format!(
            "{verdict}  {}  {}",
            recipient.address,
            output.faint(&recipient.reply)
        ));
        if let Some(remedy) = &recipient.remedy {
            output.line(format!("          try: {remedy}"));
        }
    }
}

fn request(arguments: Arguments) -> Result<SendRequest, Failure> {
    let raw = match &arguments.raw {
        Some(path) if path.as_os_str() == "-" => Some(Source::Octets(standard_input()?)),
        Some(path) => Some(Source::Path(path.clone())),
        None => None,
    };
    let text = match arguments.text {
        None if arguments.html.is_none() && raw.is_none() => {
            if io::stdin().is_terminal() {
                complain("Type the message, then Ctrl-D.");
            }
            let octets = standard_input()?;
            if octets.is_empty() {
                complain("note: standard input is empty, so the message has no text");
            }
            Some(String::from_utf8(octets).map_err(|_| {
                Failure::new("message.invalid", "text: standard input is not UTF-8")
                    .with_remedy("convert it with iconv, or attach it: --text '…' --attach FILE")
            })?)
        }
        text => text,
    };
    Ok(SendRequest {
        from: arguments.from,
        reply_to: arguments.reply_to,
        to: arguments.to,
        cc: arguments.cc,
        bcc: arguments.bcc,
        subject: arguments.subject,
        text,
        html: arguments.html,
        attach: arguments
            .attach
            .into_iter()
            .map(|path| Attachment {
                source: Source::Path(path),
                name: None,
                mime_type: None,
                inline: None,
            })
            .collect(),
        headers: arguments.header,
        priority: arguments.priority.map(|priority| match priority {
            PriorityArgument::High => Priority::High,
            PriorityArgument::Normal => Priority::Normal,
            PriorityArgument::Low => Priority::Low,
        }),
        raw,
        queue: arguments.queue.then_some(Queueing {
            idempotency_key: arguments.idempotency_key,
            send_at: arguments.send_at,
            expires_at: arguments.expires_at,
        }),
        ..SendRequest::default()
    })
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    io::stdin()
        .lock()
        .take(STDIN_CAP + 1)
        .read_to_end(&mut octets)
        .map_err(|problem| Failure::new("file.unreadable", format!("standard input: {problem}")))?;
    if octets.len() as u64 > STDIN_CAP {
        return Err(Failure::new(
            "message.too_large",
            format!("standard input holds more than {STDIN_CAP} octets"),
        ));
    }
    Ok(octets)
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let wanted = |_| "write it like 2026-03-01T08:00:00Z or 2026-03-01T08:00:00+01:00".to_owned();
    text.parse().map_err(wanted)
}

fn header(field: &str) -> Result<(String, String), String> {
    let (name, value) = field
        .split_once(':')
        .ok_or("a header field is 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
