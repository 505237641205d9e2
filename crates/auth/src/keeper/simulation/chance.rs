//! Chance that depends on nothing but what it is asked about, so that one thing left out of
//! a run changes no other.

/// A number of any size, the same whenever `seed` and `about` are the same.
pub(super) fn roll(seed: u64, about: &[u64]) -> u64 {
    about.iter().fold(mixed(seed), |state, &part| {
        mixed(state ^ mixed(part.wrapping_add(0x9e37_79b9_7f4a_7c15)))
    })
}

/// A number of `0..below`.
pub(super) fn below(below: u64, seed: u64, about: &[u64]) -> u64 {
    roll(seed, about) % below.max(1)
}

/// The finaliser of splitmix64.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
