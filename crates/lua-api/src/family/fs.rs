//! Files in the configured directories.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Files",
    intro: "",
    items: &[],
};
