//! A Parquet file of which only what is being read is in memory: its footer and one row group.
//!
//! Peak memory: the footer, and the compressed bytes of one row group (16 MiB or one row, as the encoder
//! cuts them).

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes, buf::Reader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::FOOTER_SIZE;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::CheckError;

/// A Parquet file, wherever it is.
pub struct PartFile<'a> {
    len: u64,
    read: Box<dyn FnMut(Range<u64>) -> io::Result<Bytes> + Send + 'a>,
}

impl<'a> PartFile<'a> {
    /// A file of `len` bytes; `read` gives exactly those of the range it is asked for.
    pub fn new(
        len: u64,
        read: impl FnMut(Range<u64>) -> io::Result<Bytes> + Send + 'a,
    ) -> PartFile<'a> {
        PartFile {
            len,
            read: Box::new(read),
        }
    }
}

impl From<Bytes> for PartFile<'_> {
    fn from(file: Bytes) -> Self {
        PartFile::new(file.len() as u64, move |range| {
            // Both ends lie within the file, whose length is a usize.
            Ok(file.slice(range.start as usize..range.end as usize))
        })
    }
}

impl PartFile<'_> {
    /// Opens the window on the file's footer.
    pub(crate) fn open(&mut self) -> Result<Window, CheckError> {
        let footer = |why: &str| CheckError::Footer(ParquetError::General(why.to_owned()));
        let tail_at = self
            .len
            .checked_sub(FOOTER_SIZE as u64)
            .ok_or_else(|| footer("the file is shorter than a footer"))?;
        let tail = self.fetch(tail_at..self.len)?;
        let length = tail
            .first_chunk::<4>()
            .map_or(0, |length| u32::from_le_bytes(*length));
        let start = tail_at
            .checked_sub(length.into())
            .ok_or_else(|| footer("the footer claims to be longer than the file"))?;
        let metadata = self.fetch(start..self.len)?;
        Ok(Window(Arc::new(Inner {
            len: self.len,
            footer: (start, metadata),
            group: Mutex::new((0, Bytes::new())),
        })))
    }

    /// Moves the window on a row group.
    pub(crate) fn show(&mut self, window: &Window, range: Range<u64>) -> Result<(), CheckError> {
        let mut group = window.group();
        // The one before it goes first.
        *group = (0, Bytes::new());
        *group = (range.start, self.fetch(range)?);
        Ok(())
    }

    fn fetch(&mut self, range: Range<u64>) -> Result<Bytes, CheckError> {
        if range.start > range.end || range.end > self.len {
            let why = "the footer points behind the end of the file".to_owned();
            return Err(CheckError::Reader(why));
        }
        (self.read)(range).map_err(CheckError::Source)
    }
}

/// What of the file is in memory.
#[derive(Clone)]
pub(crate) struct Window(Arc<Inner>);

struct Inner {
    len: u64,
    footer: (u64, Bytes),
    group: Mutex<(u64, Bytes)>,
}

impl Window {
    fn group(&self) -> std::sync::MutexGuard<'_, (u64, Bytes)> {
        self.0.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in memory from an offset on.
    fn from(&self, at: u64) -> ParquetResult<Bytes> {
        let group = self.group();
        for (start, bytes) in [&*group, &self.0.footer] {
            let skipped = at.checked_sub(*start).and_then(|n| usize::try_from(n).ok());
            if let Some(skipped) = skipped.filter(|skipped| *skipped < bytes.len()) {
                return Ok(bytes.slice(skipped..));
            }
        }
        Err(ParquetError::EOF(format!(
            "a page lies at {at}, outside its row group"
        )))
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.0.len
    }
}

impl ChunkReader for Window {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} go beyond the row group"
            )));
        }
        Ok(bytes.slice(..length))
    }
}
