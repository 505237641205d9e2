//! An application's secret or certificate is replaced before it ends.

mod journal;
mod machine;
#[cfg(test)]
mod simulation;
