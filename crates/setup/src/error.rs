//! Why nothing was planned, or not everything was made.

use std::error::Error;
use std::fmt;

use postrider_graph::GraphError;

use crate::finding::Who;
use crate::plan::StepId;

/// What a [`crate::Record`] says when it could not write.
pub type RecordError = Box<dyn Error + Send + Sync>;

/// Why a plan was not made, or not carried out to its end.
#[derive(Debug)]
pub struct SetupError {
    /// The step that was being looked at or taken, if any.
    pub step: Option<StepId>,
    /// What the caller can act on.
    pub kind: SetupErrorKind,
}

/// The outcomes that call for different actions.
#[non_exhaustive]
#[derive(Debug)]
pub enum SetupErrorKind {
    /// What is wanted cannot be: two wishes contradict each other, or a value is none.
    Wanted(String),
    /// The plan holds something that keeps it from being carried out.
    Blocked {
        /// What, in a sentence without its full stop.
        what: String,
        /// Who can remove it.
        who: Who,
    },
    /// Graph refused, or did not answer.
    Graph(Box<GraphError>),
    /// The record could not be written: nothing more was done.
    Record(RecordError),
    /// A key or a certificate could not be made.
    Certificate(String),
}

impl SetupError {
    pub(crate) fn wanted(what: impl Into<String>) -> Self {
        Self {
            step: None,
            kind: SetupErrorKind::Wanted(what.into()),
        }
    }

    pub(crate) fn graph(step: impl Into<Option<StepId>>, cause: GraphError) -> Self {
        Self {
            step: step.into(),
            kind: SetupErrorKind::Graph(Box::new(cause)),
        }
    }

    pub(crate) fn record(step: StepId, cause: RecordError) -> Self {
        Self {
            step: Some(step),
            kind: SetupErrorKind::Record(cause),
        }
    }

    /// What Graph said, when it was Graph.
    pub fn graph_error(&self) -> Option<&GraphError> {
        match &self.kind {
            SetupErrorKind::Graph(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(f, "{step}: ")?;
        }
        match &self.kind {
            SetupErrorKind::Wanted(what) | SetupErrorKind::Certificate(what) => f.write_str(what),
            SetupErrorKind::Blocked { what, who } => write!(f, "{what}; {who} can change that"),
            SetupErrorKind::Graph(_) => f.write_str("Microsoft Graph did not do it"),
            SetupErrorKind::Record(_) => f.write_str("the record could not be written"),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            SetupErrorKind::Graph(error) => Some(error.as_ref()),
            SetupErrorKind::Record(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
