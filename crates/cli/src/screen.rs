//! The lowest rows of the terminal, while bars stand in them.
//!
//! Bars are drawn again and again, over whatever was written below their first row since. So what is
//! said goes above them, and what a command prints at its end goes below them, once they stand still.

use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};

/// The bars that are drawn, if there are any.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn bars() -> MutexGuard<'static, Option<MultiProgress>> {
    BARS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether standard error is a terminal that can show bars.
pub(crate) fn shows_bars() -> bool {
    !MultiProgress::new().is_hidden()
}

/// Whether standard error is a terminal that knows colours, and they are wanted
/// (<https://no-color.org>).
pub(crate) fn shows_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    console::Term::stderr().is_term() && !console::is_dumb() && !unwanted
}

/// New bars. Those that were drawn before stand still.
pub(crate) fn draw() -> MultiProgress {
    leave();
    let new = MultiProgress::new();
    *bars() = Some(new.clone());
    new
}

/// Writes lines above the bars; false if there are none.
pub(crate) fn above(lines: &str) -> bool {
    let bars = bars();
    let Some(drawn) = bars.as_ref() else {
        return false;
    };
    // A terminal that is gone is no reason to stop.
    let _ = drawn.println(lines.strip_suffix('\n').unwrap_or(lines));
    true
}

/// Leaves the bars as they are: they are drawn no more, and what is written next goes below them.
pub(crate) fn leave() {
    if let Some(drawn) = bars().take() {
        drawn.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Takes the bars away.
pub(crate) fn clear() {
    if let Some(drawn) = bars().take() {
        let _ = drawn.clear();
        drawn.set_draw_target(ProgressDrawTarget::hidden());
    }
}
