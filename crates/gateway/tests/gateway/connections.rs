//! Who may connect, how many, until when; and settings that change meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use postrider_gateway::{Event, GatewayError, TurnedAway};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::support::{Client, Desk, MESSAGE, plain, policy, settings};

fn turned_away(desk: &Desk) -> Vec<TurnedAway> {
    desk.told(|event| match event {
        Event::TurnedAway { why, .. } => Some(*why),
        _ => None,
    })
}

#[tokio::test]
async fn what_somebody_here_has_to_mend_is_named_and_told_before_anybody_signs_in() {
    for (says, closes, wanted) in [
        (
            "EHLO mfp.lan\n",
            true,
            "500 5.5.2 Lines end with CRLF; the quirk bare_lf lets it pass",
        ),
        ("HELO\r\n", false, "; the quirk helo_only lets it pass"),
        (
            "PROXY TCP4 192.0.2.9 192.0.2.1 51234 25\r\n",
            true,
            "500 5.5.2 PROXY protocol headers are not taken: have the load balancer send none",
        ),
    ] {
        let desk = Desk::new();
        let gateway = plain(&desk, |_| {});
        let mut client = Client::dial(gateway.addresses()[0]).await;
        client.expect("220").await;
        client.send(says).await;
        let reply = client.hear().await;
        assert!(reply.ends_with(wanted), "{reply}");
        let told = desk.told(|event| match event {
            Event::Refused { arrival, refusal } => {
                Some((arrival.device.clone(), refusal.to_string()))
            }
            _ => None,
        });
        assert_eq!(told, [(None, reply)]);
        let reply = client.say("NOOP").await;
        assert_eq!(reply.is_empty(), closes, "{says} {reply}");
    }
}

#[tokio::test]
async fn a_quirk_that_is_on_is_not_said_to_help() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| settings.quirks.login_nul = true);
    let mut client = Client::connect(&gateway).await;
    // `a`, NUL, `b`.
    let reply = client.say("AUTH LOGIN YQBi").await;
    assert_eq!(reply, "501 5.5.2 The response contains NUL");
}

#[tokio::test]
async fn clients_from_elsewhere_hear_one_line() {
    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        settings.clients = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let mut client = Client::dial(gateway.addresses()[0]).await;
    client.expect("554 5.7.1").await;
    assert_eq!(client.hear().await, "");
    assert_eq!(turned_away(&desk), [TurnedAway::Network]);
    assert_eq!(gateway.connections(), 0);
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    for (all, each, why) in [
        (2, 10, TurnedAway::Full),
        (10, 2, TurnedAway::FullForClient),
    ] {
        let desk = Desk::new();
        let gateway = plain(&desk, |settings| {
            (settings.connections, settings.connections_per_client) = (all, each);
        });
        let mut first = Client::connect(&gateway).await;
        let _second = Client::connect(&gateway).await;
        let mut third = Client::dial(gateway.addresses()[0]).await;
        third.expect("421 4.").await;
        assert_eq!(third.hear().await, "");
        assert_eq!(turned_away(&desk), [why]);
        assert!(first.say("QUIT").await.starts_with("221"));
        drop(first);
        while gateway.connections() == 2 {
            tokio::task::yield_now().await;
        }
        Client::connect(&gateway).await;
    }
}

#[tokio::test]
async fn new_settings_hold_for_new_sessions() {
    let desk = Desk::new();
    let dir = tempfile::tempdir().unwrap();
    let gateway = plain(&desk, |_| {});
    let mut old = Client::signed_in(&gateway).await;
    let old_address = gateway.addresses()[0];

    let mut changed = settings(dir.path());
    changed.tls = postrider_gateway::TlsMode::DangerPlaintext;
    changed.hostname = "new.contoso.com".to_owned();
    changed.policy.senders.clear();
    changed.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    gateway.apply(changed.clone()).await.unwrap();
    assert_eq!(gateway.addresses().len(), 2);
    assert_eq!(gateway.addresses()[0], old_address);
    assert!(
        old.submit("scans@contoso.com", MESSAGE)
            .await
            .starts_with("250")
    );
    for address in gateway.addresses() {
        let mut new = Client::dial(address).await;
        new.expect("220 new.contoso.com").await;
    }

    // An address that is taken changes nothing.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let before = gateway.addresses();
    changed.listen = vec![address];
    changed.hostname = "other.contoso.com".to_owned();
    let error = gateway.apply(changed.clone()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Listen { address: at, .. } if at == address));
    assert_eq!(gateway.addresses(), before);
    let mut new = Client::dial(before[0]).await;
    new.expect("220 new.contoso.com").await;

    // Nobody listens any more where the settings do not say so.
    changed.listen = vec!["127.0.0.1:0".parse().unwrap()];
    gateway.apply(changed).await.unwrap();
    assert_eq!(gateway.addresses(), [old_address]);
    assert!(tokio::net::TcpStream::connect(before[1]).await.is_err());
}

#[tokio::test]
async fn a_wider_address_takes_the_place_of_a_narrower_one() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let port = gateway.addresses()[0].port();
    let dir = tempfile::tempdir().unwrap();
    let mut changed = settings(dir.path());
    changed.tls = postrider_gateway::TlsMode::DangerPlaintext;
    changed.listen = vec![SocketAddr::from(([0, 0, 0, 0], port))];
    gateway.apply(changed).await.unwrap();
    assert_eq!(gateway.addresses()[0].ip().to_string(), "0.0.0.0");
    let mut client = Client::dial(([127, 0, 0, 1], port).into()).await;
    client.expect("220").await;
}

#[tokio::test]
async fn at_the_end_the_idle_go_and_a_message_on_its_way_arrives() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut idle = Client::connect(&gateway).await;
    let mut busy = Client::signed_in(&gateway).await;
    busy.begin("scans@contoso.com").await.unwrap();
    busy.send(&MESSAGE[..30]).await;
    // The server has begun to read it.
    idle.say("NOOP").await;

    let address = gateway.addresses()[0];
    let stopping = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.stop(Duration::from_hours(1)).await }
    });
    idle.expect("421 4.3.2").await;
    assert_eq!(idle.hear().await, "");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    busy.send(&MESSAGE[30..]).await;
    assert!(busy.say(".").await.starts_with("250 2.0.0"));
    busy.expect("421 4.3.2").await;
    drop((idle, busy));
    stopping.await.unwrap();
    assert_eq!(gateway.connections(), 0);
    assert_eq!(desk.messages.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_does_not_come_to_an_end_is_cut_off() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut busy = Client::signed_in(&gateway).await;
    busy.begin("scans@contoso.com").await.unwrap();
    tokio::time::pause();
    gateway.stop(Duration::from_secs(30)).await;
    assert_eq!(busy.hear().await, "");
    assert_eq!(gateway.connections(), 0);
    assert!(desk.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let desk = Desk::new();
    let gateway = plain(&desk, |_| {});
    let mut silent = Client::connect(&gateway).await;
    tokio::time::pause();
    silent.expect("421 4.4.2").await;
}

/// Resident memory of this process, in octets.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Both ends are here.
    let most = usize::try_from((files.saturating_sub(200)) / 2).unwrap_or(10_000);
    let count = most.min(10_000);

    let desk = Desk::new();
    let gateway = plain(&desk, |settings| {
        (settings.connections, settings.connections_per_client) = (20_000, 20_000);
        settings.policy = policy();
    });
    let mut warm = Client::signed_in(&gateway).await;
    let before = resident();
    let mut idle = Vec::with_capacity(count);
    let mut greeting = [0; 64];
    for _ in 0..count {
        let stream = tokio::net::TcpStream::connect(gateway.addresses()[0])
            .await
            .unwrap();
        loop {
            stream.readable().await.unwrap();
            match stream.try_read(&mut greeting) {
                Ok(read) => break assert!(greeting[..read].starts_with(b"220 ")),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        idle.push(stream);
    }
    assert_eq!(gateway.connections(), count + 1);
    let each = resident().saturating_sub(before) / count;
    eprintln!("{count} idle connections, {each} octets each, both ends");
    assert!(each < 40 * 1024, "{each}");

    let begun = std::time::Instant::now();
    assert!(
        warm.submit("scans@contoso.com", MESSAGE)
            .await
            .starts_with("250")
    );
    let mut new = Client::signed_in(&gateway).await;
    assert!(
        new.submit("scans@contoso.com", MESSAGE)
            .await
            .starts_with("250")
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
