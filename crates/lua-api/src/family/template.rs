//! Bodies of messages from templates.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Templates",
    intro: "",
    items: &[],
};
