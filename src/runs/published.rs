//! Tables that others published, to stand beside a run's own.

/// The names that can be asked for, and their tables.
const TABLES: [(&str, &str); 1] =
    [("mae-paddle", include_str!("../../experiments/published/mae-paddle.csv"))];

/// The names of the published tables.
pub fn published_names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}

/// The published table `name`, as CSV; nothing where there is none of this name.
pub(super) fn published(name: &str) -> Option<&'static str> {
    TABLES.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
}
