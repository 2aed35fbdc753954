//! Formats tables for the terminal.

use crate::text::one_line;

pub(super) const WIDTH: usize = 120;
const GAP: &str = "  ";

pub(super) struct Column {
    /// Lines of the heading. All columns of a table have equally many lines.
    pub(super) head: Vec<String>,
    pub(super) cells: Vec<Cell>,
}

/// A table cell: a right-aligned number, then text. Either part may be empty.
#[derive(Clone, Default)]
pub(super) struct Cell {
    pub(super) number: String,
    pub(super) text: String,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { number: String::new(), text: one_line(text).into_owned() }
    }

    pub(super) fn number(number: &str) -> Self {
        Self { number: number.to_owned(), text: String::new() }
    }
}

/// Formats a table as indented lines of at most [`WIDTH`] characters.
///
/// A wider table is split. Each part repeats the first `lead` columns and leaves out empty rows.
pub(super) fn lines(columns: &[Column], lead: usize) -> Vec<String> {
    let rendered: Vec<Vec<String>> = columns.iter().map(render).collect();
    let width = |column: &Vec<String>| column.first().map_or(0, |line| length(line)) + GAP.len();
    let lead_width: usize = rendered[..lead].iter().map(width).sum();
    let mut parts: Vec<Vec<&Vec<String>>> = Vec::new();
    let mut used = usize::MAX;
    for column in &rendered[lead..] {
        if used.saturating_add(width(column)) > WIDTH {
            parts.push(rendered[..lead].iter().collect());
            used = lead_width;
        }
        used += width(column);
        parts.last_mut().expect("the first column starts a part").push(column);
    }
    let mut lines = Vec::new();
    let head = columns.first().map_or(0, |column| column.head.len());
    for part in parts {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        for line in 0..part[0].len() {
            if line >= head && part[lead..].iter().all(|column| column[line].trim().is_empty()) {
                continue;
            }
            let cells: Vec<&str> = part.iter().map(|column| column[line].as_str()).collect();
            lines.push(format!("{GAP}{}", cells.join(GAP)).trim_end().to_owned());
        }
    }
    lines
}

/// Pads the heading and the cells of a column to the same length.
fn render(column: &Column) -> Vec<String> {
    let longest = |of: fn(&Cell) -> &String| column.cells.iter().map(|c| length(of(c))).max();
    let number = longest(|cell| &cell.number).unwrap_or(0);
    let cells = column.cells.iter().map(|cell| {
        let gap = if cell.number.is_empty() || cell.text.is_empty() { "" } else { " " };
        let indent = if cell.number.is_empty() { 0 } else { number };
        format!("{}{}{gap}{}", " ".repeat(indent - length(&cell.number)), cell.number, cell.text)
    });
    let lines: Vec<String> = column.head.iter().cloned().chain(cells).collect();
    let width = lines.iter().map(|line| length(line)).max().unwrap_or(0);
    lines.iter().map(|line| format!("{line}{}", " ".repeat(width - length(line)))).collect()
}

pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}

/// Replaces the middle of `text` by `…`, so that at most `most` characters remain.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let end = (most - 1) / 2;
    let start: String = letters[..most - 1 - end].iter().collect();
    let rest: String = letters[letters.len() - end..].iter().collect();
    format!("{start}…{rest}")
}

/// Breaks `text` into lines of at most [`WIDTH`] characters.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is at least one line");
        if line.is_empty() {
            line.push_str(word);
        } else if length(line) + 1 + length(word) <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{GAP}{word}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Cell, Column, lines, shortened};

    #[test]
    fn a_table_that_is_too_wide_is_split_and_repeats_its_leading_column() {
        let column =
            |head: &str, cell: Cell| Column { head: vec![head.to_owned()], cells: vec![cell] };
        let wide = "x".repeat(60);
        let columns = [
            column("run", Cell::text("a")),
            column(&wide, Cell::number("1.00")),
            column(&wide, Cell::number("2.00")),
        ];
        let lines = lines(&columns, 1);
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[4].starts_with("  a    2.00"), "{lines:?}");
    }

    #[test]
    fn long_texts_keep_both_ends() {
        assert_eq!(shortened("abcdefgh", 5), "ab…gh");
        assert_eq!(shortened("abc", 5), "abc");
    }
}
