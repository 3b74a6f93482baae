//! The workbook: sheets that are written row by row, names that Excel takes, cells that stay what they are.
//!
//! `rust_xlsxwriter` keeps one row of each sheet in memory and the others in a temporary file without a
//! name, one for each sheet, in the folder that it is told. The operating system removes it when the process
//! ends, however it ends. Texts stand in the cells themselves; there is no table of shared ones.
//!
//! The library panics where a temporary file cannot be written. [`guarded`] turns that into a failure.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use chrono::{DateTime, Utc};
use rust_xlsxwriter::{
    DocProperties, ExcelDateTime, Format, FormatAlign, Url, Workbook, Worksheet, XlsxError,
};

use arkstream_pipeline::{Failure, FailureKind, is_no_space};

use crate::cell::{Cell, MOST_UNITS, Zone, start};

/// Rows of a sheet, the header included.
pub(crate) const MOST_ROWS: u32 = 1_048_576;

/// UTF-16 units of a sheet's name.
const MOST_NAME: usize = 31;

/// Bytes of a sheet from which on its place in the file may need 64 bits.
const LARGE: u64 = 1 << 30;

/// What a cell takes in a sheet beside its text, at most and about.
const CELL_BYTES: u64 = 48;

/// Rows whose lengths decide the widths of the columns.
const MEASURED: u32 = 200;
const WIDTHS: std::ops::RangeInclusive<usize> = 8..=60;

/// The workbook while it is written.
pub(crate) struct Book {
    workbook: Workbook,
    taken: BTreeSet<String>,
    sheets: usize,
    rows: u32,
    /// Bytes in temporary files, about.
    pub(crate) temporary: u64,
    largest: u64,
    formats: Formats,
}

struct Formats {
    head: Format,
    date: Format,
    moment: Format,
    utc: Format,
    link: Format,
}

/// A sheet while it is written.
pub(crate) struct Sheet {
    index: usize,
    pub(crate) name: String,
    /// The next row.
    pub(crate) row: u32,
    widths: Vec<usize>,
    bytes: u64,
}

impl Book {
    pub(crate) fn new(temp: &Path, rows: u32, created: DateTime<Utc>) -> Result<Self, Failure> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(temp).map_err(failed)?;
        let mut properties = DocProperties::new();
        if let Ok(created) = ExcelDateTime::from_timestamp(created.timestamp()) {
            properties = properties.set_creation_datetime(&created);
        }
        workbook.set_properties(&properties);
        let numbers = |format: &str| {
            Format::new()
                .set_num_format(format)
                .set_align(FormatAlign::Left)
        };
        Ok(Self {
            workbook,
            taken: BTreeSet::new(),
            sheets: 0,
            rows: rows.clamp(2, MOST_ROWS),
            temporary: 0,
            largest: 0,
            formats: Formats {
                head: Format::new().set_bold(),
                date: numbers("yyyy-mm-dd"),
                moment: numbers("yyyy-mm-dd hh:mm:ss"),
                utc: numbers("yyyy-mm-dd hh:mm:ss\"+00\""),
                link: Format::new().set_hyperlink(),
            },
        })
    }

    /// A sheet whose name is as near to the wanted one as Excel allows, with these heads, frozen.
    pub(crate) fn sheet(&mut self, wanted: &str, heads: &[String]) -> Result<Sheet, Failure> {
        let name = self.free_name(wanted);
        let index = self.sheets;
        let worksheet = self
            .workbook
            .add_worksheet_with_constant_memory()
            .map_err(failed)?;
        self.sheets += 1;
        worksheet.set_name(&name).map_err(failed)?;
        worksheet.set_freeze_panes(1, 0).map_err(failed)?;
        for (column, head) in (0..).zip(heads) {
            let head = start(head, MOST_UNITS);
            worksheet
                .write_string_with_format(0, column, head, &self.formats.head)
                .map_err(failed)?;
        }
        Ok(Sheet {
            index,
            name,
            row: 1,
            widths: heads.iter().map(|head| head.chars().count() + 3).collect(),
            bytes: 0,
        })
    }

    /// Sheets so far, and as many temporary files.
    pub(crate) fn sheets(&self) -> usize {
        self.sheets
    }

    /// Whether no further row fits.
    pub(crate) fn is_full(&self, sheet: &Sheet) -> bool {
        sheet.row >= self.rows
    }

    /// Writes a cell of the sheet's next row. Its text must fit.
    pub(crate) fn write(
        &mut self,
        sheet: &mut Sheet,
        column: u16,
        cell: &Cell<'_>,
    ) -> Result<(), Failure> {
        let (row, formats) = (sheet.row, &self.formats);
        let worksheet = self
            .workbook
            .worksheet_from_index(sheet.index)
            .map_err(failed)?;
        let mut shown = 0;
        match cell {
            Cell::Empty | Cell::Bytes(_) => return Ok(()),
            Cell::Bool(value) => worksheet.write_boolean(row, column, *value),
            Cell::Number(value) => {
                shown = 12;
                worksheet.write_number(row, column, *value)
            }
            Cell::Date(serial) => {
                shown = 10;
                worksheet.write_number_with_format(row, column, *serial, &formats.date)
            }
            Cell::Moment(serial, zone) => {
                shown = 21;
                let format = match zone {
                    Zone::None => &formats.moment,
                    Zone::Utc => &formats.utc,
                };
                worksheet.write_number_with_format(row, column, *serial, format)
            }
            Cell::Text(text) | Cell::Kept(text) => {
                shown = text.len();
                sheet.bytes += shown as u64;
                worksheet.write_string(row, column, text.as_ref())
            }
        }
        .map_err(failed)?;
        sheet.bytes += CELL_BYTES;
        if row <= MEASURED
            && let Some(width) = sheet.widths.get_mut(usize::from(column))
        {
            *width = (*width).max(shown);
        }
        Ok(())
    }

    /// Writes a link to another sheet.
    pub(crate) fn link(&mut self, sheet: &mut Sheet, column: u16, to: &str) -> Result<(), Failure> {
        let place = format!("internal:'{}'!A1", to.replace('\'', "''"));
        let worksheet = self
            .workbook
            .worksheet_from_index(sheet.index)
            .map_err(failed)?;
        let url = Url::new(place).set_text(to);
        worksheet
            .write_url_with_format(sheet.row, column, url, &self.formats.link)
            .map_err(failed)?;
        if let Some(width) = sheet.widths.get_mut(usize::from(column)) {
            *width = (*width).max(to.chars().count());
        }
        Ok(())
    }

    /// Completes a sheet: widths and filter.
    pub(crate) fn close(&mut self, sheet: Sheet) -> Result<(), Failure> {
        let worksheet: &mut Worksheet = self
            .workbook
            .worksheet_from_index(sheet.index)
            .map_err(failed)?;
        for (column, width) in (0..).zip(&sheet.widths) {
            let width = (*width).clamp(*WIDTHS.start(), *WIDTHS.end());
            // At most 60, so the cast keeps it.
            worksheet
                .set_column_width(column, width as f64)
                .map_err(failed)?;
        }
        if let Some(last) = u16::try_from(sheet.widths.len())
            .ok()
            .and_then(|n| n.checked_sub(1))
        {
            worksheet
                .autofilter(0, 0, sheet.row - 1, last)
                .map_err(failed)?;
        }
        self.temporary += sheet.bytes;
        self.largest = self.largest.max(sheet.bytes);
        Ok(())
    }

    /// Writes the file, front to back.
    pub(crate) fn save(mut self, out: impl Write + Send) -> Result<(), Failure> {
        if self.largest >= LARGE {
            self.workbook.use_zip_large_file(true);
        }
        self.workbook.save_to_writer(out).map_err(failed)
    }

    /// At most 31 units, none of `[]:*?/\`, no apostrophe at an end, not `History`, and no other sheet's,
    /// upper and lower case being one.
    fn free_name(&mut self, wanted: &str) -> String {
        let clean: String = wanted
            .chars()
            .map(|c| match c {
                '[' | ']' | ':' | '*' | '?' | '/' | '\\' | '\'' => '_',
                c if c.is_control() => '_',
                c => c,
            })
            .collect();
        let clean = if clean.is_empty() {
            "_".to_owned()
        } else {
            clean
        };
        let mut name = start(&clean, MOST_NAME).to_owned();
        let mut number = 2;
        while name.eq_ignore_ascii_case("history") || !self.taken.insert(name.to_lowercase()) {
            let end = format!("~{number}");
            name = format!("{}{end}", start(&clean, MOST_NAME - end.len()));
            number += 1;
        }
        name
    }
}

/// Runs what uses the library, and turns its panic into a failure.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic
                .downcast::<&str>()
                .map(|text| text.to_string())
                .unwrap_or_default(),
        };
        let kind = match text.contains("StorageFull") || text.contains("QuotaExceeded") {
            true => FailureKind::NoSpace,
            false => FailureKind::Refused,
        };
        Err(Failure::new(kind, "write the spreadsheet", text)
            .help("its temporary files need space where --temp says"))
    })
}

fn failed(error: XlsxError) -> Failure {
    let attempted = "write the spreadsheet";
    match error {
        XlsxError::TempFileError(folder, error) => {
            let attempted = format!("create a temporary file in {}", folder.display());
            let full = is_no_space(&error);
            let failure = Failure::io(FailureKind::Refused, attempted, error);
            match full {
                true => failure,
                false => failure.help(
                    "name another folder with --temp; each sheet needs one open file (`ulimit -n`)",
                ),
            }
        }
        error => match system(&error) {
            Some(cause) => Failure::io(FailureKind::Refused, attempted, cause),
            None => Failure::new(FailureKind::Internal, attempted, error),
        },
    }
}

/// The failed system call behind an error of the library or of its ZIP writer.
fn system(error: &XlsxError) -> Option<io::Error> {
    let mut cause: Option<&dyn Error> = match error {
        XlsxError::IoError(error) => Some(error),
        error => error.source(),
    };
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(io::Error::new(found.kind(), found.to_string()));
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_excel_takes_and_no_two_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::new(folder.path(), 10, DateTime::default()).unwrap();
        let long = "sam.knowledge.document.version.comment";
        let names = [
            long,
            long,
            "Sam.Knowledge.Document.Version.C",
            "a/b",
            "A_B",
            "history",
            "'",
        ];
        let found: Vec<String> = names.iter().map(|name| book.free_name(name)).collect();
        assert_eq!(found[0], "sam.knowledge.document.version.");
        assert_eq!(found[1], "sam.knowledge.document.versio~2");
        assert_eq!(found[2], "Sam.Knowledge.Document.Versio~3");
        assert_eq!(found[3..], ["a_b", "A_B~2", "history~2", "_"]);
        assert!(found.iter().all(|name| name.encode_utf16().count() <= 31));
    }

    #[test]
    fn a_panic_of_the_library_is_a_failure() {
        let full = guarded::<()>(|| panic!("Couldn't write: Os {{ kind: StorageFull }}"));
        assert_eq!(full.unwrap_err().kind, FailureKind::NoSpace);
    }

    #[test]
    fn a_full_disk_is_told_as_one() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let mut book = Book::new(folder.path(), 10, DateTime::default()).unwrap();
        let sheet = book.sheet("a", &["head".to_owned()]).unwrap();
        book.close(sheet).unwrap();
        let failure = book.save(Full).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    }

    #[test]
    fn a_temporary_folder_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let failure = Book::new(&missing, 10, DateTime::default()).err().unwrap();
        assert!(failure.to_string().contains("missing"), "{failure}");
    }
}
