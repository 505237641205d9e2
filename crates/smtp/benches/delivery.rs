//! Delivery against a scripted server.
fn main() {}
