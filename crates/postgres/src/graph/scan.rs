//! A plain SQL dump, line by line while it streams by: which rows it has, and which lines `psql`
//! may not see.
//!
//! `pg_dump` writes rows as `COPY table (columns) FROM stdin;`, one line a row, and `\.` at the end.
//! The rows of each block are counted and their hashes summed, so that the restored table can be
//! held against the dump by the same COPY in the other direction. Outside of such blocks the two
//! lines `\restrict` and `\unrestrict` of newer releases are dropped, for an older `psql` does not
//! know them; inside a block such a line is a row.
//!
//! Peak memory: one statement line (64 KiB are looked at), never a row.

use std::collections::BTreeMap;

/// Bytes of a line outside of rows that are kept to be looked at.
const KEPT: usize = 64 << 10;

/// Rows of one table: how many, and the sum of their hashes, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Rows {
    pub(super) fn text(self) -> String {
        format!("{} rows, {:016x}", self.count, self.sum)
    }
}

/// Hashes rows that come in pieces.
#[derive(Default)]
pub(super) struct RowHasher {
    hasher: blake3::Hasher,
    rows: Rows,
}

impl RowHasher {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    pub(super) fn end_row(&mut self) {
        let digest = self.hasher.finalize();
        let mut head = [0; 8];
        head.copy_from_slice(&digest.as_bytes()[..8]);
        self.rows.count += 1;
        self.rows.sum = self.rows.sum.wrapping_add(u64::from_le_bytes(head));
        self.hasher.reset();
    }

    pub(super) fn finish(self) -> Rows {
        self.rows
    }
}

/// The scanner of a dump.
#[derive(Default)]
pub(super) struct DumpScan {
    /// By `table (columns)` as it stands in the dump.
    pub(super) tables: BTreeMap<String, Rows>,
    copying: Option<(String, RowHasher)>,
    /// The line so far, outside of rows whole up to [`KEPT`], inside of rows its first bytes.
    line: Vec<u8>,
    /// Whether a line outside of rows has already been passed on in part.
    passed: bool,
}

impl DumpScan {
    /// Takes a piece of the dump and appends what `psql` may see of it.
    pub(super) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            let end = piece.iter().position(|byte| *byte == b'\n');
            let (head, rest) = piece.split_at(end.map_or(piece.len(), |at| at + 1));
            piece = rest;
            if self.copying.is_some() {
                self.row(head, end.is_some(), out);
            } else {
                self.statement(head, end.is_some(), out);
            }
        }
    }

    /// Passes on what is left of a last line without an end.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.line);
    }

    fn row(&mut self, head: &[u8], ends: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(head);
        let content = if ends { &head[..head.len() - 1] } else { head };
        let Some((_, hasher)) = &mut self.copying else {
            return;
        };
        // The end mark is the only line of these two bytes.
        let room = 3usize.saturating_sub(self.line.len());
        self.line.extend(content.iter().take(room));
        hasher.push(content);
        if ends {
            if self.line == b"\\." {
                if let Some((name, hasher)) = self.copying.take() {
                    self.tables.insert(name, hasher.finish());
                }
            } else {
                hasher.end_row();
            }
            self.line.clear();
        }
    }

    fn statement(&mut self, head: &[u8], ends: bool, out: &mut Vec<u8>) {
        if self.passed {
            out.extend_from_slice(head);
            self.passed = !ends;
            return;
        }
        self.line.extend_from_slice(head);
        if !ends {
            if self.line.len() > KEPT {
                out.append(&mut self.line);
                self.passed = true;
            }
            return;
        }
        let line = std::mem::take(&mut self.line);
        let hidden = line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ");
        if !hidden {
            out.extend_from_slice(&line);
        }
        if let Some(name) = copied_table(&line) {
            self.copying = Some((name, RowHasher::default()));
        }
    }
}

/// `COPY graph."Label" (id, properties) FROM stdin;` → `graph."Label" (id, properties)`.
fn copied_table(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let name = text
        .trim_end()
        .strip_prefix("COPY ")?
        .strip_suffix(" FROM stdin;")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\\restrict key\nSET x;\nCOPY g.\"A b\" (id, p) FROM stdin;\n1\ta\n2\tb\n\
                        \\restrict is a row\n\\.\n\nCOPY g.c (id) FROM stdin;\n\\.\n\\unrestrict key\n";

    fn scan(pieces: usize) -> (DumpScan, String) {
        let (mut scan, mut out) = (DumpScan::default(), Vec::new());
        for piece in DUMP.as_bytes().chunks(pieces) {
            scan.push(piece, &mut out);
        }
        scan.finish(&mut out);
        (scan, String::from_utf8(out).unwrap())
    }

    #[test]
    fn rows_are_counted_and_two_lines_hidden_however_the_dump_is_cut() {
        let (whole, text) = scan(DUMP.len());
        assert_eq!(whole.tables.len(), 2);
        assert_eq!(whole.tables["g.\"A b\" (id, p)"].count, 3);
        assert_eq!(whole.tables["g.c (id)"].count, 0);
        assert!(text.starts_with("SET x;") && text.contains("\\restrict is a row\n"));
        assert!(!text.contains("key"));
        for pieces in 1..20 {
            let (cut, same) = scan(pieces);
            assert_eq!(
                (cut.tables, same),
                (whole.tables.clone(), text.clone()),
                "{pieces}"
            );
        }
    }

    #[test]
    fn the_sum_does_not_depend_on_the_order_and_sees_a_changed_row() {
        let sum = |rows: &[&str]| {
            let mut hasher = RowHasher::default();
            for row in rows {
                hasher.push(row.as_bytes());
                hasher.end_row();
            }
            hasher.finish()
        };
        assert_eq!(sum(&["a", "b"]), sum(&["b", "a"]));
        assert_ne!(sum(&["a", "b"]), sum(&["a", "c"]));
        assert_ne!(sum(&["a", "a"]), sum(&["a"]));
    }
}
