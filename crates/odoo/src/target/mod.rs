//! Odoo as a target: rows and files.

pub mod models;
