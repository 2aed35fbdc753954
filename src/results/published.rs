//! Published results, compiled into the program, for comparison with runs.

/// Name and CSV text of each published table.
const TABLES: [(&str, &str); 4] = [
    ("mae-official", include_str!("../../experiments/published/mae-official.csv")),
    ("mae-paddle", include_str!("../../experiments/published/mae-paddle.csv")),
    ("mae-paper", include_str!("../../experiments/published/mae-paper.csv")),
    ("mmpretrain", include_str!("../../experiments/published/mmpretrain.csv")),
];

/// Returns the names of the tables with published results, such as `mae-paddle`.
pub fn published_names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _)| *name).collect()
}

/// Returns a published table as CSV text.
pub(super) fn published(name: &str) -> Option<&'static str> {
    TABLES.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
}
