//! A throwaway PostgreSQL and a sample Odoo stack, for the demo and the tests.
//!
//! Everything here is real: a real PostgreSQL server of an installed major ([`Server`]), real
//! tables filled by real SQL ([`OdooSample`]), a real filestore on disk, and a graph in the
//! catalog shape of Apache AGE ([`GraphSample`]). The sample holds on purpose every property of
//! a production database that a backup may trip over; the crate's tests assert each one by a
//! query, so that a trap cannot vanish from the fixture unnoticed.
//!
//! Equal seed and scale give equal rows and equal filestore bytes; object ids (OIDs), transaction
//! ids and timestamps of the server itself do differ from run to run.
//!
//! The server needs Linux: it relies on `setpriv` for changing the user and on the parent-death
//! signal for never outliving the process that started it.

#![cfg(unix)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod files;
mod graph;
mod odoo;
mod server;
mod traffic;

pub use error::SampleError;
pub use graph::{GraphSample, GraphSampleReport};
pub use odoo::{GraphSettings, OdooOptions, OdooSample, OdooSampleReport};
pub use server::{Server, ServerOptions, StopMode};
pub use traffic::{Traffic, TrafficReport};
