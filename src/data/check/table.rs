//! What a check found, as a table.

use std::path::Path;

use crate::data::error::DataError;
use crate::data::table;
use crate::durable;

use super::Checked;

impl Checked {
    /// Writes everything that is bad, damaged or in both splits as CSV: `finding,split,file,detail`.
    pub fn write_csv(&self, path: &Path) -> Result<(), DataError> {
        let row = |finding: &str, split: &str, file: &Path, detail: &str| {
            [finding, split, &file.display().to_string(), detail].map(str::to_owned)
        };
        let mut rows = vec![row("finding", "split", Path::new("file"), "detail")];
        rows.extend(self.problems.iter().map(|problem| row("problem", "", Path::new(""), problem)));
        for split in &self.splits {
            for (finding, files) in [("bad", &split.bad), ("damaged", &split.damaged)] {
                rows.extend(files.iter().map(|(file, why)| row(finding, split.name, file, why)));
            }
        }
        rows.extend(
            self.in_both
                .iter()
                .map(|[train, val]| row("in both", "train", train, &val.display().to_string())),
        );
        let bytes = table::csv(rows);
        durable::write_output(path, &bytes).map_err(|e| DataError::unreadable(path, e))
    }
}
