//! The configured programs.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Programs",
    intro: "",
    items: &[],
};
