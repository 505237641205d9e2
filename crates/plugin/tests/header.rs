//! `cargo xtask check-header`, also as a test.

#[path = "../../../xtask/src/header.rs"]
mod header;

#[test]
fn the_c_header_and_rust_agree_on_every_size_offset_and_constant() {
    if let Err(message) = header::check() {
        panic!("{message}");
    }
}
