//! Odoo: which models there are, which of them travel with what, and their rows and files.
//!
//! * [`inventory`] is the list of models the specification names, [`selection`] the user's choice.
//! * [`registry`] is what a database says of its models, resolved to tables of the catalog.
//! * [`scope`] decides what travels: tables, rows, columns. [`order`] is the order of loading.
//! * [`Odoo`] is a database that is being backed up; it gives the sources of rows and files.
//! * [`conf`] reads an `odoo.conf`, [`discover`] what the application knows of graph and Chroma.
//!
//! Deciding is plain computation over what was read (registry and catalog); only `registry`,
//! `discover` and the sources speak to a server, and only the filestore source and the searches
//! of `conf` and `discover` touch files. Nothing here writes anywhere but into the run's sink.
//!
//! What must never be: a model that is silently absent, a table guessed from a model's name
//! against the evidence, a secret in an identity row or a message.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod conf;
pub mod discover;
pub mod inventory;
pub mod order;
pub mod registry;
pub mod scope;
pub mod selection;
mod source;
pub mod target;

pub use source::{FilestoreOptions, FilestoreSource, ModelsSource, Odoo, OdooFacts, OdooOptions};
