//! What is still good in a bundle whose manifest is lost: the ZIP directory and its CRC-32s.
//!
//! This is the second best proof, used when the first is gone. It reads with `rawzip`, so it
//! shares no code with the writer.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

/// One entry of the ZIP directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its name, with replacement characters where it is not UTF-8.
    pub name: String,
    /// Why it is not good; `None` if its bytes have the length and CRC-32 of the directory.
    pub damage: Option<String>,
}

/// Reads every entry of the ZIP directory and checks its CRC-32.
///
/// # Errors
/// When there is no readable directory; entries found before the damage are lost then too.
pub fn survey(path: &Path) -> io::Result<Vec<Surveyed>> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive =
        ZipArchive::from_file(File::open(path)?, &mut buffer).map_err(io::Error::other)?;
    let mut surveyed = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(header) = entries.next_entry().map_err(io::Error::other)? {
        let name = String::from_utf8_lossy(header.file_path().as_ref()).into_owned();
        let (wayfinder, method) = (header.wayfinder(), header.compression_method());
        let outcome = (|| {
            let entry = archive.get_entry(wayfinder).map_err(io::Error::other)?;
            match method {
                CompressionMethod::STORE => drain(entry.verifying_reader(entry.reader())),
                CompressionMethod::DEFLATE => {
                    drain(entry.verifying_reader(DeflateDecoder::new(entry.reader())))
                }
                other => Err(io::Error::other(format!("compression method {other:?}"))),
            }
        })();
        surveyed.push(Surveyed {
            name,
            damage: outcome.err().map(|error| error.to_string()),
        });
    }
    Ok(surveyed)
}

fn drain(mut reader: impl Read) -> io::Result<()> {
    io::copy(&mut reader, &mut io::sink()).map(drop)
}
