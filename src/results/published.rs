//! The figures others published, part of the program, to stand beside a run's own.

/// Names, and tables in `accuracy.csv`'s columns with `model`, `variant`, `value` in front and `source` behind.
const TABLES: [(&str, &str); 4] = [
    ("mae-official", include_str!("../../experiments/published/mae-official.csv")),
    ("mae-paddle", include_str!("../../experiments/published/mae-paddle.csv")),
    ("mae-paper", include_str!("../../experiments/published/mae-paper.csv")),
    ("mmpretrain", include_str!("../../experiments/published/mmpretrain.csv")),
];

/// The names of the published tables.
pub fn published_names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}

/// The published table `name`, as CSV; nothing where there is none of this name.
pub(super) fn published(name: &str) -> Option<&'static str> {
    TABLES.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
}
