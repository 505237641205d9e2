//! Takes queued mail to its servers: when, in what order, and what follows from each reply.
#![forbid(unsafe_code)]
