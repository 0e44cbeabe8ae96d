//! Tables, as text that is Markdown too.

use std::fmt;

/// A table with a heading and a few words on how to read it.
pub struct Table {
    pub title: &'static str,
    pub note: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "## {}\n\n{}\n", self.title, self.note)?;
        let heads: Vec<String> = self.columns.iter().map(|&column| column.to_owned()).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|at| self.rows.iter().chain([&heads]).map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        for row in [&heads, &rule].into_iter().chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} |"));
            writeln!(out, "|{}", cells.collect::<String>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_is_markdown_with_columns_that_line_up() {
        let table = Table {
            title: "Title",
            note: "Note.".to_owned(),
            columns: vec!["server", "µs"],
            rows: vec![vec!["raw".to_owned(), "1.0 (0.9–1.1)".to_owned()]],
        };
        let expected = "## Title\n\nNote.\n\n\
                        | server | µs            |\n\
                        | ------ | ------------- |\n\
                        | raw    | 1.0 (0.9–1.1) |\n";
        assert_eq!(table.to_string(), expected);
    }
}
