//! The keeper in a world of its own: paused time, a clock that jumps, processes that die at
//! any step, a provider that fails in every way, and one who sees everything and looks for
//! the thirteen promises of the design.
//!
//! A [`scenario`] says what a run is put through; [`world`] plays it and writes down a
//! [`history`]; [`invariants`] and [`twins`] look for a promise that was not kept, and
//! [`properties`] do so for many runs. [`mutations`] shows that they find what they are
//! there to find. [`outage`] is one long run; [`load`] and [`mailboxes`] are about numbers.
//!
//! Chance is the same in every run of the tests. `POSTRIDER_KEEPER_SEED=word` gives another,
//! `POSTRIDER_KEEPER_CASES=100000` more of it:
//!
//! ```text
//! POSTRIDER_KEEPER_SEED=monday POSTRIDER_KEEPER_CASES=20000 \
//!     cargo test --package postrider-auth --lib keeper::simulation::properties
//! ```

mod canary;
mod chance;
mod disk;
mod history;
mod invariants;
mod life;
mod load;
mod mailboxes;
mod mutations;
mod outage;
mod properties;
mod provider;
mod scenario;
mod time;
mod twins;
mod world;
