//! The spreadsheet of a bundle: a sheet for each table, an index with links, and an "About" sheet that lists
//! every place at which the workbook says less than the bundle.
//!
//! * `cell` decides what of a value a cell can carry.
//! * `names` and `lists` look up what many2one, one2many and many2many fields refer to.
//! * `table` writes the rows; `about` the list of what was cut; `book` is the workbook.
//!
//! The rows come from the bundle's own parts ([`arkstream_query::Rows`]), never from a database.
//!
//! Peak memory: what [`Rows`](arkstream_query::Rows) takes, [`Order::memory`] for names and lists, about
//! 20 KB a sheet, and one row. All other rows wait in temporary files without a name, one for each sheet, in
//! the folder [`Order::temp`]. Together they are about as large as the rows are as text.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod about;
mod book;
mod cell;
mod lists;
mod names;
mod table;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use arkstream_format::{Component, ModelEntry, TableEntry, TableRole};
use arkstream_pipeline::{BundleReader, Cancel, Event, Failure, Observer};
use arkstream_query::{stored_bytes, table_names};

use about::About;
use book::{Book, Sheet};
use cell::Cell;
use names::Names;
use table::Listed;

/// Rows of a sheet, the header included: Excel's limit.
pub const MOST_ROWS: u32 = book::MOST_ROWS;

/// What to write.
pub struct Order<'a> {
    /// The rows.
    pub bundle: Arc<dyn BundleReader>,
    /// The tables, in the order of their sheets.
    pub sheets: Vec<SheetOrder<'a>>,
    /// What is known of the models: their one2many and many2many fields.
    pub models: &'a [ModelEntry],
    /// Bytes for names and for the values of one2many and many2many fields, half of it each.
    pub memory: u64,
    /// The folder for temporary files.
    pub temp: PathBuf,
    /// Rows of a sheet, the header included; at most [`MOST_ROWS`].
    pub max_rows: u32,
    /// When the rows were read, which the workbook gives as its own date.
    pub taken_at: DateTime<Utc>,
    /// What the workbook says of itself: pairs of a name and a text.
    pub facts: Vec<(&'static str, String)>,
    /// Is told of the tables that are read.
    pub observer: Arc<dyn Observer>,
    /// Ends the work.
    pub cancel: Cancel,
}

/// One table and the name of its sheet.
#[derive(Clone, Debug)]
pub struct SheetOrder<'a> {
    /// The table.
    pub table: &'a TableEntry,
    /// The name, as near to which Excel's rules allow the sheet is named.
    pub name: String,
}

/// Takes the texts that do not fit into a cell.
pub trait LargeFields {
    /// Keeps a text under a name below [`arkstream_format::member_names::LARGE_FIELDS_DIR`]. No name comes
    /// twice.
    ///
    /// # Errors
    /// As the place says.
    fn put(&mut self, name: &str, text: &str) -> Result<(), Failure>;
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sheets with rows.
    pub sheets: u64,
    /// Rows.
    pub rows: u64,
    /// Lines of the "About" sheet that tell of something that is less than in the bundle.
    pub lines: u64,
    /// Texts that are kept whole outside of the workbook.
    pub large_fields: u64,
    /// Binaries that do not fit into a cell, and are only in the bundle.
    pub binaries: u64,
    /// Rows, names and fields that are left out as a whole: lost, or too many for the memory.
    pub missing: u64,
    /// Temporary files.
    pub temporary_files: u64,
    /// Bytes in them, about.
    pub temporary_bytes: u64,
}

/// The sheets that a bundle has when nobody chooses: its models, and the tables of other models that travel
/// with them.
#[must_use]
pub fn all_sheets(bundle: &dyn BundleReader) -> Vec<SheetOrder<'_>> {
    let manifest = bundle.manifest();
    let named = manifest.tables.iter().zip(table_names(manifest));
    let of_models =
        named.filter(|(table, _)| table.role == TableRole::Model || table.model.is_some());
    of_models
        .map(|(table, name)| SheetOrder { table, name })
        .collect()
}

/// Writes the workbook to `out`, front to back, once all rows were read.
///
/// # Errors
/// [`FailureKind::Damaged`](arkstream_pipeline::FailureKind::Damaged) where the bundle is; when `out`,
/// `large` or the temporary folder fails; when the run is cancelled.
pub fn write<W: LargeFields>(
    order: &Order<'_>,
    large: &mut W,
    out: impl Write + Send,
) -> Result<Report, Failure> {
    let component = Component::Xlsx;
    let bytes = |sheet: &SheetOrder<'_>| stored_bytes(order.bundle.as_ref(), sheet.table);
    order.observer.event(&Event::Planned {
        component,
        bytes: order.sheets.iter().map(bytes).sum(),
        items: order.sheets.len() as u64,
    });
    order.observer.event(&Event::Started { component });
    let report = book::guarded(|| {
        let mut book = Book::new(&order.temp, order.max_rows, order.taken_at)?;
        let index = book.sheet("Index", &INDEX.map(str::to_owned))?;
        let mut about = About::begin(&mut book)?;
        for (what, note) in &order.facts {
            about.fact(&mut book, what, note)?;
        }
        let budget = usize::try_from(order.memory / 2).unwrap_or(usize::MAX);
        let mut writer = Writer {
            names: Names::new(Arc::clone(&order.bundle), budget),
            budget,
            order,
            book,
            about,
            large,
            listed: Vec::new(),
            wanted: Vec::new(),
            report: Report::default(),
        };
        for sheet in &order.sheets {
            writer.table(sheet)?;
            order.observer.event(&Event::Read {
                component,
                bytes: bytes(sheet),
            });
        }
        writer.stand_ins()?;
        let (book, report) = writer.conclude(index)?;
        let stopping = Stopping {
            out,
            cancel: order.cancel.clone(),
        };
        match book.save(stopping) {
            Ok(()) => Ok(report),
            Err(failure) => order.cancel.check().and(Err(failure)),
        }
    })?;
    order.observer.event(&Event::Finished { component });
    Ok(report)
}

/// Fails once the run is cancelled: a large workbook takes minutes to be put together.
struct Stopping<W> {
    out: W,
    cancel: Cancel,
}

impl<W: Write> Write for Stopping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cancel
            .check()
            .map_err(|failure| io::Error::other(failure.to_string()))?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const INDEX: [&str; 5] = ["Sheet", "Model", "Table", "Rows", "Columns"];

/// The work in progress.
struct Writer<'a, W> {
    order: &'a Order<'a>,
    book: Book,
    about: About,
    names: Names,
    /// Bytes for the lists of one sheet.
    budget: usize,
    large: &'a mut W,
    listed: Vec<Listed>,
    /// Tables that stand in for fields which do not fit.
    wanted: Vec<String>,
    report: Report,
}

impl<W: LargeFields> Writer<'_, W> {
    /// Writes the sheets of tables that stand in for fields, once each.
    fn stand_ins(&mut self) -> Result<(), Failure> {
        let order = self.order;
        let mut written: BTreeSet<String> = order
            .sheets
            .iter()
            .map(|sheet| sheet.table.table.clone())
            .collect();
        while let Some(table) = self.wanted.pop() {
            if let Some(extra) = table::extra(&order.bundle.manifest().tables, &table)
                && written.insert(table)
            {
                self.table(&extra)?;
            }
        }
        Ok(())
    }

    /// Writes the index.
    fn conclude(mut self, mut index: Sheet) -> Result<(Book, Report), Failure> {
        for listed in &self.listed {
            self.book.link(&mut index, 0, &listed.sheet)?;
            let cells = [
                Cell::Text(Cow::Borrowed(&listed.model)),
                Cell::Text(Cow::Borrowed(&listed.table)),
                Cell::Number(listed.rows as f64),
                Cell::Number(listed.columns as f64),
            ];
            for (column, cell) in (1..).zip(&cells) {
                self.book.write(&mut index, column, cell)?;
            }
            index.row += 1;
        }
        self.report.lines = self.about.lines;
        self.about.close(&mut self.book)?;
        self.book.close(index)?;
        self.report.sheets = self.listed.len() as u64;
        self.report.temporary_files = self.book.sheets() as u64;
        self.report.temporary_bytes = self.book.temporary;
        Ok((self.book, self.report))
    }
}
