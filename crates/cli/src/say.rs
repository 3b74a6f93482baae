//! Words to standard error. Whether anybody listens is no reason to stop.

use std::{
    fmt::Display,
    io::{self, Write, stderr},
};

use crate::screen;

/// Says a line on standard error, above bars. A closed pipe or a full disk behind it changes nothing:
/// a backup must not die because the terminal that started it is gone.
pub(crate) fn say(line: impl Display) {
    let line = line.to_string();
    if !screen::above(&line) {
        let _ = writeln!(stderr(), "{line}");
    }
}

/// Standard error, above bars, for one who writes whole lines.
pub(crate) struct Saying;

impl Write for Saying {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if screen::above(&String::from_utf8_lossy(lines)) {
            return Ok(lines.len());
        }
        stderr().write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
