//! One bar a component, on a terminal.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use console::Term;
use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressFinish, ProgressState, ProgressStyle,
};

use arkstream_format::Component;
use arkstream_pipeline::{Event, Observer};

use super::{barrier, left_out};
use crate::{output::harmless, say::say, screen, units};

/// How often a bar is drawn while nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// Columns of a terminal from which on a row says more than how much is done: sizes, time left, rate,
/// and what is read.
const SIZES: u16 = 48;
const LEFT: u16 = 60;
const RATE: u16 = 76;
const MEMBER: u16 = 104;
/// Columns for what is read.
const MEMBER_WIDTH: usize = 24;

#[derive(Default)]
pub(super) struct Bars {
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    screen: Option<MultiProgress>,
    drawn: BTreeMap<Component, Row>,
    /// The bytes of what is not finished.
    planned: BTreeMap<Component, u64>,
}

struct Row {
    bar: ProgressBar,
    member: Arc<Mutex<String>>,
}

impl Rows {
    /// Whether bars are drawn. They may be left from elsewhere, for words below them.
    fn are_drawn(&self) -> bool {
        self.screen.as_ref().is_some_and(|drawn| !drawn.is_hidden())
    }

    fn plan(&mut self, component: Component, bytes: u64) {
        self.planned.insert(component, bytes);
        if !self.are_drawn() {
            self.drawn.clear();
            self.screen = Some(screen::draw());
        }
        match (self.drawn.get(&component), &self.screen) {
            (Some(row), _) => {
                row.bar.set_length(bytes);
                row.bar.reset();
            }
            (None, Some(screen)) => {
                self.drawn
                    .insert(component, Row::new(screen, component, bytes));
            }
            (None, None) => {}
        }
    }

    fn start(&mut self, component: Component) {
        if !self.are_drawn() && self.planned.contains_key(&component) {
            for (component, bytes) in self.planned.clone() {
                self.plan(component, bytes);
            }
        }
        if let Some(row) = self.drawn.get(&component) {
            row.bar.reset_eta();
            row.bar.enable_steady_tick(TICK);
        }
    }

    fn read(&self, component: Component, bytes: u64) {
        if let Some(Row { bar, .. }) = self.drawn.get(&component) {
            bar.inc(bytes);
            // Sizes of tables and dumps are estimates.
            if bar.length().is_some_and(|length| bar.position() > length) {
                bar.set_length(bar.position());
            }
        }
    }

    fn finish(&mut self, component: Component) {
        self.planned.remove(&component);
        if let Some(Row { bar, .. }) = self.drawn.get(&component) {
            // Not every store tells what it reads; what is finished is read.
            match bar.position() {
                0 => bar.set_position(bar.length().unwrap_or(0)),
                read => bar.set_length(read),
            }
            bar.finish();
        }
        if self.are_drawn() && self.planned.is_empty() {
            screen::leave();
        }
    }
}

impl Row {
    fn new(screen: &MultiProgress, component: Component, bytes: u64) -> Self {
        let member = Arc::new(Mutex::new(String::new()));
        let (terminal, shown) = (Term::stderr(), Arc::clone(&member));
        // The width is asked for at each drawing: a window can be resized.
        let figures = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let member = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = out.write_str(&Figures::of(state).within(terminal.size().1, &member));
        };
        let style = ProgressStyle::with_template("{prefix:>11} [{wide_bar}] {figures}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("figures", figures)
            .progress_chars("=> ");
        // What is given up stays as far as it came.
        let bar = ProgressBar::new(bytes).with_finish(ProgressFinish::Abandon);
        let bar = screen.add(bar);
        bar.set_style(style);
        bar.set_prefix(component.name());
        Self { bar, member }
    }
}

impl Bars {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event) {
        match event {
            Event::Planned {
                component, bytes, ..
            } => self.rows().plan(*component, *bytes),
            Event::Started { component } => self.rows().start(*component),
            Event::Read { component, bytes }
            | Event::Kept {
                component,
                raw_bytes: bytes,
                ..
            } => self.rows().read(*component, *bytes),
            Event::Member {
                component, name, ..
            } => {
                if let Some(row) = self.rows().drawn.get(component) {
                    let name = name.rsplit('/').nth(1).unwrap_or(name);
                    *row.member.lock().unwrap_or_else(PoisonError::into_inner) =
                        harmless(name).into_owned();
                }
            }
            Event::Finished { component } => self.rows().finish(*component),
            Event::Barrier { skew } => say(barrier(*skew)),
            Event::Omitted(omission) => say(harmless(&left_out(omission))),
            Event::Warning(warning) => say(format!("warning: {}", harmless(warning))),
            Event::Resumed(found) => say(harmless(found)),
            Event::Note(_) | Event::Redone { .. } => {}
        }
    }
}

/// What stands behind a bar.
struct Figures {
    done: u64,
    all: u64,
    a_second: f64,
    /// Unknown before anything is read, and of what was given up.
    left: Option<Duration>,
    finished: bool,
}

impl Figures {
    fn of(state: &ProgressState) -> Self {
        Self {
            done: state.pos(),
            all: state.len().unwrap_or(0),
            a_second: state.per_sec(),
            left: (state.pos() > 0 && !state.is_finished()).then(|| state.eta()),
            finished: state.is_finished() && state.len() == Some(state.pos()),
        }
    }

    /// As much as a terminal of so many columns has room for, beside a bar that is still one.
    fn within(&self, columns: u16, member: &str) -> String {
        if columns < SIZES {
            let all = self.all.max(1) as f64;
            return format!("{:>3.0}%", self.done as f64 * 100.0 / all);
        }
        let mut text = format!(
            "{:>10} / {:<10}",
            units::size(self.done),
            units::size(self.all)
        );
        if columns >= RATE {
            let rate = format!("{}/s", units::size(self.a_second as u64));
            let _ = write!(text, " {rate:>12}");
        }
        if columns >= LEFT {
            let left = match (self.finished, self.left) {
                (true, _) => "done".to_owned(),
                (false, None) => String::new(),
                (false, Some(left)) => {
                    format!("{:>4} left", format!("{:#}", HumanDuration(left)))
                }
            };
            let _ = write!(text, "  {left:<9}");
        }
        if columns >= MEMBER && !self.finished {
            let member = console::truncate_str(member, MEMBER_WIDTH, "…");
            let _ = write!(
                text,
                "  {}",
                console::pad_str(&member, MEMBER_WIDTH, console::Alignment::Left, None)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_into_every_terminal_with_room_for_its_bar() {
        let longest = Figures {
            done: 1023 << 20,
            all: 1023 << 20,
            a_second: 1023.9 * 1024.0 * 1024.0,
            left: Some(Duration::from_secs(7 * 24 * 3600)),
            finished: false,
        };
        // The name, the brackets, and the spaces between.
        let before = 11 + 2 + 2;
        for columns in 30..200 {
            let figures = longest.within(columns, &"ai.conversation.message.".repeat(9));
            let width = console::measure_text_width(&figures);
            let bar = usize::from(columns).saturating_sub(before + width);
            assert!(
                bar >= 10,
                "{bar} columns for the bar at {columns}: {figures}"
            );
        }
        assert!(longest.within(80, "").contains("/s"));
        assert!(!longest.within(50, "").contains("left"));
    }
}
