//! A folder for the targets whose parser takes a path: one a thread, in memory where there is one.

use std::{cell::OnceCell, fs, path::Path};

use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// Calls `with` with a folder that is this thread's own. What stands in it stays there.
pub(crate) fn folder<T>(with: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| {
            let memory = Path::new("/dev/shm");
            match memory.is_dir() {
                true => tempfile::tempdir_in(memory).unwrap(),
                false => tempfile::tempdir().unwrap(),
            }
        });
        with(folder.path())
    })
}

/// Calls `with` with the path of a file of that content.
pub(crate) fn file<T>(content: &[u8], with: impl FnOnce(&Path) -> T) -> T {
    folder(|folder| {
        let path = folder.join("file");
        fs::write(&path, content).unwrap();
        with(&path)
    })
}
