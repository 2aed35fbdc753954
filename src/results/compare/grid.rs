//! Tables for a terminal: columns side by side, broken into several tables where they do not fit.

/// Columns that a table may take.
pub(super) const WIDTH: usize = 120;
const GAP: &str = "  ";

/// A column of a table.
pub(super) struct Column {
    /// Lines above the cells; all columns of a table have as many.
    pub(super) head: Vec<String>,
    pub(super) cells: Vec<Cell>,
}

/// A number, aligned to the right, and what stands behind it; or a text.
#[derive(Clone, Default)]
pub(super) struct Cell {
    pub(super) number: String,
    pub(super) text: String,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { number: String::new(), text: text.to_owned() }
    }

    pub(super) fn number(number: &str) -> Self {
        Self { number: number.to_owned(), text: String::new() }
    }
}

/// Gives the table's lines, indented; the first `lead` columns stand again in front of every part, a row without cells
/// behind them is left out.
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
        parts.last_mut().expect("one was pushed").push(column);
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

/// A column's lines, all of one length.
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

/// The text, its middle left out where it is longer than `most`.
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

/// The text in lines that fit, all but the first indented.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
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
    fn what_does_not_fit_is_a_table_of_its_own_with_the_leading_column() {
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
