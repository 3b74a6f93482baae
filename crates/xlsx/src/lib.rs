//! The spreadsheet of a bundle.
