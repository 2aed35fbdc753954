//! Reads CSV tables as spreadsheets save them: separators, decimal commas, quoting and empty columns.

use crate::results::accuracy::{csv_problem, line_of};
use crate::text::cell_text;

const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// A CSV table from a spreadsheet. Cells are trimmed, and numbers have decimal points.
pub(super) struct CsvTable {
    header: Vec<String>,
    rows: Vec<CsvRow>,
}

pub(super) struct CsvRow {
    /// Line number in the CSV file, from 1.
    pub(super) line: usize,
    cells: Vec<String>,
}

impl CsvTable {
    /// Parses `text` with the separator for which the header contains one of `columns`.
    ///
    /// Fails if no separator fits, or if a row has a different number of cells. Also fails if a column name is missing or
    /// repeated.
    pub(super) fn read(text: &str, columns: &[&str]) -> Result<Self, String> {
        let (text, skipped) = without_separator_line(text);
        let known = |separator: &u8| {
            let header = records(text, *separator).next().and_then(Result::ok);
            header.is_some_and(|(_, cells)| {
                columns.iter().any(|name| cells.iter().any(|c| c == name))
            })
        };
        let Some(separator) = SEPARATORS.into_iter().find(known) else {
            // A spreadsheet that did not split the lines quotes each line as one cell.
            if let Some(lines) = unquoted_lines(text) {
                return Self::read(&lines, columns);
            }
            let first = columns.first().expect("a column to look for");
            return Err(format!("this is not an accuracy table: the column `{first}` is missing"));
        };
        let mut records = records(text, separator);
        let (_, mut header) = records.next().expect("the header has been read")?;
        let named = header.iter().rposition(|head| !head.is_empty()).map_or(0, |last| last + 1);
        header.truncate(named);
        let mut rows = Vec::new();
        for record in records {
            let (line, mut cells) = record?;
            let filled = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
            if filled == 0 && cells.len() != 1 {
                continue;
            }
            let line = line + skipped;
            if filled > header.len() || cells.len() < header.len() {
                let (cells, head) = (cells.len(), header.len());
                return Err(format!(
                    "line {line}: found {cells} cells, but the header has {head} cells"
                ));
            }
            cells.truncate(header.len());
            rows.push(CsvRow { line, cells });
        }
        check_names(&header, &rows)?;
        let has_point = |cell: &String| cell.contains('.') && cell.parse::<f64>().is_ok();
        if separator != b',' || !rows.iter().flat_map(|row| &row.cells).any(has_point) {
            rows.iter_mut().flat_map(|row| &mut row.cells).for_each(with_decimal_point);
        }
        Ok(Self { header, rows })
    }

    /// Returns the column names. An empty column may have an empty name.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.header.iter().any(|head| head == column)
    }

    pub(super) fn rows(&self) -> &[CsvRow] {
        &self.rows
    }

    /// Returns the cell of `row` in the column `name`; empty if that column is missing.
    pub(super) fn cell<'a>(&self, row: &'a CsvRow, name: &str) -> &'a str {
        let column = self.header.iter().position(|head| head == name);
        column.map_or("", |column| row.cells[column].as_str())
    }
}

/// Removes Excel's line `sep=;` at the start. Returns the remaining text and the number of removed lines.
fn without_separator_line(text: &str) -> (&str, usize) {
    match text.split_once('\n') {
        Some((first, rest)) if first.trim_start_matches('"').starts_with("sep=") => (rest, 1),
        _ => (text, 0),
    }
}

/// Returns (line number, cells) of each record.
fn records(
    text: &str,
    separator: u8,
) -> impl Iterator<Item = Result<(usize, Vec<String>), String>> + '_ {
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.delimiter(separator).has_headers(false).flexible(true);
    reader.from_reader(text.as_bytes()).into_records().map(move |record| {
        let record = record.map_err(|error| csv_problem(text, &error))?;
        let line = record.position().map_or(0, |position| line_of(text, position));
        Ok((line, record.iter().map(|cell| cell_text(cell.trim()).trim().to_owned()).collect()))
    })
}

/// Removes the quotes if each line of `text` is quoted as one cell; otherwise `None`.
fn unquoted_lines(text: &str) -> Option<String> {
    let first = |record: Result<(usize, Vec<String>), String>| {
        let (_, mut cells) = record.ok()?;
        (cells.len() == 1).then(|| cells.remove(0))
    };
    let lines: Vec<String> = records(text, b',').map(first).collect::<Option<_>>()?;
    let quoted = lines.first().is_some_and(|line| line.contains(','));
    quoted.then(|| lines.join("\n"))
}

fn check_names(header: &[String], rows: &[CsvRow]) -> Result<(), String> {
    for (index, head) in header.iter().enumerate() {
        if head.is_empty() && rows.iter().any(|row| !row.cells[index].is_empty()) {
            return Err(format!("column {} has no name", index + 1));
        }
        if !head.is_empty() && header[..index].contains(head) {
            return Err(format!("the column `{head}` appears twice"));
        }
    }
    Ok(())
}

/// Replaces a decimal comma by a decimal point.
fn with_decimal_point(cell: &mut String) {
    if cell.matches(',').count() == 1 && !cell.contains('.') {
        let number = cell.replace(',', ".");
        if number.parse::<f64>().is_ok() {
            *cell = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CsvTable;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let table = CsvTable::read(text, &["epoch"])?;
        let cells = |row| format!("{} {}", table.cell(row, "epoch"), table.cell(row, "x"));
        Ok(table.rows().iter().map(cells).collect())
    }

    #[test]
    fn tables_of_spreadsheets_have_the_same_cells() {
        for text in [
            "epoch,x\n1,0.5\n2,1.5e-04\n",
            "epoch,x\r1,0.5\r2,1.5e-04\r",
            "\"epoch\",\"x\"\r\n\"1\",\"0.5\"\r\n\"2\",\"1.5e-04\"\r\n",
            "epoch;x\r\n1;0,5\r\n2;1,5e-04\r\n",
            "epoch;x;;\r\n1;0,5;;\r\n2;1,5e-04;;\r\n;;;\r\n",
            "sep=;\r\nepoch;x\r\n1;0.5\r\n2;1,5e-04\r\n",
            "epoch\tx\t\n1\t0,5\n2\t1,5e-04\n",
            "x,epoch\n\"0,5\",1\n\"1,5e-04\",2\n",
            "\"epoch,x\"\n\"1,0.5\"\n\"2,1.5e-04\"\n",
        ] {
            assert_eq!(read(text).unwrap(), ["1 0.5", "2 1.5e-04"], "{text:?}");
        }
        // In a table with decimal points, a comma may separate thousands.
        assert_eq!(read("epoch,x,y\n1,\"1,600\",0.5\n").unwrap(), ["1 1,600"]);
    }

    #[test]
    fn escapes_of_formulas_are_removed() {
        assert_eq!(read("epoch;x\n1;'=1+1\n2;'-x\n").unwrap(), ["1 =1+1", "2 -x"]);
        assert_eq!(read("epoch;x\n1;\"'=a;\"\"b\"\"\"\n").unwrap(), ["1 =a;\"b\""]);
    }

    #[test]
    fn problems_name_the_line_or_the_column() {
        for (text, problem) in [
            ("a,b\n1,2\n", "this is not an accuracy table: the column `epoch` is missing"),
            ("epoch,x\n1,2\n3\n", "line 3: found 1 cells, but the header has 2 cells"),
            ("sep=;\nepoch;x\n1;2;3\n", "line 3: found 3 cells, but the header has 2 cells"),
            ("epoch,x,epoch\n1,2,3\n", "the column `epoch` appears twice"),
            ("epoch,,x\n1,2,3\n", "column 2 has no name"),
        ] {
            assert_eq!(read(text).unwrap_err(), problem, "{text:?}");
        }
    }
}
