//! What a vault promises, on a real file system and with real processes.

mod support;

//mod concurrency;
//mod crash;
//mod damage;
//mod keys;
//mod permissions;
mod records;
//mod rekey;
//mod secrecy;
//mod space;
//mod transfer;
