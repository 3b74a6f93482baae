//! Files of the sample: throwaway, so none is synced or replaced atomically.

use std::path::Path;

use crate::error::SampleError;

/// Writes a file that nothing needs after a crash.
#[expect(
    clippy::disallowed_methods,
    reason = "throwaway files need no durability"
)]
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), SampleError> {
    std::fs::write(path, bytes).map_err(SampleError::io("write", path))
}
