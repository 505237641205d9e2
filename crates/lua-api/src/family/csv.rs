//! Tables as CSV.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "CSV",
    intro: "",
    items: &[],
};
