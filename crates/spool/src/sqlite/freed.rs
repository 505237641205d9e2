//! What is given back without anybody waiting for it: slots and tickets that were dropped.

use jiff::Timestamp;
use rusqlite::params;

use super::pace;
use super::writer::Transaction;
use crate::error::SpoolError;

/// Something given back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freed {
    /// A session's slot.
    Slot(i64),
    /// A start that was not queued: its lease, and when the server had seen it.
    Ticket(i64, Option<Timestamp>),
}

impl Freed {
    pub(crate) fn write(self, transaction: &Transaction<'_>) -> Result<(), SpoolError> {
        match self {
            Self::Slot(slot) => {
                transaction.execute("DELETE FROM slot WHERE id = ?", [slot])?;
            }
            Self::Ticket(lease, now) => {
                transaction.execute(
                    "UPDATE lease SET unsettled = 0, gone = recipients WHERE id = ?",
                    params![lease],
                )?;
                pace::close(transaction, lease, now)?;
            }
        }
        Ok(())
    }
}
