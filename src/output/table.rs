//! Tables as Docker prints them: upper-case heads, columns three spaces apart, no lines.

use std::fmt;

/// Rows under heads; every column is as wide as its widest cell.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads, which are shown as they are.
    #[must_use]
    pub fn new<S: Into<String>>(heads: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![heads.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row. What is no printable character of a line is escaped: a cell may hold what a
    /// container has chosen.
    pub fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell.into())).collect());
    }
}

impl fmt::Display for Table {
    /// One line a row. The last cell of a row is not filled up, so that no line ends in spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).fold(MIN_WIDTH, usize::max)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}{GAP}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text with control characters, and marks that turn the direction of writing, escaped.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// The narrowest column: with the gap it takes the ten places that Docker's tables give it.
const MIN_WIDTH: usize = 7;

/// What stands between two columns.
const GAP: &str = "   ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "ID"]);
        table.push(["web", "1"]);
        table.push(["database", ""]);
        assert_eq!(table.to_string(), "NAME       ID\nweb        1\ndatabase\n");
    }

    #[test]
    fn a_narrow_column_has_dockers_width() {
        let mut table = Table::new(["DRIVER", "SCOPE"]);
        table.push(["bridge", "local"]);
        assert_eq!(table.to_string(), "DRIVER    SCOPE\nbridge    local\n");
    }

    #[test]
    fn a_cell_cannot_leave_its_line() {
        let mut table = Table::new(["NAME"]);
        table.push(["a\nb\u{1b}[2J"]);
        assert_eq!(table.to_string(), "NAME\na\\nb\\u{1b}[2J\n");
    }
}
