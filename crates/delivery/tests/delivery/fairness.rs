//! No account waits for another one's server.

use std::time::Duration;

use postrider_spool::StateKind;

use crate::support::{Closed, World, start};

#[tokio::test]
async fn one_dead_server_delays_none_of_the_others() {
    let mut world = World::new();
    for number in 0..1000 {
        let account = format!("account-{}", number % 10);
        world.server(&account);
        world.queue(&account, &format!("m{number}")).await;
    }
    let dead = world.server("account-3");
    dead.close(Closed::Away);
    world.run();
    world
        .until(Duration::from_mins(10), |world| {
            world.heard.moved_to(StateKind::Delivered).len() == 900
        })
        .await;
    // A hundred messages, a second each, on three sessions that open one after another.
    let took = world.now().duration_since(start()).as_secs();
    assert!(took <= 45, "{took}");
    let delivered = world.heard.moved_to(StateKind::Delivered);
    for number in (0..10).filter(|number| *number != 3) {
        let account = format!("account-{number}");
        let mine = delivered
            .iter()
            .filter(|transition| transition.account == account);
        let last = mine.map(|transition| transition.at).max().unwrap();
        assert!(
            last.duration_since(start()).as_secs() <= 45,
            "{account}: {last}"
        );
    }
    dead.open();
    world.until_done(Duration::from_hours(1)).await;
    assert_eq!(dead.taken().len(), 100);
}
