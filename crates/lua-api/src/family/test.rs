//! What a `*_test.lua` has besides: `pr.test`.

use crate::item::Family;

/// The family.
pub(crate) const FAMILY: Family = Family {
    heading: "Tests",
    intro: "",
    items: &[],
};
