//! What became of the tests, for people and for programs.

mod diff;
mod junit;
mod pretty;
mod tap;

use super::{CaseResult, FileResult};

pub use junit::junit;
pub use pretty::Pretty;
pub use tap::Tap;

/// Told of everything as it happens.
pub trait Reporter {
    /// So many cases will be run.
    fn plan(&mut self, cases: usize);

    /// A case has ended.
    fn case(&mut self, file: &str, case: &CaseResult);

    /// A file is broken: none of its cases was run.
    fn broken(&mut self, file: &FileResult);

    /// All is done.
    fn end(&mut self, files: &[FileResult]);
}

/// Tells nobody: what is wanted comes as a whole.
pub struct Silent;

impl Reporter for Silent {
    fn plan(&mut self, _: usize) {}
    fn case(&mut self, _: &str, _: &CaseResult) {}
    fn broken(&mut self, _: &FileResult) {}
    fn end(&mut self, _: &[FileResult]) {}
}
