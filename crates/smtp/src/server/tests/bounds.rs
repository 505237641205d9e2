//! What one connection may cost.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_longest_auth_line_fits_and_one_more_octet_does_not() {
    let response = "A".repeat(12288 - "AUTH PLAI \r\n".len());
    let fits = format!("EHLO a\r\nAUTH PLAI {response}\r\n");
    assert_eq!(
        codes_for(Limits::default(), fits.as_bytes()).await,
        [220, 250, 235]
    );
    let over = format!("EHLO a\r\nAUTH PLAIN {response}\r\nNOOP\r\n");
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 250, 500, 250]
    );
    let over = format!("EHLO a\r\nAUTH PLAIN\r\n{}\r\nNOOP\r\n", "A".repeat(12288));
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 250, 334, 500, 250]
    );
    let over = format!("NOOP {}\r\nNOOP\r\n", "A".repeat(2048));
    assert_eq!(
        codes_for(Limits::default(), over.as_bytes()).await,
        [220, 500, 250]
    );
}

#[tokio::test(start_paused = true)]
async fn a_line_feed_alone_ends_the_connection() {
    let said = codes_for(Limits::default(), b"EHLO a\nMAIL FROM:<a@b>\r\n").await;
    assert_eq!(said, [220, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_unknown_length_ends_the_connection() {
    for size in ["x", "", "5 FIRST", "99999999999999999999"] {
        let input = format!("EHLO a\r\nBDAT {size}\r\nMAIL FROM:<a@b>\r\n");
        let said = codes_for(Limits::default(), input.as_bytes()).await;
        assert_eq!(said, [220, 250, 501], "{size:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_commands_and_endless_commands_end_the_connection() {
    let limits = || Limits {
        bad_commands: 3,
        commands: 6,
        ..Limits::default()
    };
    assert_eq!(
        codes_for(limits(), "X\r\n".repeat(9).as_bytes()).await,
        [220, 500, 500, 500, 500, 421]
    );
    assert_eq!(
        codes_for(limits(), "NOOP\r\n".repeat(9).as_bytes()).await,
        [220, 250, 250, 250, 250, 250, 250, 421]
    );
    let message = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n".repeat(5);
    let said = codes_for(limits(), format!("EHLO a\r\n{message}").as_bytes()).await;
    assert_eq!(
        said.iter().filter(|code| **code == 421).count(),
        0,
        "messages renew the allowance"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_is_refused_and_the_session_lives() {
    let limits = || Limits {
        message_octets: 10,
        discard_octets: 100,
        ..Limits::default()
    };
    let table: [(String, &[u16]); 5] = [
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(8)),
            &[354, 250, 250],
        ),
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(9)),
            &[354, 552, 250],
        ),
        (
            format!("DATA\r\n{}\r\n.\r\nNOOP\r\n", "a".repeat(100_000)),
            &[354, 552],
        ),
        (
            format!("BDAT 11 LAST\r\n{}NOOP\r\n", "a".repeat(11)),
            &[552, 250],
        ),
        (
            format!(
                "BDAT 6\r\n{0}BDAT 6\r\n{0}BDAT 0 LAST\r\nNOOP\r\n",
                "a".repeat(6)
            ),
            &[250, 552, 503, 250],
        ),
    ];
    for (input, wanted) in table {
        let said = codes_for(limits(), format!("{OPEN}{input}").as_bytes()).await;
        assert_eq!(said[4..], *wanted, "{input}");
    }
    let said = codes_for(
        limits(),
        format!("{OPEN}BDAT 18446744073709551615\r\nNOOP\r\n").as_bytes(),
    )
    .await;
    assert_eq!(said[4..], [552], "nobody reads that much");
}

#[tokio::test(start_paused = true)]
async fn one_recipient_too_many_is_refused_alone() {
    let limits = Limits {
        recipients: 1,
        ..Limits::default()
    };
    let said = codes_for(
        limits,
        format!("{OPEN}RCPT TO:<e@f>\r\nBDAT 0 LAST\r\n").as_bytes(),
    )
    .await;
    assert_eq!(said[4..], [452, 250]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_dawdles_hears_421() {
    for (input, after) in [
        ("EHLO", 300),
        ("EHLO a\r\nMAIL FROM:<a@b>\r\n", 300),
        ("EHLO a\r\nAUTH PLAIN\r\n", 300),
    ] {
        let begun = tokio::time::Instant::now();
        let server = served_in_clear(Recorder::default(), Limits::default());
        let said = heard(server, input.as_bytes()).await;
        assert!(said.ends_with("421 4.4.2 Timeout\r\n"), "{said}");
        assert_eq!(begun.elapsed().as_secs(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_trickles_in_gets_no_more_time_than_one_that_stops() {
    let (client, _) = served_in_clear(Recorder::default(), Limits::default());
    let (mut reading, mut writing) = tokio::io::split(client);
    let begun = tokio::time::Instant::now();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"A").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let mut said = String::new();
    reading.read_to_string(&mut said).await.unwrap();
    assert_eq!(codes(&said), [220, 421]);
    assert_eq!(begun.elapsed().as_secs(), 300);
    trickle.abort();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_or_hangs(
        pieces in proptest::collection::vec(
            prop_oneof![
                "(EHLO a|MAIL FROM:<a@b>|RCPT TO:<c@d>|DATA|BDAT 3|BDAT 4 LAST|AUTH PLAIN|STARTTLS|RSET|\\.|QUI)".prop_map(|line| (line + "\r\n").into_bytes()),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            0..30,
        ),
    ) {
        let said = in_paused_time(says_lossy(&pieces.concat()));
        prop_assert!(said.starts_with(b"220 "));
    }
}

async fn says_lossy(input: &[u8]) -> Vec<u8> {
    let limits = Limits {
        message_octets: 64,
        discard_octets: 64,
        ..Limits::default()
    };
    let (mut client, serving) = served_in_clear(Recorder::default(), limits);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    drop(client);
    serving.await.unwrap().unwrap();
    said
}
