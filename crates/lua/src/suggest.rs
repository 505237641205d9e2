//! "Did you mean": the nearest of the known names.

pub use postrider_lua_api::nearest;
