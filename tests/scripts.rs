//! The scripts of `scripts/`, as an operator runs them.
