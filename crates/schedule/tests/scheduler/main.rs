//! The scheduler at work, on a clock that is moved by hand: every count is exact.

mod support;

mod failing_store;
