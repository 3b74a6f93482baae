//! Tables for people: as wide as their cells, and on a terminal no wider than it is.

use std::borrow::Cow;

use console::{Alignment, Term, measure_text_width, pad_str};

use crate::output::harmless;

/// Between two columns.
const GAP: &str = "  ";
/// No column becomes narrower than this, so that words stay readable.
const NARROWEST: usize = 16;

/// Rows in columns as wide as their widest cell. Columns whose title begins with `>` are aligned to the
/// right; the others are wrapped where a terminal is too narrow, but not beyond reading. Elsewhere every
/// row is one line.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let columns = Term::stdout().size_checked().map(|(_, columns)| columns);
    laid_out(titles, rows, columns.map(usize::from))
}

fn laid_out(titles: &[&str], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let heads = titles.iter().map(|title| title.trim_start_matches('>'));
    let mut cells: Vec<Vec<Cow<str>>> = vec![heads.map(Cow::from).collect()];
    cells.extend(
        rows.iter()
            .map(|row| row.iter().map(|cell| one_line(cell)).collect()),
    );
    let right: Vec<bool> = titles.iter().map(|title| title.starts_with('>')).collect();
    let mut widths = vec![0; titles.len()];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = measure_text_width(cell).max(*width);
        }
    }
    if let Some(narrowed) = columns.and_then(|columns| narrowed(&widths, &right, columns)) {
        widths = narrowed;
    }
    cells
        .iter()
        .map(|row| row_text(row, &widths, &right))
        .collect()
}

/// Takes from the widest columns on the left what is beyond the terminal's width, if they have it.
fn narrowed(widths: &[usize], right: &[bool], columns: usize) -> Option<Vec<usize>> {
    let mut widths = widths.to_vec();
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    let mut beyond = (widths.iter().sum::<usize>() + gaps).saturating_sub(columns);
    while beyond > 0 {
        let columns = widths.iter_mut().zip(right);
        let left = columns.filter_map(|(width, right)| (!right).then_some(width));
        let widest = left.filter(|width| **width > NARROWEST).max()?;
        *widest -= 1;
        beyond -= 1;
    }
    Some(widths)
}

/// A row, in as many lines as its longest cell needs.
fn row_text(row: &[Cow<str>], widths: &[usize], right: &[bool]) -> String {
    let wrapped: Vec<Vec<Cow<str>>> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| match measure_text_width(cell) > *width {
            true => textwrap::wrap(cell, *width),
            false => vec![Cow::from(cell.as_ref())],
        })
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for index in 0..height {
        let mut line = String::new();
        for ((lines, width), right) in wrapped.iter().zip(widths).zip(right) {
            let cell = lines.get(index).map_or("", AsRef::as_ref);
            let side = match right {
                true => Alignment::Right,
                false => Alignment::Left,
            };
            line.push_str(&pad_str(cell, *width, side, None));
            line.push_str(GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A cell that cannot pretend to be another row: with its line breaks visible.
fn one_line(cell: &str) -> Cow<'_, str> {
    match cell.contains(['\n', '\t']) {
        true => harmless(&cell.replace('\n', "\\n").replace('\t', "\\t"))
            .into_owned()
            .into(),
        false => harmless(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_they_look() {
        let rows = [row(&["1", "日本語", "a"]), row(&["10", "e\u{301}", "b"])];
        assert_eq!(
            laid_out(&[">n", "name", "z"], &rows, None),
            " n  name    z\n 1  日本語  a\n10  e\u{301}       b\n"
        );
    }

    #[test]
    fn a_cell_is_no_row() {
        let rows = [row(&["a\nDAMAGED  b\tc\u{1b}[2J\u{202e}", "x"])];
        let text = laid_out(&["", ""], &rows, None);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("a\\nDAMAGED  b\\tc\\u{1b}[2J\\u{202e}  x"),
            "{text}"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_more_lines_and_every_word() {
        let how = "a folder that is not there (name another one with --filestore)";
        let rows = [row(&["12345", "filestore", how]), row(&["1", "x", "y"])];
        let titles = [">rows", "what", "how"];
        let text = laid_out(&titles, &rows, Some(50));
        assert_eq!(
            text,
            " rows  what       how\n\
             12345  filestore  a folder that is not there (name\n\
             \x20                 another one with --filestore)\n\
             \x20   1  x          y\n"
        );
        assert!(laid_out(&titles, &rows, None).contains(how));
        let path = "odoo_data/models/ai.message/".repeat(4);
        let text = laid_out(&["member"], &[row(&[&path])], Some(40));
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert_eq!(text.lines().skip(1).collect::<String>(), path);
    }

    #[test]
    fn what_cannot_be_narrower_stays_as_it_is() {
        let rows = [row(&["123456789012345", "a member of a bundle"])];
        let text = laid_out(&[">n", "m"], &rows, Some(30));
        assert!(
            text.contains("123456789012345  a member of a bundle\n"),
            "{text}"
        );
    }
}
