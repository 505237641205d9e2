//! Functions that run at their time: `pr.every`, `pr.cron`, `pr.at`, `pr.after`.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Schedules",
    intro: "",
    items: &[],
};
