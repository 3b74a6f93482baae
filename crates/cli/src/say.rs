//! Words to standard error. Whether anybody listens is no reason to stop.

use std::{
    fmt::Display,
    io::{Write as _, stderr},
};

/// Says a line on standard error. A closed pipe or a full disk behind it changes nothing: a backup
/// must not die because the terminal that started it is gone.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}
