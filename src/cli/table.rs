//! Tables in plain text.

use std::fmt;

/// Rows under a heading: the first column to the left, the others to the right, two spaces between them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: usize,
    /// `None` is a line across.
    rows: Vec<Option<Vec<String>>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<T: ToString>(headings: impl IntoIterator<Item = T>) -> Self {
        let mut table = Self::default();
        table.row(headings);
        table.line();
        table
    }

    /// Adds a row; missing cells at its end stay empty.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        let cells: Vec<String> = cells.into_iter().map(|cell| cell.to_string()).collect();
        self.columns = self.columns.max(cells.len());
        self.rows.push(Some(cells));
        self
    }

    /// Adds a line across.
    pub fn line(&mut self) -> &mut Self {
        self.rows.push(None);
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |column: usize| self.rows.iter().flatten().filter_map(move |row| row.get(column));
        let width = |column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, &width) in widths.iter().enumerate() {
                let cell = row.as_ref().map(|row| row.get(column).map_or("", String::as_str));
                match (column, cell) {
                    (0, Some(cell)) => line += &format!("{cell:<width$}"),
                    (_, Some(cell)) => line += &format!("  {cell:>width$}"),
                    (0, None) => line += &"─".repeat(width),
                    (_, None) => line += &"─".repeat(width + 2),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::thousands;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["part", "parameters"]);
        table.row(["encoder", &thousands(1_234_567)]).row(["é", &thousands(999)]).line().row(["total"]);
        let lines =
            ["part     parameters", "───────────────────", "encoder   1,234,567", "é               999"];
        let lines = lines.into_iter().chain(["───────────────────", "total"]);
        assert_eq!(table.to_string(), lines.map(|line| format!("{line}\n")).collect::<String>());
    }
}
