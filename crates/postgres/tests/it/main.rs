//! Against real servers: connections, the barrier, exports, dumps.
#![allow(clippy::unwrap_used)]

mod age;
mod bundle;
mod conformance;
mod connect;
mod cutover;
mod dump;
mod export;
mod graph;
mod large;
mod resume;
mod snapshot;
mod staging;
mod support;
