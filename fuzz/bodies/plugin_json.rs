//! What a plugin and a host say to each other: any octets are read or refused, and what was
//! read survives being written.

use postrider_plugin::wire::{Action, Description, ErrorDetail, Event, Tokens};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) fn run(data: &[u8]) {
    round_trip::<Action>(data);
    round_trip::<Event>(data);
    round_trip::<Tokens>(data);
    round_trip::<ErrorDetail>(data);
    round_trip::<Description>(data);
}

fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else {
        return;
    };
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(
        written,
        serde_json::to_vec(&again).expect("and written again")
    );
}
