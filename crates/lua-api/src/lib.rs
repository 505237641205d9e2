//! Every name that a script may use, described once.
//!
//! What the documentation says, what an editor completes, what `postrider check` knows and what
//! `send{…}` accepts are all read from these tables, so none of them can know a name that another
//! does not.
//!
//! Not here: a Lua state. That everything described is registered, and nothing else, is for a
//! test of `postrider-lua` to show.
#![forbid(unsafe_code)]

mod api;
mod reference;

pub use api::{
    ATTACH_FIELDS, EVENTS, Event, Field, HTTP_GET_FIELDS, HTTP_POST_FIELDS, ITEMS, Item, Kind,
    ROTATE_FIELDS, SEND_FIELDS, STANDARD, names,
};
pub use reference::reference;
