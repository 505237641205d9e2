//! The gateway: SMTP submission for programs and devices that know nothing but a password.
//!
//! Nobody sends without a credential of the gateway's own, and nobody hears 250 before the queue
//! has the message on the disk.
//!
//! Not here: the queue, accounts, the vault and scripts. The host gives them by traits.
#![forbid(unsafe_code)]
