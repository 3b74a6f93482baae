//! The unfinished copy: written at any place, front to back, synced in groups, and the record of how
//! far it is durable.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use arkstream_format::CopyRecord;
use arkstream_pipeline::{Cancel, Failure, FailureKind, fault};

use super::{layout::Piece, supply::holds};
use crate::disk::{Disk, DiskFile};

/// Data that may wait for a sync.
const GROUP_BYTES: u64 = 64 << 20;
/// Time that data may wait for a sync while more keeps coming.
const GROUP_TIME: Duration = Duration::from_secs(10);
/// How much more is durable before the record says so. It costs three syncs; without it the next run reads
/// what it does not speak of, and fetches nothing more.
const RECORD_BYTES: u64 = 512 << 20;
/// Gathers headers and small chunks into one write.
const BUFFER: usize = 256 << 10;

pub(super) struct Output<'a> {
    disk: &'a dyn Disk,
    pub(super) file: Box<dyn DiskFile>,
    path: PathBuf,
    record_path: PathBuf,
    record: CopyRecord,
    /// Where the next byte goes.
    pub(super) at: u64,
    /// SHA-256 of everything before, if nothing of it was passed over.
    pub(super) sha256: Sha256,
    /// Bytes before `at` that are not written yet.
    buffer: Vec<u8>,
    unsynced: u64,
    last_sync: Instant,
}

impl<'a> Output<'a> {
    pub(super) fn new(
        disk: &'a dyn Disk,
        file: Box<dyn DiskFile>,
        path: PathBuf,
        record_path: PathBuf,
        record: CopyRecord,
    ) -> Self {
        Self {
            disk,
            file,
            path,
            record_path,
            at: record.written,
            record,
            sha256: Sha256::new(),
            buffer: Vec::with_capacity(BUFFER),
            unsynced: 0,
            last_sync: Instant::now(),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        self.sha256.update(bytes);
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if bytes.len() > BUFFER {
            self.write_at(bytes, self.at - bytes.len() as u64)
        } else {
            self.buffer.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Keeps the next piece, if the file holds it already.
    pub(super) fn keep(&mut self, piece: &Piece<'_>, cancel: &Cancel) -> Result<bool, Failure> {
        if !holds(self.file.as_ref(), piece, &mut self.sha256, cancel) {
            return Ok(false);
        }
        self.flush()?;
        self.at = piece.end();
        self.unsynced += piece.len;
        Ok(true)
    }

    /// Writes what stands at a place again.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), Failure> {
        fault::point("bundle.write")
            .and_then(|()| self.file.write_all_at(bytes, at))
            .map_err(|error| self.failure(error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.write_at(&buffer, self.at - buffer.len() as u64)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Whether what is written should be synced.
    pub(super) fn is_due(&self) -> bool {
        self.unsynced >= GROUP_BYTES || self.last_sync.elapsed() >= GROUP_TIME
    }

    /// Makes what is written durable; now and then the record of it, too.
    pub(super) fn sync_group(&mut self) -> Result<(), Failure> {
        self.sync_data()?;
        if self.at.saturating_sub(self.record.written) >= RECORD_BYTES {
            self.write_record()?;
        }
        Ok(())
    }

    /// Data first, then the record that speaks of it.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.sync_data()?;
        if self.record.written < self.at {
            self.write_record()?;
        }
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), Failure> {
        self.flush()?;
        if self.unsynced == 0 {
            return Ok(());
        }
        // Never again after it failed: the system has dropped what it could not write, and says so once.
        fault::point("bundle.sync")
            .and_then(|()| self.file.sync_data())
            .map_err(|error| self.failure(error))?;
        self.unsynced = 0;
        self.last_sync = Instant::now();
        Ok(())
    }

    fn write_record(&mut self) -> Result<(), Failure> {
        self.record.written = self.at;
        let attempted = || format!("write {}", self.record_path.display());
        let mut text = serde_json::to_vec(&self.record)
            .map_err(|error| Failure::new(FailureKind::Internal, attempted(), error))?;
        text.push(b'\n');
        self.disk
            .write_atomically(&self.record_path, &text)
            .map_err(|error| Failure::io(FailureKind::Refused, attempted(), error))
    }

    /// Makes the whole file durable, with its length.
    pub(super) fn sync_all(&mut self) -> Result<(), Failure> {
        self.flush()?;
        fault::point("bundle.final-sync")
            .and_then(|()| self.file.sync_all())
            .map_err(|error| self.failure(error))
    }

    pub(super) fn failure(&self, error: io::Error) -> Failure {
        let attempted = format!("write to {}", self.path.display());
        Failure::io(FailureKind::Refused, attempted, error)
    }
}
