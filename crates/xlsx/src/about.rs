//! The "About" sheet: where the workbook comes from, and every place at which it says less than the bundle.
//!
//! Each cut has a line; what concerns many values of a field is one line with their number. The lines go to
//! the sheet as they come, and to a further sheet where one is full, so nothing is gathered in memory.

use std::borrow::Cow;

use arkstream_pipeline::Failure;

use crate::{
    book::{Book, Sheet},
    cell::Cell,
};

const HEADS: [&str; 6] = ["What", "Model", "Id", "Field", "Length", "Where, and why"];

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) what: &'a str,
    pub(crate) model: &'a str,
    /// The row's id, or how many values there are.
    pub(crate) id: String,
    pub(crate) field: &'a str,
    /// Characters of a text, bytes of a binary.
    pub(crate) length: Option<usize>,
    pub(crate) note: Cow<'a, str>,
}

pub(crate) struct About {
    sheet: Sheet,
    /// Lines that tell of something that is less than in the bundle.
    pub(crate) lines: u64,
}

impl About {
    pub(crate) fn begin(book: &mut Book) -> Result<Self, Failure> {
        Ok(Self {
            sheet: Self::sheet(book)?,
            lines: 0,
        })
    }

    fn sheet(book: &mut Book) -> Result<Sheet, Failure> {
        book.sheet("About", &HEADS.map(str::to_owned))
    }

    /// Something about the workbook as a whole.
    pub(crate) fn fact(&mut self, book: &mut Book, what: &str, note: &str) -> Result<(), Failure> {
        let line = Line {
            what,
            note: Cow::Borrowed(note),
            ..Line::default()
        };
        self.write(book, &line)
    }

    /// A place where the workbook says less than the bundle.
    pub(crate) fn line(&mut self, book: &mut Book, line: &Line<'_>) -> Result<(), Failure> {
        self.lines += 1;
        self.write(book, line)
    }

    fn write(&mut self, book: &mut Book, line: &Line<'_>) -> Result<(), Failure> {
        if book.is_full(&self.sheet) {
            let full = std::mem::replace(&mut self.sheet, Self::sheet(book)?);
            book.close(full)?;
        }
        let length = match line.length {
            // No length has more than 15 digits.
            Some(length) => Cell::Number(length as f64),
            None => Cell::Empty,
        };
        let text = |text| Cell::Text(Cow::Borrowed(text));
        let cells = [
            text(line.what),
            text(line.model),
            text(line.id.as_str()),
            text(line.field),
            length,
            text(line.note.as_ref()),
        ];
        for (column, cell) in (0..).zip(&cells) {
            book.write(&mut self.sheet, column, cell)?;
        }
        self.sheet.row += 1;
        Ok(())
    }

    pub(crate) fn close(self, book: &mut Book) -> Result<(), Failure> {
        book.close(self.sheet)
    }
}
