//! What the fuzz targets need of this crate and nobody else does.

pub use crate::connect::password_in;
pub use crate::dump::setting_statement;
pub use crate::graph::{Scanned, scan_dump};
