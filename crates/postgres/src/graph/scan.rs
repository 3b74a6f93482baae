//! A plain SQL dump, line by line while it streams by: which rows it has, and which lines `psql`
//! may not see.
//!
//! `pg_dump` writes rows as `COPY table (columns) FROM stdin;`, one line a row, and `\.` at the end.
//! The rows of each block are counted and their hashes summed, so that the restored table can be
//! held against the dump by the same COPY in the other direction.
//!
//! In the settings at its head `\restrict KEY` is dropped, for an older `psql` does not know it, and
//! `transaction_timeout` of `pg_dump` 17 for a server that is older than that; behind them
//! `\unrestrict` with the same key. Elsewhere such a line is a row, or belongs to a function.
//!
//! Peak memory: one statement line (64 KiB are looked at), never a row.

use std::collections::BTreeMap;

/// What `pg_dump` sets from release 17 on, and servers know from the same release on.
const TRANSACTION_TIMEOUT: (&[u8], u32) = (b"SET transaction_timeout = ", 170_000);

/// Bytes of a line outside of rows that are kept to be looked at.
const KEPT: usize = 64 << 10;

/// Rows of one table: how many, and the sum of their hashes, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Rows {
    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.sum = self.sum.wrapping_add(more.sum);
    }

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
    /// Whether the server knows no `transaction_timeout`.
    no_timeout: bool,
    /// Whether the settings at the head are over.
    begun: bool,
    /// What `\restrict` said.
    key: Option<Vec<u8>>,
}

impl DumpScan {
    /// A scanner of a dump for a server of that version (`server_version_num`).
    pub(super) fn for_server(version: u32) -> Self {
        Self {
            no_timeout: version < TRANSACTION_TIMEOUT.1,
            ..Self::default()
        }
    }

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

    /// Passes on what is left of a last line without an end. Returns whether the dump may end here,
    /// which it may not within the rows of a table.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let between = self.copying.is_none();
        if between {
            out.append(&mut self.line);
        }
        between
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
                    // A partitioned table may have a block for each of its partitions.
                    self.tables.entry(name).or_default().add(hasher.finish());
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
                self.begun = true;
            }
            return;
        }
        let line = std::mem::take(&mut self.line);
        if !self.hides(&line) {
            out.extend_from_slice(&line);
        }
        if let Some(name) = copied_table(&line) {
            self.copying = Some((name, RowHasher::default()));
        }
    }
}

impl DumpScan {
    /// Whether `psql` may not see a line outside of rows.
    fn hides(&mut self, line: &[u8]) -> bool {
        if let Some(key) = line.strip_prefix(b"\\unrestrict ") {
            return self.key.take_if(|restricted| restricted == key).is_some();
        }
        if self.begun {
            return false;
        }
        if let Some(key) = line.strip_prefix(b"\\restrict ") {
            self.key = Some(key.to_owned());
            return true;
        }
        let head = [&b"--"[..], b"\n", b"SET ", b"SELECT pg_catalog.set_config("];
        self.begun = !head.iter().any(|start| line.starts_with(start));
        self.no_timeout && line.starts_with(TRANSACTION_TIMEOUT.0)
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

/// What a scan found.
#[cfg(feature = "fuzzing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// What `psql` may see.
    pub shown: Vec<u8>,
    /// Tables with their rows: how many, and the sum of their hashes.
    pub tables: BTreeMap<String, (u64, u64)>,
    /// Whether the dump may end there.
    pub whole: bool,
}

/// Scans a dump that comes in pieces of a size.
#[cfg(feature = "fuzzing")]
pub fn scan_dump(server: u32, dump: &[u8], piece: usize) -> Scanned {
    let (mut scan, mut shown) = (DumpScan::for_server(server), Vec::new());
    for piece in dump.chunks(piece.max(1)) {
        scan.push(piece, &mut shown);
    }
    let whole = scan.finish(&mut shown);
    let tables = scan.tables.into_iter();
    Scanned {
        shown,
        tables: tables
            .map(|(name, rows)| (name, (rows.count, rows.sum)))
            .collect(),
        whole,
    }
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
        assert!(scan.finish(&mut out));
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
    fn a_setting_that_the_server_does_not_know_is_hidden_and_a_row_like_it_is_not() {
        let dump = "SET transaction_timeout = 0;\nCOPY t (a) FROM stdin;\nSET transaction_timeout = 0;\n\\.\n";
        for (version, hidden) in [(150_020, 1), (170_000, 0)] {
            let (mut scan, mut out) = (DumpScan::for_server(version), Vec::new());
            scan.push(dump.as_bytes(), &mut out);
            assert!(scan.finish(&mut out));
            let lines = |text: &str| text.matches("transaction_timeout").count();
            let out = String::from_utf8(out).unwrap();
            assert_eq!(lines(dump) - lines(&out), hidden, "{version}");
            assert_eq!(scan.tables["t (a)"].count, 1);
        }
    }

    #[test]
    fn a_line_of_a_function_is_not_taken_for_one_of_the_dump() {
        let body = "CREATE FUNCTION f() AS $$\n\\restrict key\n\\unrestrict other\n\
                    SET transaction_timeout = 0;\n$$;\n";
        let dump = format!("--\n\n\\restrict key\nSET transaction_timeout = 0;\n{body}");
        let (mut scan, mut out) = (DumpScan::for_server(150_020), Vec::new());
        scan.push(dump.as_bytes(), &mut out);
        scan.push(b"\\unrestrict key\n", &mut out);
        assert!(scan.finish(&mut out));
        assert_eq!(String::from_utf8(out).unwrap(), format!("--\n\n{body}"));
    }

    #[test]
    fn a_partitioned_table_has_the_rows_of_all_its_blocks() {
        let (mut scan, mut out) = (DumpScan::default(), Vec::new());
        scan.push(
            b"COPY p (k) FROM stdin;\n1\n\\.\nCOPY p (k) FROM stdin;\n2\n3\n\\.\n",
            &mut out,
        );
        assert_eq!(scan.tables["p (k)"].count, 3);
    }

    #[test]
    fn a_dump_that_ends_within_rows_is_not_whole() {
        let (mut scan, mut out) = (DumpScan::default(), Vec::new());
        scan.push(b"COPY t (a) FROM stdin;\n1\n2", &mut out);
        assert!(!scan.finish(&mut out));
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
