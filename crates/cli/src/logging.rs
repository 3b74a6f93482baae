//! The run's log: on standard error for whoever asks, and kept for `logs/export_log.txt`.
//!
//! No event may hold a secret. What is kept is bounded; a longer log says how much was cut.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    say::{Saying, say},
    screen, units,
};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::LevelFilter, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The most bytes of log that travel in a bundle.
const KEPT: usize = 8 << 20;

/// What was logged so far.
#[derive(Clone, Default)]
pub(crate) struct LogBuffer {
    text: Arc<Mutex<(Vec<u8>, u64)>>,
}

impl LogBuffer {
    pub(crate) fn text(&self) -> String {
        let kept = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from_utf8_lossy(&kept.0).into_owned();
        if kept.1 > 0 {
            let cut = units::size(kept.1);
            text.push_str(&format!("… {cut} more of the log were cut\n"));
        }
        text
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.len() + bytes.len() <= KEPT {
            kept.0.extend_from_slice(bytes);
        } else {
            kept.1 += bytes.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging. `ARKSTREAM_LOG` (in the syntax of `RUST_LOG`) overrides `verbose`.
pub(crate) fn start(verbose: u8) -> LogBuffer {
    let buffer = LogBuffer::default();
    let shown = EnvFilter::try_from_env("ARKSTREAM_LOG").unwrap_or_else(|_| {
        EnvFilter::new(match verbose {
            0 => "off",
            1 => "warn,arkstream=info",
            _ => "info,arkstream=debug",
        })
    });
    let writer = buffer.clone();
    let started = tracing_subscriber::registry()
        .with(
            fmt::layer()
                .with_writer(|| Saying)
                .with_ansi(screen::shows_colours())
                .with_target(false)
                .with_filter(shown),
        )
        .with(
            fmt::layer()
                .with_ansi(false)
                .with_target(false)
                .with_writer(move || writer.clone())
                .with_filter(LevelFilter::INFO)
                .with_filter(tracing_subscriber::filter::filter_fn(|event| {
                    event.target().starts_with("arkstream")
                })),
        )
        .try_init();
    if let Err(error) = started {
        say(format!("warning: no log is kept: {error}"));
    }
    buffer
}
