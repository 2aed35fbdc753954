//! What a check found, as a table.

use std::path::Path;

use crate::data::error::DataError;
use crate::durable;

use super::Checked;

impl Checked {
    /// Writes everything that is bad, damaged or in both splits as CSV: `finding,split,file,detail`.
    pub fn write_csv(&self, path: &Path) -> Result<(), DataError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut row = |finding: &str, split: &str, file: &Path, detail: &str| {
            let file = file.display().to_string();
            writer.write_record([finding, split, &file, detail]).expect("a vector takes every row");
        };
        row("finding", "split", Path::new("file"), "detail");
        for problem in &self.problems {
            row("problem", "", Path::new(""), problem);
        }
        for split in &self.splits {
            for (file, problem) in &split.bad {
                row("bad", split.name, file, problem);
            }
            for (file, warning) in &split.damaged {
                row("damaged", split.name, file, warning);
            }
        }
        for [train, val] in &self.in_both {
            row("in both", "train", train, &val.display().to_string());
        }
        let bytes = writer.into_inner().expect("a vector takes every byte");
        durable::write_output(path, &bytes).map_err(|e| DataError::unreadable(path, e))
    }
}
