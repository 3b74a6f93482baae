//! What `logs/export_log.txt` says of the run: when each component began and ended, what was read and
//! kept, what was made again and why, and what it warned of.
//!
//! The log is text for people. A line that is not understood is passed over, and a bundle without these
//! lines (of another writer, or cut at the log's limit) has a page without these figures.
//!
//! Memory: one line, and twenty warnings.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use arkstream_format::Component;

/// Warnings that are kept; more are counted.
pub(crate) const WARNINGS: usize = 20;

/// The longest line that is looked at.
const LINE: usize = 64 << 10;

/// The run that published the bundle, as its log tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunLog {
    /// The first line.
    pub from: Option<DateTime<Utc>>,
    /// The last line.
    pub to: Option<DateTime<Utc>>,
    /// When all snapshots were taken; once a generation.
    pub barriers: Vec<DateTime<Utc>>,
    /// Work on components, in the order in which it began.
    pub spans: Vec<Span>,
    /// What the run found of an interrupted one.
    pub resumed: Option<String>,
    /// Members of an interrupted run or an older bundle that were made again, by component and reason.
    pub remade: BTreeMap<(Component, String), u64>,
    /// The first warnings.
    pub warnings: Vec<String>,
    /// How many there were in all.
    pub warned: u64,
}

/// Work on one component, from the first byte that was read to its last receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which component.
    pub component: Component,
    /// When it began.
    pub from: DateTime<Utc>,
    /// Whether it went on behind the barrier.
    pub started: bool,
    /// When it was complete; `None` if it was interrupted, and begun anew.
    pub to: Option<DateTime<Utc>>,
    /// Bytes that were read from the source, before compression, where the log says so.
    pub read: Option<u64>,
    /// Bytes that were kept of an interrupted run or an older bundle, where the log says so.
    pub kept: Option<u64>,
}

/// Reads a log piece by piece.
#[derive(Debug, Default)]
pub(crate) struct LogReader {
    log: RunLog,
    line: Vec<u8>,
}

impl LogReader {
    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: impl AsRef<[u8]>) {
        for piece in bytes.as_ref().split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// The end of the log.
    pub(crate) fn finish(mut self) -> RunLog {
        self.end_line();
        self.log
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if let Some((at, level, rest)) = parts(line.trim_end()) {
            self.log.from.get_or_insert(at);
            self.log.to = Some(at);
            self.log.take(at, level, rest);
        }
    }
}

/// Moment, level and message of a line.
fn parts(line: &str) -> Option<(DateTime<Utc>, &str, &str)> {
    let (at, rest) = line.split_once(' ')?;
    let (level, message) = rest.trim_start().split_once(' ')?;
    Some((at.parse().ok()?, level, message))
}

impl RunLog {
    /// The last work on a component that was completed.
    #[must_use]
    pub fn completed(&self, component: Component) -> Option<&Span> {
        let mut of_it = self.spans.iter().rev();
        of_it.find(|span| span.component == component && span.to.is_some())
    }

    fn take(&mut self, at: DateTime<Utc>, level: &str, message: &str) {
        if level == "WARN" {
            // What was left out stands in the manifest.
            if !message.starts_with("left out component=") {
                self.warned += 1;
                if self.warnings.len() < WARNINGS {
                    self.warnings.push(message.to_owned());
                }
            }
            return;
        }
        let (what, fields) = message.split_once(" component=").unwrap_or((message, ""));
        let component = fields.split(' ').next().unwrap_or_default().parse().ok();
        match (what, component) {
            ("reading", Some(component)) => self.begin(component, at, false),
            ("started", Some(component)) => self.begin(component, at, true),
            ("finished", Some(component)) => self.end(component, at, fields),
            ("made again", Some(component)) => {
                let reason = quoted(fields, "reason").unwrap_or_default();
                *self.remade.entry((component, reason)).or_default() += 1;
            }
            _ if message.starts_with("all snapshots taken") => self.barriers.push(at),
            _ if message.starts_with("continuing the bundle begun ") => {
                self.resumed = Some(message.to_owned());
            }
            _ => {}
        }
    }

    /// Chroma is read before the barrier (`reading`) and behind it (`started`), which is one piece of
    /// work. What was `started` and is again was given up in between.
    fn begin(&mut self, component: Component, at: DateTime<Utc>, started: bool) {
        let open = (self.spans.iter_mut().rev())
            .find(|span| span.component == component)
            .filter(|span| span.to.is_none() && !span.started);
        match open {
            Some(span) => span.started = started,
            None => self.spans.push(Span {
                component,
                from: at,
                started,
                to: None,
                read: None,
                kept: None,
            }),
        }
    }

    fn end(&mut self, component: Component, at: DateTime<Utc>, fields: &str) {
        let last = self
            .spans
            .iter_mut()
            .rev()
            .find(|s| s.component == component);
        if let Some(span) = last {
            span.to = Some(at);
            span.read = number(fields, "read_bytes");
            span.kept = number(fields, "kept_bytes");
        }
    }
}

/// The number behind `name=`.
fn number(fields: &str, name: &str) -> Option<u64> {
    let value = (fields.split(' ')).find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value?.parse().ok()
}

/// The text in quotes behind `name=`, the last field of its line.
fn quoted(fields: &str, name: &str) -> Option<String> {
    let (_, value) = fields.split_once(&format!(" {name}=\""))?;
    let value = value.strip_suffix('"').unwrap_or(value);
    Some(value.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"2026-11-29T01:56:07.000000Z  INFO backup version="0.1.0" jobs=2
2026-11-29T01:56:08.000000Z  INFO continuing the bundle begun 2026-11-29 01:00 UTC: 3 members, 1.0 MiB, are kept
2026-11-29T01:56:08.100000Z  INFO reading component=chroma
2026-11-29T01:56:08.500000Z  INFO all snapshots taken skew=43.5ms
2026-11-29T01:56:08.600000Z  INFO started component=chroma
2026-11-29T01:56:09.000000Z  INFO finished component=chroma read_bytes=700 kept_members=1 kept_bytes=300
2026-11-29T01:56:09.000000Z  INFO started component=models
2026-11-29T01:56:09.100000Z  INFO made again component=models name="a" reason="its "rows" changed"
2026-11-29T01:56:09.100000Z  INFO made again component=models name="b" reason="its "rows" changed"
2026-11-29T01:56:09.200000Z  WARN left out component=models what=x reason=y
2026-11-29T01:56:09.300000Z  WARN the server is gone; trying again in 1 s
2026-11-29T01:56:11.000000Z  INFO all snapshots taken skew=3ms
2026-11-29T01:56:12.000000Z  INFO started component=models
what is no line of a log
2026-11-29T01:56:14.000000Z  INFO finished component=models
"#;

    fn read(pieces: &[&[u8]]) -> RunLog {
        let mut reader = LogReader::default();
        for piece in pieces {
            reader.push(piece);
        }
        reader.finish()
    }

    #[test]
    fn a_log_tells_of_the_run_however_it_is_cut_into_pieces() {
        let whole = read(&[LOG.as_bytes()]);
        let bytes: Vec<&[u8]> = LOG.as_bytes().chunks(7).collect();
        assert_eq!(whole, read(&bytes));
        assert_eq!(whole.barriers.len(), 2);
        assert_eq!(whole.spans.len(), 3, "models twice: {:?}", whole.spans);
        let chroma = whole.completed(Component::Chroma).unwrap();
        let took = (chroma.to.unwrap() - chroma.from).num_milliseconds();
        assert_eq!(
            (took, chroma.read, chroma.kept),
            (900, Some(700), Some(300))
        );
        let models = whole.completed(Component::Models).unwrap();
        assert_eq!(models.read, None, "an older log does not say");
        assert_eq!(models.from, whole.spans[2].from);
        assert!(whole.spans[1].to.is_none(), "given up");
        let reason = "its \"rows\" changed".to_owned();
        assert_eq!(whole.remade[&(Component::Models, reason)], 2);
        assert_eq!(whole.warned, 1);
        assert!(whole.warnings[0].ends_with("trying again in 1 s"));
        assert!(whole.resumed.unwrap().contains("3 members"));
        assert!(whole.from < whole.to);
    }

    #[test]
    fn what_is_no_log_tells_nothing_and_takes_no_memory() {
        let mut reader = LogReader::default();
        for _ in 0..100 {
            reader.push(vec![b'x'; LINE]);
        }
        assert!(reader.line.len() <= LINE);
        assert_eq!(reader.finish(), RunLog::default());
        let noise: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert_eq!(read(&[&noise]), RunLog::default());
    }
}
