//! Odoo as a target: rows and files.

mod filestore;
pub mod models;

pub use filestore::{FilestoreTarget, FilestoreTargetOptions};
