//! Progress for terminals, logs and programs. Everything goes to standard error.

mod bars;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::json;

use arkstream_format::{Component, Omission};
use arkstream_pipeline::{Event, Observer, Silent};

use bars::Bars;

use crate::{args::ProgressMode, output::harmless, say::say, screen, units};

/// How often plain progress speaks of a component that is under way.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The observer for a mode; it also writes the run's log.
pub(crate) fn observer(mode: ProgressMode) -> Arc<dyn Observer> {
    let shown: Box<dyn Observer> = match mode {
        ProgressMode::None => Box::new(Silent),
        ProgressMode::Json => Box::new(Json),
        // Where bars cannot be shown, what they would say must not be lost with them.
        ProgressMode::Auto | ProgressMode::Bar if screen::shows_bars() => Box::new(Bars::default()),
        ProgressMode::Auto | ProgressMode::Bar | ProgressMode::Plain => Box::new(Plain::default()),
    };
    Arc::new(Logged {
        shown,
        tallies: Mutex::default(),
    })
}

/// Passes events on, and logs those that belong into `logs/export_log.txt`.
struct Logged {
    shown: Box<dyn Observer>,
    tallies: Mutex<BTreeMap<Component, Tally>>,
}

/// What the log says of a component when it is complete. The report is made of it.
#[derive(Default)]
struct Tally {
    /// Whether its first byte was read, and whether that was told: it may be before it is started.
    reading: bool,
    started: bool,
    read: u64,
    kept_members: u64,
    kept_bytes: u64,
}

impl Logged {
    fn tally<T>(&self, component: Component, then: impl FnOnce(&mut Tally) -> T) -> T {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        then(tallies.entry(component).or_default())
    }

    fn read(&self, component: Component, bytes: u64) {
        let first = self.tally(component, |tally| {
            tally.read += bytes;
            !std::mem::replace(&mut tally.reading, true) && !tally.started
        });
        if first {
            tracing::info!(%component, "reading");
        }
    }

    fn started(&self, component: Component) {
        self.tally(component, |tally| {
            // What was started before was given up with its generation.
            if tally.started {
                *tally = Tally::default();
            }
            tally.started = true;
        });
        tracing::info!(%component, "started");
    }

    fn finished(&self, component: Component) {
        let tally = self.tally(component, std::mem::take);
        tracing::info!(
            %component, read_bytes = tally.read, kept_members = tally.kept_members,
            kept_bytes = tally.kept_bytes, "finished"
        );
    }
}

impl Observer for Logged {
    fn event(&self, event: &Event) {
        match event {
            Event::Planned {
                component,
                bytes,
                items,
            } => tracing::info!(%component, bytes, items, "planned"),
            Event::Started { component } => self.started(*component),
            Event::Finished { component } => self.finished(*component),
            Event::Read { component, bytes } => self.read(*component, *bytes),
            Event::Kept {
                component,
                raw_bytes,
                ..
            } => self.tally(*component, |tally| {
                tally.kept_members += 1;
                tally.kept_bytes += raw_bytes;
            }),
            Event::Barrier { skew } => tracing::info!(?skew, "all snapshots taken"),
            Event::Omitted(omission) => tracing::warn!(
                component = %omission.component, what = %omission.what, reason = %omission.reason,
                "left out"
            ),
            Event::Note(note) | Event::Resumed(note) => tracing::info!("{note}"),
            Event::Redone {
                component,
                name,
                reason,
            } => tracing::info!(%component, name, reason, "made again"),
            Event::Warning(warning) => tracing::warn!("{warning}"),
            Event::Member {
                component: Component::Filestore,
                name,
                ..
            } => tracing::debug!(name, "member"),
            Event::Member {
                name,
                rows,
                raw_bytes,
                stored_bytes,
                ..
            } => tracing::info!(name, rows, raw_bytes, stored_bytes, "member"),
        }
        self.shown.event(event);
    }
}

fn barrier(skew: Duration) -> String {
    format!("all snapshots taken within {}", units::duration(skew))
}

fn left_out(omission: &Omission) -> String {
    format!(
        "left out: {}: {}: {}",
        omission.component, omission.what, omission.reason
    )
}

/// One line when something begins or ends, and now and then in between.
#[derive(Default)]
struct Plain {
    components: Mutex<BTreeMap<Component, PlainState>>,
}

#[derive(Clone, Default)]
struct PlainState {
    planned: u64,
    read: u64,
    kept: u64,
    rows: u64,
    members: u64,
    started: Option<Instant>,
    spoke: Option<Instant>,
}

impl Plain {
    fn update(&self, component: Component, then: impl FnOnce(&mut PlainState) -> Option<String>) {
        let mut components = self
            .components
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = then(components.entry(component).or_default()) {
            say(format!("{component}: {line}"));
        }
    }
}

impl Observer for Plain {
    fn event(&self, event: &Event) {
        match event {
            Event::Planned {
                component,
                bytes,
                items,
            } => self.update(*component, |state| {
                *state = PlainState {
                    planned: *bytes,
                    ..PlainState::default()
                };
                Some(format!("{items} to read, about {}", units::size(*bytes)))
            }),
            Event::Started { component } => self.update(*component, |state| {
                state.started = Some(Instant::now());
                state.spoke = state.started;
                None
            }),
            Event::Read { component, bytes } => self.update(*component, |state| {
                state.read += bytes;
                let due = state.spoke.is_some_and(|at| at.elapsed() >= PLAIN_INTERVAL);
                due.then(|| {
                    state.spoke = Some(Instant::now());
                    format!(
                        "{} of about {}",
                        units::size(state.read),
                        units::size(state.planned.max(state.read))
                    )
                })
            }),
            Event::Member {
                component, rows, ..
            } => self.update(*component, |state| {
                state.rows += rows;
                state.members += 1;
                None
            }),
            Event::Finished { component } => self.update(*component, |state| {
                let time = state.started.map_or(Duration::ZERO, |at| at.elapsed());
                let mut line = String::from("done, ");
                // Verification reads members, it makes none.
                if state.members > 0 {
                    let _ = write!(line, "{} members, {} rows, ", state.members, state.rows);
                }
                if state.kept > 0 {
                    let _ = write!(line, "{} kept, ", units::size(state.kept));
                }
                let _ = write!(
                    line,
                    "{} in {}",
                    units::size(state.read),
                    units::duration(time)
                );
                Some(line)
            }),
            Event::Barrier { skew } => say(barrier(*skew)),
            Event::Omitted(omission) => say(harmless(&left_out(omission))),
            Event::Warning(warning) => say(format!("warning: {}", harmless(warning))),
            Event::Note(note) | Event::Resumed(note) => say(harmless(note)),
            Event::Kept {
                component,
                raw_bytes,
                ..
            } => self.update(*component, |state| {
                state.kept += raw_bytes;
                None
            }),
            Event::Redone { .. } => {}
        }
    }
}

/// One JSON object a line.
struct Json;

impl Observer for Json {
    fn event(&self, event: &Event) {
        let object = match event {
            Event::Planned {
                component,
                bytes,
                items,
            } => {
                json!({"event": "planned", "component": component, "bytes": bytes, "items": items})
            }
            Event::Started { component } => json!({"event": "started", "component": component}),
            Event::Read { component, bytes } => {
                json!({"event": "read", "component": component, "bytes": bytes})
            }
            Event::Member {
                component,
                name,
                rows,
                raw_bytes,
                stored_bytes,
            } => json!({"event": "member", "component": component, "name": name, "rows": rows,
                        "raw_bytes": raw_bytes, "stored_bytes": stored_bytes}),
            Event::Finished { component } => json!({"event": "finished", "component": component}),
            Event::Barrier { skew } => {
                json!({"event": "barrier", "skew_ms": skew.as_millis() as u64})
            }
            Event::Omitted(omission) => json!({"event": "omitted", "omission": omission}),
            Event::Note(note) => json!({"event": "note", "text": note}),
            Event::Resumed(found) => json!({"event": "resumed", "text": found}),
            Event::Kept {
                component,
                raw_bytes,
                stored_bytes,
            } => json!({"event": "kept", "component": component, "raw_bytes": raw_bytes,
                        "stored_bytes": stored_bytes}),
            Event::Redone {
                component,
                name,
                reason,
            } => json!({"event": "redone", "component": component, "name": name, "reason": reason}),
            Event::Warning(warning) => json!({"event": "warning", "text": warning}),
        };
        say(format!("{object}"));
    }
}
