//! Clients that are slow, deaf, half gone, or do not stop.

use tokio::time::{Instant, sleep};

use super::*;

/// A connection of the given pipe, and the server's end of it at work.
fn connect(
    pipe: usize,
    limits: Limits,
) -> (DuplexStream, tokio::task::JoinHandle<std::io::Result<()>>) {
    let (client, server) = duplex(pipe);
    let (policy, quirks) = (TlsPolicy::DangerPlaintext, Quirks::default());
    let serving = serve(server, None, policy, Recorder::default(), limits, quirks);
    (client, tokio::spawn(serving))
}

/// Sends `head`, then `piece` again and again with `pause` between, until the server closes.
/// What it said, and how long that took.
async fn trickle(limits: Limits, head: &str, piece: &[u8], pause: Duration) -> (String, Duration) {
    let (client, _serving) = connect(1 << 20, limits);
    let (mut reading, mut writing) = tokio::io::split(client);
    let begun = Instant::now();
    let (head, piece) = (head.to_owned(), piece.to_vec());
    let writing = tokio::spawn(async move {
        let _ = writing.write_all(head.as_bytes()).await;
        loop {
            sleep(pause).await;
            if writing.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let mut said = String::new();
    reading.read_to_string(&mut said).await.unwrap();
    writing.abort();
    (said, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_body_must_keep_a_pace() {
    let second = Duration::from_secs(1);
    let data = format!("{OPEN}DATA\r\n");
    let bdat = format!("{OPEN}BDAT 100000 LAST\r\n");
    for head in [&data, &bdat] {
        // One octet a second spends what every body is granted, and earns little.
        let (said, took) = trickle(Limits::default(), head, b"x", second).await;
        assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
        assert!((180..=190).contains(&took.as_secs()), "{took:?}");
        // A pause as long as is granted, at most.
        let (said, took) = trickle(Limits::default(), head, &b"x".repeat(9999), 181 * second).await;
        assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
        assert_eq!(took.as_secs(), 180);
        // A modem's pace is enough, to the end of the time for a whole body.
        let (said, took) = trickle(Limits::default(), head, &b"x".repeat(40), second).await;
        assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
        assert!((1800..=1801).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_share_one_messages_time() {
    let limits = Limits {
        commands: u32::MAX,
        ..Limits::default()
    };
    // Each piece ends a chunk and begins the next, and each takes ten seconds.
    let head = format!("{OPEN}BDAT 1\r\n");
    let pause = Duration::from_secs(10);
    let (said, took) = trickle(limits, &head, b"xBDAT 1\r\n", pause).await;
    assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
    assert!((180..=200).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_a_slow_line_and_a_long_session_have_a_limit_each() {
    let limits = || Limits {
        idle_time: Duration::from_mins(5),
        command_time: Duration::from_mins(1),
        session_time: Duration::from_mins(30),
        ..Limits::default()
    };
    let never = Duration::from_hours(48);
    let (said, took) = trickle(limits(), "EHLO a\r\n", b"", never).await;
    assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
    assert_eq!(took.as_secs(), 300);
    let (said, took) = trickle(limits(), "EHLO a\r\nNO", b"", never).await;
    assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
    assert_eq!(took.as_secs(), 60);
    let (said, took) = trickle(limits(), "EHLO a\r\n", b"NOOP\r\n", Duration::from_secs(50)).await;
    assert!(said.ends_with("421 4.4.2 Session too long\r\n"), "{said}");
    assert_eq!(took.as_secs(), 1800);
    let slowly = format!("{OPEN}DATA\r\n");
    let limits = Limits {
        body_time: Duration::from_hours(9),
        ..limits()
    };
    let (said, took) = trickle(limits, &slowly, &[b'x'; 999], Duration::from_secs(9)).await;
    assert!(said.ends_with("421 4.4.2 Session too long\r\n"), "{said}");
    assert_eq!(took.as_secs(), 1800);
}

#[tokio::test(start_paused = true)]
async fn whoever_never_stops_talking_is_not_served_for_ever() {
    // Accepted messages renew every allowance but the session's own.
    let limits = Limits {
        session_time: Duration::from_secs(100),
        ..Limits::default()
    };
    let message = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n".repeat(50);
    let (client, serving) = connect(4096, limits);
    let (mut reading, mut writing) = tokio::io::split(client);
    let talking = tokio::spawn(async move {
        let _ = writing.write_all(b"EHLO a\r\n").await;
        while writing.write_all(&message).await.is_ok() {
            sleep(Duration::from_millis(300)).await;
        }
    });
    let mut said = String::new();
    reading.read_to_string(&mut said).await.unwrap();
    assert!(said.ends_with("421 4.4.2 Session too long\r\n"));
    serving.await.unwrap().unwrap();
    talking.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_is_cut_off_and_costs_little() {
    let limits = Limits {
        commands: u32::MAX,
        ..Limits::default()
    };
    let (mut client, serving) = connect(1024, limits);
    let begun = Instant::now();
    let mut sent = 0;
    while client.write_all(b"NOOP\r\n").await.is_ok() {
        sent += 6;
    }
    // A NOOP's reply is longer than the NOOP: 16 KiB of replies, one read, two pipes.
    assert!(sent < 32 * 1024, "{sent} octets were taken");
    assert_eq!(begun.elapsed().as_secs(), 300);
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_an_octet_now_and_then_is_cut_off_as_well() {
    let (client, serving) = connect(64, Limits::default());
    let (mut reading, mut writing) = tokio::io::split(client);
    let begun = Instant::now();
    let writing =
        tokio::spawn(async move { while writing.write_all(b"NOOP\r\n").await.is_ok() {} });
    while reading.read_u8().await.is_ok() {
        sleep(Duration::from_secs(10)).await;
    }
    assert!(begun.elapsed().as_secs() < 1200, "{:?}", begun.elapsed());
    serving.await.unwrap().unwrap();
    writing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shuts_its_half_still_hears_its_answers() {
    let (mut client, serving) = connect(1 << 16, Limits::default());
    client
        .write_all(format!("{OPEN}DATA\r\nx\r\n.\r\nNO").as_bytes())
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(codes(&said), [220, 250, 250, 250, 354, 250]);
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_any_command_ends() {
    for (command, most) in [
        ("NOOP", 2000),
        ("RSET", 2000),
        ("EHLO a", 2000),
        ("HELP", 2000),
        ("VRFY a", 2000),
        ("MAIL FROM:<a@b>\r\nRSET", 2000),
        ("BDAT 0", 21),
        ("EXPN a", 21),
        ("RCPT TO:<a@b>", 21),
        ("AUTH PLAIN d3Jvbmc=", 21),
        ("AUTH PLAIN\r\n*", 21),
        ("MAIL FROM:<", 21),
        ("XYZZY", 21),
        ("", 21),
        ("\0", 21),
        ("STARTTLS", 21),
    ] {
        let input = format!("EHLO a\r\n{}", format!("{command}\r\n").repeat(5000));
        let (said, messages) = play(Limits::default(), Quirks::default(), [input]).await;
        let said = codes(&said);
        assert_eq!(said.last(), Some(&421), "{command:?}");
        assert!(said.len() <= most + 25, "{command:?}: {}", said.len());
        assert!(messages.is_empty());
    }
}
