//! What the ports promise, as code that every implementation must pass.
//!
//! A suite is a function that takes the means to make an implementation and panics, with a sentence,
//! where a promise of the trait's documentation is broken. The implementations' own crates call it
//! from their tests, over real stores:
//!
//! | Port | Suite | Implementations |
//! |---|---|---|
//! | `Sink`, `BundleSink` | [`sink`] | `bundle`, [`MemorySink`] |
//! | `BundleReader` | [`reader`] | `bundle` |
//! | `Source` | [`source`] | `odoo` (rows, filestore), `postgres` (dumps), `chroma` |
//! | `Target` | [`target`] | `odoo` (rows, filestore), `postgres` (graphs), `chroma` |
//!
//! [`Faulty`] is a sink around another one that fails, hangs or interrupts the run at a chosen call.
//! The suite of sources puts it before them, so that what is promised holds after a failure, too.
#![allow(clippy::unwrap_used)]

mod bundle;
mod faulty;
mod memory;
pub mod reader;
pub mod sink;
pub mod source;
pub mod target;

pub use bundle::{MemoryBundle, table_of};
pub use faulty::{Fault, Faulty};
pub use memory::MemorySink;

use std::{future::Future, pin::pin, task::Poll};

/// Polls a future so many times, with everybody else running in between, and drops it then, as a
/// caller does that is cancelled. `None` if it was not ready by then.
pub async fn cancelled_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(value) = futures::poll!(future.as_mut()) {
            return Some(value);
        }
        tokio::time::sleep(std::time::Duration::from_micros(300)).await;
    }
    None
}
