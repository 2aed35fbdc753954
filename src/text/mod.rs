//! Text that is safe to show: names on one line, and CSV cells that a spreadsheet does not run.
//!
//! Names of files and classes come from data sets and checkpoints of other people. These names may contain line
//! breaks and control characters, and may look like a formula.

mod csv_cell;
mod printable;

pub use csv_cell::{cell_text, csv_rows};
pub use printable::{one_line, printable};
