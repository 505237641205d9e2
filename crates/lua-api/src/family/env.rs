//! The configured variables of the environment.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Environment",
    intro: "",
    items: &[],
};
