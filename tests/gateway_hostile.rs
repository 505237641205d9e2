//! Clients that mean harm, or are broken: however many there are and whatever they do, others are
//! served, memory is bounded, and one message never becomes two.
#![allow(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod support;

use support::gateway::{DEVICE, PASSWORD, Site, Tls};
use support::office::TO;
use support::talk::Talk;

const FROM: &str = "alerts@contoso.com";

fn signed_in(port: u16) -> Talk {
    Talk::signed_in(port, DEVICE, PASSWORD)
}

/// A message that is delivered, by a client of good will, at this moment.
#[track_caller]
fn somebody_else_is_served(site: &Site, port: u16, subject: &str) {
    let mut client = signed_in(port);
    client.says(&format!("MAIL FROM:<{FROM}>\r\n")).hears("250");
    client.says(&format!("RCPT TO:<{TO}>\r\n")).hears("250");
    client.says("DATA\r\n").hears("354");
    client
        .says(&format!("{}\r\n.\r\n", message(subject)))
        .hears("250 2.0.0");
    client.says("QUIT\r\n").hears("221");
    site.message(subject);
}

fn message(subject: &str) -> String {
    format!(
        "From: {FROM}\r\nTo: {TO}\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <{}@client.example>\r\n\r\nA line.",
        subject.replace(' ', ".")
    )
}

#[test]
fn ten_thousand_connections_are_held_in_little_memory_while_others_are_served() {
    let site = Site::with("connections = 12000\nconnections_per_client = 12000\n");
    let port = site.port(Tls::Offered);
    somebody_else_is_served(&site, port, "before");
    let before = site.daemon().memory();
    let connections = (site.open_files() - 200).min(10_000);
    let mut crowd: Vec<Talk> = (0..connections).map(|_| Talk::connect(port)).collect();
    for client in &mut crowd {
        client.hears("220");
    }
    // Some are half-way through a command, some through signing in.
    for (number, client) in crowd.iter_mut().enumerate() {
        match number % 3 {
            0 => client.says("EHL"),
            1 => client.says("EHLO client\r\nAUTH LOGIN\r\n"),
            _ => client.says(""),
        };
    }
    somebody_else_is_served(&site, port, "among them");
    let each = (site.daemon().memory() - before) / connections as u64;
    assert!(each < 32 * 1024, "{each} octets a connection");
    drop(crowd);
    somebody_else_is_served(&site, port, "after");
}

#[test]
fn one_connection_too_many_hears_so_and_costs_nobody_a_place() {
    let site = Site::with("connections = 8\nconnections_per_client = 4\n");
    let port = site.port(Tls::Offered);
    let mut crowd: Vec<Talk> = (0..4).map(|_| Talk::connect(port)).collect();
    for client in &mut crowd {
        client.hears("220");
    }
    let refused = Talk::connect(port).hears("421 4.7.0");
    assert!(refused.contains("connections"), "{refused}");
    drop(crowd);
    site.until_connections(Tls::Offered, 0);
    somebody_else_is_served(&site, port, "one of four again");
}

#[test]
fn a_client_that_stays_silent_is_sent_away() {
    let site = Site::with("idle_timeout = \"1s\"\n");
    let port = site.port(Tls::Offered);
    let mut silent = Talk::connect(port);
    silent.hears("220");
    let mut in_mid_message = signed_in(port);
    in_mid_message
        .says(&format!("MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n"))
        .hears("250");
    in_mid_message.hears("250");
    in_mid_message.hears("354");
    in_mid_message.says(&message("never finished"));
    silent.hears("421 4.4.2");
    assert_eq!(silent.reply(), "");
    in_mid_message.hears("421 4.4.2");
    assert_eq!(in_mid_message.reply(), "");
    assert!(site.subjects().is_empty());
}

#[test]
fn a_client_that_closes_half_or_all_of_a_message_leaves_nothing_behind() {
    let site = Site::start();
    let port = site.port(Tls::Offered);
    for (half, octets) in ["half", "all"].into_iter().zip([20, usize::MAX]) {
        let mut client = signed_in(port);
        client.says(&format!("MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n"));
        client.hears("250");
        client.hears("250");
        client.hears("354");
        let message = message(half);
        client.says(&message[..message.len().min(octets)]);
        client.ends();
        let left = client.octets();
        assert!(!String::from_utf8_lossy(&left).contains("250"), "{half}");
    }
    somebody_else_is_served(&site, port, "whole");
    assert_eq!(site.subjects(), ["whole"]);
}

#[test]
fn floods_end_in_a_farewell() {
    let site = Site::start();
    let port = site.port(Tls::Offered);
    for flood in ["NOOP\r\n", "RSET\r\n", "XYZZY\r\n", "\r\n", "EHLO x\r\n"] {
        let mut client = Talk::connect(port);
        client.says(&flood.repeat(20_000));
        let replies = client.rest();
        let last = replies.last().unwrap();
        assert!(last.starts_with("421 4.7.0"), "{flood:?}: {last}");
        assert!(
            replies.len() < 5_000,
            "{flood:?}: {} replies",
            replies.len()
        );
    }
    // A line without an end.
    let mut client = Talk::connect(port);
    client.hears("220");
    for _ in 0..64 {
        client.writes(&vec![b'A'; 64 * 1024]);
    }
    client.says("\r\nQUIT\r\n");
    let replies = client.rest();
    assert!(replies[0].starts_with("500 5.5.2"), "{replies:?}");
    somebody_else_is_served(&site, port, "after the floods");
}

#[test]
fn what_is_too_large_is_refused_and_the_session_goes_on() {
    let site = Site::with("max_message = \"1MiB\"\nrecipients_per_message = 3\n");
    let port = site.port(Tls::Offered);
    let mut client = signed_in(port);
    let announced = format!("MAIL FROM:<{FROM}> SIZE=1100000\r\n");
    client.says(&announced).hears("552 5.3.4");
    client.says(&format!("MAIL FROM:<{FROM}>\r\n")).hears("250");
    for _ in 0..3 {
        client.says(&format!("RCPT TO:<{TO}>\r\n")).hears("250");
    }
    client
        .says(&format!("RCPT TO:<{TO}>\r\n"))
        .hears("452 4.5.3");
    client.says("DATA\r\n").hears("354");
    let line = "A line of the message that goes on and on.\r\n";
    client.says(&message("too large")).says("\r\n");
    client
        .says(&line.repeat(40_000))
        .says(".\r\n")
        .hears("552 5.3.4");
    // The same in one chunk, and a header without an end.
    client.says(&format!("MAIL FROM:<{FROM}>\r\n")).hears("250");
    client.says(&format!("RCPT TO:<{TO}>\r\n")).hears("250");
    let octets = line.repeat(40_000);
    client.says(&format!("BDAT {} LAST\r\n{octets}", octets.len()));
    client.hears("552 5.3.4");
    client.says("QUIT\r\n").hears("221");
    somebody_else_is_served(&site, port, "small");
    assert_eq!(site.subjects(), ["small"]);
}

/// What could be taken for an end of data by somebody, with a second message behind it.
fn smuggled(end: &str) -> String {
    format!(
        "{}{end}MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n{}",
        message("outer"),
        message("smuggled")
    )
}

#[test]
fn no_second_message_ever_comes_out() {
    let site = Site::start();
    let mut ends = Vec::new();
    let breaks = ["\r\n", "\n", "\r", "\0", "\r\r\n", "\n\r", ""];
    for before in breaks {
        for after in breaks {
            for dot in [".", "..", ".\0", "\0."] {
                let end = format!("{before}{dot}{after}");
                // That one ends the data for everybody.
                if !end.contains("\r\n.\r\n") {
                    ends.push(end);
                }
            }
        }
    }
    for quirks in [Tls::Offered, Tls::OfferedOdd] {
        let port = site.port(quirks);
        for end in &ends {
            // By DATA, and the same octets counted.
            let body = smuggled(end);
            let mut client = signed_in(port);
            client.says(&format!("MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n"));
            for code in ["250", "250", "354"] {
                client.hears(code);
            }
            client.says(&format!("{body}\r\n.\r\n"));
            client.ends();
            let replies = client.rest();
            assert_eq!(replies.len(), 1, "{end:?} by DATA: {replies:?}");

            let mut client = signed_in(port);
            client.says(&format!(
                "MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nBDAT {} LAST\r\n{body}",
                body.len()
            ));
            client.ends();
            for code in ["250", "250"] {
                client.hears(code);
            }
            let replies = client.rest();
            assert_eq!(replies.len(), 1, "{end:?} by BDAT: {replies:?}");
        }
    }
    somebody_else_is_served(&site, site.port(Tls::Offered), "at last");
    // What came out has one header, and the rest of it in its body.
    site.until_idle();
    let arrived = site.messages();
    assert!(arrived.len() > 1);
    for message in arrived {
        let (header, _) = message.split_once("\r\n\r\n").unwrap();
        let subjects = header.matches("Subject: ").count();
        assert_eq!(subjects, 1, "{message}");
        assert!(!header.contains("smuggled"), "{message}");
        // Nothing that stands for an end of data to anybody.
        let body = message.replace("\r\n", "");
        assert!(!body.contains(['\r', '\n', '\0']), "{message:?}");
    }
}
