//! Signals of the user.

use arkstream_pipeline::{Cancel, Failure};

use crate::{exit::Code, say::say};

/// Raises `cancel` at the first SIGINT or SIGTERM. A second one ends the process at once.
pub(crate) fn watch_signals(cancel: &Cancel) {
    let cancel = cancel.clone();
    tokio::spawn(async move {
        if signal().await.is_ok() {
            say("interrupted: stopping");
            cancel.raise();
            // Whoever asks twice does not want to wait for locks to be given back.
            if signal().await.is_ok() {
                #[expect(clippy::disallowed_methods, reason = "asked for, a second time")]
                std::process::exit(Code::Interrupted as i32);
            }
        }
    });
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// The outcome of work, unless the user interrupts it.
pub(crate) async fn or_interrupted<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = work => outcome,
        () = cancel.raised() => Err(Failure::interrupted()),
    }
}
