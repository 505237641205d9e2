use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::limits::{Limits, Quota};

/// A ledger's place.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("gateway/ledger.db")
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.path()).unwrap()
    }

    fn traffic(&self) -> Vec<TrafficRow> {
        let reader = Reader::open(&self.path()).unwrap().unwrap();
        let mut rows = Vec::new();
        reader
            .traffic(Timestamp::MIN, |row| rows.push(row))
            .unwrap();
        rows
    }

    fn domains(&self) -> Vec<DomainRow> {
        let reader = Reader::open(&self.path()).unwrap().unwrap();
        let mut rows = Vec::new();
        reader
            .domains(Timestamp::MIN, |row| rows.push(row))
            .unwrap();
        rows
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn accepted(device: &str, at: Timestamp) -> Observation {
    Observation {
        at,
        gateway: "office".to_owned(),
        device: device.to_owned(),
        client: "192.0.2.7".parse().unwrap(),
        sender: Some("Scanner@contoso.com".to_owned()),
        mechanism: "LOGIN".to_owned(),
        tls: "TLSv1.3".to_owned(),
        outcome: Outcome::Accepted,
        refusal: None,
        octets: 1000,
        recipients: vec![
            "a@contoso.com".to_owned(),
            "b@Contoso.com".to_owned(),
            "c@example.org".to_owned(),
        ],
    }
}

fn refused(device: &str, at: Timestamp, text: &str) -> Observation {
    Observation {
        outcome: Outcome::Refused,
        refusal: Some(Refusal::new(550, "5.7.1", text)),
        octets: 0,
        recipients: Vec::new(),
        ..accepted(device, at)
    }
}

fn messages(rows: &[TrafficRow]) -> u64 {
    let accepted = rows.iter().filter(|row| row.outcome == Outcome::Accepted);
    accepted.map(|row| row.sums.count).sum()
}

#[test]
fn messages_of_a_day_are_one_row_and_their_domains_are_counted_apart() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    ledger.record(&accepted("printer", at(60)));
    ledger.record(&refused("printer", at(61), "not as x@contoso.com"));
    ledger.record(&refused("printer", at(62), "not as y@contoso.com"));
    ledger.flush().unwrap();

    let rows = place.traffic();
    assert_eq!(rows.len(), 2);
    let sent = &rows[0];
    assert_eq!(
        (
            sent.gateway.as_str(),
            sent.device.as_str(),
            sent.client.as_str()
        ),
        ("office", "printer", "192.0.2.7")
    );
    assert_eq!(sent.sender, "scanner@contoso.com");
    assert_eq!(
        (sent.mechanism.as_str(), sent.tls.as_str()),
        ("LOGIN", "TLSv1.3")
    );
    let sums = Sums {
        count: 2,
        recipients: 6,
        octets: 2000,
        first_at: at(0),
        last_at: at(60),
    };
    assert_eq!(sent.sums, sums);
    let refused = &rows[1];
    assert_eq!(
        (refused.reply.as_str(), refused.sums.count),
        ("550 5.7.1", 2)
    );
    assert_eq!(refused.text, "not as y@contoso.com");

    let domains = place.domains();
    let of = |row: &DomainRow| (row.domain.clone(), row.sums.count, row.sums.recipients);
    assert_eq!(
        domains.iter().map(of).collect::<Vec<_>>(),
        [
            ("contoso.com".to_owned(), 2, 4),
            ("example.org".to_owned(), 2, 2)
        ]
    );
}

#[test]
fn nobody_else_may_read_it() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    let path = place.path();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let directory = path.parent().unwrap().metadata().unwrap();
    assert_eq!(directory.mode() & 0o777, 0o700);
}

#[test]
fn the_last_handle_writes_what_is_left() {
    let place = Place::new();
    let ledger = place.open();
    let other = ledger.clone();
    ledger.record(&accepted("printer", at(0)));
    drop(ledger);
    other.record(&accepted("printer", at(1)));
    drop(other);
    assert_eq!(messages(&place.traffic()), 2);
}

#[test]
fn the_writer_writes_without_being_told_when_there_is_much() {
    let place = Place::new();
    let ledger = place.open();
    for number in 0..1500 {
        ledger.record(&accepted(&format!("device-{number}"), at(0)));
    }
    ledger.close();
    assert_eq!(messages(&place.traffic()), 1500);
    assert_eq!(ledger.health().waiting, 0);
}

#[test]
fn what_a_crash_leaves_is_whole_and_is_added_to() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    // A crash: the log was never folded into the file, and a batch is half-way.
    let crashed = Place::new();
    std::fs::create_dir(crashed.path().parent().unwrap()).unwrap();
    let half = Connection::open(place.path()).unwrap();
    half.execute_batch("BEGIN IMMEDIATE; UPDATE traffic SET count = 99; DELETE FROM domain")
        .unwrap();
    for end in ["", "-wal"] {
        let file = |place: &Place| format!("{}{end}", place.path().display());
        std::fs::copy(file(&place), file(&crashed)).unwrap();
    }

    assert_eq!(messages(&crashed.traffic()), 1);
    let ledger = crashed.open();
    ledger.record(&accepted("printer", at(5)));
    ledger.close();
    assert_eq!(messages(&crashed.traffic()), 2);
    assert_eq!(crashed.domains().len(), 2);
}

#[test]
fn two_readers_read_while_it_is_written_and_see_whole_batches() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    let one = Reader::open(&place.path()).unwrap().unwrap();
    let other = Reader::open(&place.path()).unwrap().unwrap();
    let mut seen = 0;
    one.traffic(Timestamp::MIN, |row| {
        // In the middle of reading.
        ledger.record(&accepted("scanner", at(1)));
        ledger.flush().unwrap();
        seen += row.sums.count;
    })
    .unwrap();
    assert_eq!(seen, 1);
    for reader in [&one, &other] {
        let mut seen = 0;
        reader
            .traffic(Timestamp::MIN, |row| seen += row.sums.count)
            .unwrap();
        assert_eq!(seen, 2);
    }
}

#[test]
fn it_is_read_without_anybody_who_writes_it() {
    let place = Place::new();
    assert!(Reader::open(&place.path()).unwrap().is_none());
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    drop(ledger);
    assert_eq!(messages(&place.traffic()), 1);
    let reader = Reader::open(&place.path()).unwrap().unwrap();
    let written = reader.connection.execute("DELETE FROM traffic", []);
    assert!(written.is_err());
    assert_eq!(
        reader.marks().unwrap(),
        Marks {
            written_at: Some(at(0)),
            lost: 0
        }
    );
}

#[test]
fn a_thousand_senders_of_one_device_are_a_bounded_number_of_rows_and_none_is_lost() {
    let place = Place::new();
    let ledger = place.open();
    for number in 0..3_000_u32 {
        let seen = Observation {
            sender: Some(format!("user-{number}@contoso.com")),
            recipients: vec![format!("x@{number}.example.org")],
            ..accepted("printer", at(i64::from(number)))
        };
        ledger.record(&seen);
        if number % 100 == 0 {
            ledger.flush().unwrap();
        }
    }
    ledger.record(&accepted("scanner", at(0)));
    ledger.close();

    let rows = place.traffic();
    let domains = place.domains();
    let of_printer = rows.iter().filter(|row| row.device == "printer").count();
    assert_eq!((of_printer, rows.len()), (257, 258));
    assert_eq!(domains.len(), 257 + 2);
    assert_eq!(messages(&rows), 3_001);
    let recipients: u64 = domains.iter().map(|row| row.sums.recipients).sum();
    assert_eq!(recipients, 3_003);
    let other = rows.iter().find(|row| row.sender == OTHER).unwrap();
    assert_eq!(
        (other.client.as_str(), other.sums.count),
        (OTHER, 3_000 - 256)
    );
}

#[test]
fn a_file_that_cannot_be_written_stops_nothing_and_loses_nothing_while_memory_lasts() {
    let place = Place::new();
    std::fs::create_dir(place.path().parent().unwrap()).unwrap();
    std::fs::write(
        place.path(),
        "no database, and longer than its header would be".repeat(99),
    )
    .unwrap();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    assert!(ledger.flush().is_err());
    ledger.record(&accepted("printer", at(1)));
    let error = ledger.flush().unwrap_err();
    assert_eq!(ledger.health().trouble, Some(error.to_string()));
    assert!(error.to_string().contains("ledger.db: "), "{error}");
    assert!(Reader::open(&place.path()).is_err());

    // Somebody moves it away.
    std::fs::remove_file(place.path()).unwrap();
    ledger.flush().unwrap();
    let health = ledger.health();
    assert_eq!((health.trouble, health.lost, health.waiting), (None, 0, 0));
    assert_eq!(messages(&place.traffic()), 2);
}

#[test]
fn a_batch_that_fails_halfway_leaves_nothing_and_is_counted_once_when_it_can_be_written() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    let other = Connection::open(place.path()).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON recent
                BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
        )
        .unwrap();
    for second in 1..4 {
        ledger.record(&accepted("printer", at(second)));
        let error = ledger.flush().unwrap_err().to_string();
        assert!(error.ends_with("database or disk is full"), "{error}");
    }
    assert_eq!(messages(&place.traffic()), 1);

    other.execute_batch("DROP TRIGGER full").unwrap();
    ledger.flush().unwrap();
    assert_eq!(messages(&place.traffic()), 4);
    assert_eq!(place.traffic()[0].sums.last_at, at(3));
    assert_eq!(ledger.health().trouble, None);
}

#[test]
fn memory_is_bounded_while_the_file_cannot_be_written_and_what_is_lost_is_counted() {
    let place = Place::new();
    std::fs::create_dir(place.path().parent().unwrap()).unwrap();
    std::fs::create_dir(place.path()).unwrap();
    let ledger = place.open();
    for number in 0..30_000 {
        ledger.record(&accepted(&format!("device-{number}"), at(0)));
    }
    assert!(ledger.flush().is_err());
    let health = ledger.health();
    assert!(health.waiting <= 3 * 8192, "{}", health.waiting);
    assert!(health.lost > 0);

    std::fs::remove_dir(place.path()).unwrap();
    ledger.flush().unwrap();
    let reader = Reader::open(&place.path()).unwrap().unwrap();
    assert_eq!(reader.marks().unwrap().lost, health.lost);
    assert_eq!(messages(&place.traffic()) + health.lost, 30_000);
}

#[test]
fn a_file_that_is_replaced_is_left_for_the_new_one() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", place.path().display()));
    }
    ledger.record(&accepted("printer", at(1)));
    ledger.flush().unwrap();
    assert_eq!(messages(&place.traffic()), 1);
}

#[test]
fn what_is_older_than_its_time_goes() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&accepted("printer", at(0)));
    ledger.flush().unwrap();
    let day = 24 * 3600;
    ledger.record(&accepted("printer", at(400 * day)));
    ledger.flush().unwrap();
    assert_eq!(place.traffic().len(), 2);
    ledger.record(&accepted("printer", at(401 * day)));
    ledger.flush().unwrap();
    assert_eq!(place.traffic().len(), 2);
    assert_eq!(place.domains().len(), 4);
}

#[test]
fn a_newer_ledger_and_another_programs_database_are_left_alone() {
    for (sql, says) in [
        ("PRAGMA user_version = 2", "a newer postrider"),
        ("CREATE TABLE theirs (x)", "something else"),
        ("PRAGMA user_version = -7", "something else"),
    ] {
        let place = Place::new();
        std::fs::create_dir(place.path().parent().unwrap()).unwrap();
        let theirs = Connection::open(place.path()).unwrap();
        theirs.execute_batch("CREATE TABLE known (x)").unwrap();
        theirs.execute_batch(sql).unwrap();
        drop(theirs);

        let ledger = place.open();
        ledger.record(&accepted("printer", at(0)));
        let error = ledger.flush().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        let error = Reader::open(&place.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        drop(ledger);
        let theirs = Connection::open(place.path()).unwrap();
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'traffic'";
        let tables: i64 = theirs.query_row(tables, [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
    }
}

#[test]
fn a_days_limit_holds_across_a_restart() {
    let place = Place::new();
    let ledger = place.open();
    for minute in 0..10 {
        ledger.record(&accepted("printer", at(minute * 60)));
    }
    ledger.record(&refused("printer", at(700), "no"));
    drop(ledger);

    let limits = Limits::new();
    let now = at(3600);
    let reader = Reader::open(&place.path()).unwrap().unwrap();
    for recent in reader.recent(now).unwrap() {
        limits.restore(&recent.gateway, &recent.device, recent.at, recent.messages);
    }
    let quota = |per_day| Quota {
        per_minute: None,
        per_day: Some(per_day),
    };
    let refused = limits.reserve("office", "printer", quota(10), now);
    assert!(refused.is_err());
    assert!(limits.reserve("office", "printer", quota(11), now).is_ok());
    assert_eq!(reader.recent(at(3 * 24 * 3600)).unwrap(), []);
}

#[test]
fn what_a_client_says_is_kept_short_and_printable() {
    let place = Place::new();
    let ledger = place.open();
    ledger.record(&Observation {
        sender: Some(format!("a\u{1b}[2J\n{}@contoso.com", "ü".repeat(10_000))),
        ..accepted("printer", at(0))
    });
    drop(ledger);
    let rows = place.traffic();
    assert!(rows[0].sender.len() <= 320);
    assert!(rows[0].sender.starts_with("a[2jü"));
}

#[test]
fn every_outcomes_name_is_its_own() {
    for outcome in Outcome::ALL {
        assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_it_is_flushed_and_reopened_the_sums_are_those_of_a_plain_list(
        seen in prop::collection::vec((0_u8..4, 0_i64..400_000, 0_u64..5_000, 0_u8..8), 1..40),
    ) {
        let place = Place::new();
        let mut ledger = place.open();
        for (device, second, octets, then) in &seen {
            ledger.record(&Observation {
                octets: *octets,
                ..accepted(&format!("device-{device}"), at(*second))
            });
            match then {
                0 => ledger.flush().unwrap(),
                1 => {
                    drop(ledger);
                    ledger = place.open();
                }
                _ => {}
            }
        }
        drop(ledger);

        let rows = place.traffic();
        for device in 0..4 {
            let name = format!("device-{device}");
            let of_list = seen.iter().filter(|one| one.0 == device);
            let of_rows = rows.iter().filter(|row| row.device == name);
            let octets = |octets: u64, row: &TrafficRow| octets + row.sums.octets;
            prop_assert_eq!(
                of_rows.clone().fold(0, octets),
                of_list.clone().map(|one| one.2).sum::<u64>()
            );
            prop_assert_eq!(
                of_rows.clone().map(|row| row.sums.first_at).min(),
                of_list.clone().map(|one| at(one.1)).min()
            );
            prop_assert_eq!(
                of_rows.map(|row| row.sums.last_at).max(),
                of_list.map(|one| at(one.1)).max()
            );
        }
        prop_assert_eq!(messages(&rows), seen.len() as u64);
    }
}
