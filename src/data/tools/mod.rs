//! The commands `mae data check` and `mae data pack`.

pub(super) mod check;
pub(super) mod pack;
