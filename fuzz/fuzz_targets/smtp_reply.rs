#![no_main]

#[path = "../bodies/smtp_reply.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
