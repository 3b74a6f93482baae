//! The sheets of one table.

use std::{borrow::Cow, sync::Arc};

use arrow_array::RecordBatch;

use arkstream_format::{ModelEntry, TableEntry, X2ManyField, member_names};
use arkstream_pipeline::{Failure, fault};
use arkstream_query::{Column, Rows, columns, file_name, lost_parts, plain_name};

use crate::{
    LargeFields, SheetOrder, Writer,
    about::Line,
    book::Sheet,
    cell::{Cell, cell, fits, start},
    lists::{List, Read},
    names::integer,
};

/// UTF-16 units of a text that are shown where all of it does not fit.
const PREVIEW: usize = 2_000;

/// A line of the index.
pub(crate) struct Listed {
    pub(crate) sheet: String,
    pub(crate) model: String,
    pub(crate) table: String,
    pub(crate) rows: u64,
    pub(crate) columns: usize,
}

/// How many values of a column stand there otherwise than in the bundle.
#[derive(Clone, Copy, Default)]
struct Tally {
    empty: u64,
    kept: u64,
    nameless: u64,
}

/// A table while its rows are written.
struct Current<'a> {
    order: &'a SheetOrder<'a>,
    columns: Vec<Column>,
    lists: Vec<List>,
    heads: Vec<String>,
    tallies: Vec<Tally>,
    sheet: Sheet,
    /// Sheets that are full.
    full: u32,
    /// Whether `id` tells the rows apart.
    has_ids: bool,
    rows: u64,
}

impl<W: LargeFields> Writer<'_, W> {
    /// Writes a table, on as many sheets as it takes.
    pub(crate) fn table(&mut self, order: &SheetOrder<'_>) -> Result<(), Failure> {
        let table = order.table;
        let lost = lost_parts(self.order.bundle.as_ref(), table);
        for part in &lost {
            let note = format!("lost before the bundle was salvaged: {}", part.member);
            self.missing("rows", order, part.rows.to_string(), "", note)?;
        }
        if lost.len() == table.parts.len() && !lost.is_empty() {
            return Ok(());
        }
        let rows = Rows::open_remaining(Arc::clone(&self.order.bundle), table)?;
        let columns = columns(&rows.schema());
        self.prepare_names(order, &columns)?;
        let lists = self.lists(order)?;
        let heads: Vec<String> = columns
            .iter()
            .map(|column| column.name.clone())
            .chain(lists.iter().map(|list| list.field.field.clone()))
            .collect();
        let mut current = Current {
            tallies: vec![Tally::default(); columns.len()],
            sheet: self.book.sheet(&order.name, &heads)?,
            full: 0,
            has_ids: table.primary_key == ["id"],
            rows: 0,
            order,
            columns,
            lists,
            heads,
        };
        for batch in rows {
            self.order.cancel.check()?;
            fault::check("export.batch")?;
            let batch = batch?;
            for row in 0..batch.num_rows() {
                self.row(&mut current, &batch, row)?;
            }
        }
        self.tell_tallies(&current)?;
        self.end_sheet(&current)?;
        self.book.close(current.sheet)
    }

    fn prepare_names(&mut self, order: &SheetOrder<'_>, columns: &[Column]) -> Result<(), Failure> {
        let mut models: Vec<&str> = columns.iter().filter_map(referred).collect();
        models.sort_unstable();
        models.dedup();
        for model in self.names.prepare(&models)? {
            let note =
                format!("the names of {model} do not fit into --memory; its ids stand alone");
            self.missing("names", order, String::new(), "", note)?;
        }
        Ok(())
    }

    /// The values of the model's one2many and many2many fields, as far as they fit.
    fn lists(&mut self, order: &SheetOrder<'_>) -> Result<Vec<List>, Failure> {
        let table = order.table;
        let of_it = |model: &&ModelEntry| {
            model.table.as_deref() == Some(&table.table)
                && table.model.as_deref() == Some(&model.model)
        };
        let model = self.order.models.iter().find(of_it);
        let fields: &[X2ManyField] = model.map_or(&[], |model| &model.x2many);
        let mut lists: Vec<List> = Vec::new();
        for field in fields {
            let used: usize = lists.iter().map(List::bytes).sum();
            let room = self.budget.saturating_sub(used);
            let place = plain_name(&field.table);
            let note = match List::read(&self.order.bundle, field, room)? {
                Read::Whole(list) => {
                    lists.push(list);
                    continue;
                }
                Read::TooMany(pairs) => {
                    self.wanted.push(field.table.clone());
                    format!(
                        "its {pairs} values do not fit into --memory; they are in {} of the sheet of {place}",
                        field.column
                    )
                }
                Read::Absent => format!("the bundle does not hold {place}"),
            };
            self.missing("field", order, String::new(), &field.field, note)?;
        }
        Ok(lists)
    }

    fn row(
        &mut self,
        current: &mut Current<'_>,
        batch: &RecordBatch,
        row: usize,
    ) -> Result<(), Failure> {
        if self.book.is_full(&current.sheet) {
            self.end_sheet(current)?;
            current.full += 1;
            let suffix = format!(" ({})", current.full + 1);
            let name = format!("{}{suffix}", start(&current.order.name, 31 - suffix.len()));
            let next = self.book.sheet(&name, &current.heads)?;
            self.book
                .close(std::mem::replace(&mut current.sheet, next))?;
        }
        current.rows += 1;
        let id = match current.has_ids {
            true => batch.column_by_name("id").and_then(|ids| integer(ids, row)),
            false => None,
        };
        let key = id.map_or_else(|| format!("row-{}", current.rows), |id| id.to_string());
        for at in 0..current.columns.len() {
            self.value(current, at, batch, row, &key)?;
        }
        for at in 0..current.lists.len() {
            let Some((list, id)) = current.lists.get(at).zip(id) else {
                continue;
            };
            let (text, field) = (list.text(id), list.field.field.clone());
            let cell = match text.is_empty() {
                true => Cell::Empty,
                false => Cell::Text(Cow::Owned(text)),
            };
            self.put(current, current.columns.len() + at, &field, cell, &key)?;
        }
        current.sheet.row += 1;
        Ok(())
    }

    /// Writes a column's value.
    fn value(
        &mut self,
        current: &mut Current<'_>,
        at: usize,
        batch: &RecordBatch,
        row: usize,
        key: &str,
    ) -> Result<(), Failure> {
        let (Some(column), Some(tally)) = (current.columns.get(at), current.tallies.get_mut(at))
        else {
            return Ok(());
        };
        let mut content = cell(column, batch, row)?;
        let field = column.name.clone();
        match &content {
            Cell::Text(text) if text.is_empty() => {
                tally.empty += 1;
                return Ok(());
            }
            Cell::Kept(_) => tally.kept += 1,
            Cell::Number(_) => {
                let id = batch
                    .columns()
                    .get(column.index)
                    .and_then(|ids| integer(ids, row));
                if let Some((model, id)) = referred(column).zip(id) {
                    match self.names.get(model, id) {
                        Some(name) => content = Cell::Text(Cow::Owned(format!("{id}, {name}"))),
                        None => tally.nameless += 1,
                    }
                }
            }
            _ => {}
        }
        self.put(current, at, &field, content, key)
    }

    /// Writes a cell, or what stands for it where it does not fit.
    fn put(
        &mut self,
        current: &mut Current<'_>,
        at: usize,
        field: &str,
        content: Cell<'_>,
        key: &str,
    ) -> Result<(), Failure> {
        let column = u16::try_from(at).unwrap_or(u16::MAX);
        let order = current.order;
        let content = match content {
            Cell::Bytes(length) => {
                self.report.binaries += 1;
                let line = Line {
                    what: "binary left out",
                    model: &order.name,
                    id: key.to_owned(),
                    field,
                    length: Some(length),
                    note: Cow::Borrowed(
                        "too long for a cell; it is in the Parquet files of the bundle",
                    ),
                };
                self.about.line(&mut self.book, &line)?;
                Cell::Text(Cow::Owned(format!(
                    "[binary of {length} bytes: in the bundle only]"
                )))
            }
            Cell::Text(text) | Cell::Kept(text) if !fits(&text) => {
                let length = text.chars().count();
                let name = format!(
                    "{}{}/{}.{}.txt",
                    member_names::LARGE_FIELDS_DIR,
                    file_name(&order.name),
                    file_name(key),
                    file_name(field)
                );
                self.large.put(&name, &text)?;
                self.report.large_fields += 1;
                let line = Line {
                    what: "text cut",
                    model: &order.name,
                    id: key.to_owned(),
                    field,
                    length: Some(length),
                    note: Cow::Owned(format!("the whole text is in {name}")),
                };
                self.about.line(&mut self.book, &line)?;
                let preview = start(&text, PREVIEW);
                Cell::Text(Cow::Owned(format!(
                    "{preview}… [cut: {length} characters in all; the whole text is in {name}]"
                )))
            }
            content => content,
        };
        self.book.write(&mut current.sheet, column, &content)
    }

    /// Lists a sheet that is complete.
    fn end_sheet(&mut self, current: &Current<'_>) -> Result<(), Failure> {
        let rows = u64::from(current.sheet.row - 1);
        self.report.rows += rows;
        self.listed.push(Listed {
            sheet: current.sheet.name.clone(),
            model: current.order.table.model.clone().unwrap_or_default(),
            table: current.order.table.table.clone(),
            rows,
            columns: current.heads.len(),
        });
        Ok(())
    }

    fn tell_tallies(&mut self, current: &Current<'_>) -> Result<(), Failure> {
        for (column, tally) in current.columns.iter().zip(&current.tallies) {
            let kinds = [
                (
                    tally.empty,
                    "empty texts",
                    "a cell cannot tell an empty text from a missing value",
                ),
                (
                    tally.kept,
                    "values as text",
                    "Excel would change them: more than 15 digits, or no number or date that it knows",
                ),
                (
                    tally.nameless,
                    "ids without a name",
                    "the bundle does not hold a name of what they refer to",
                ),
            ];
            for (count, what, note) in kinds.into_iter().filter(|(count, ..)| *count > 0) {
                let line = Line {
                    what,
                    model: &current.order.name,
                    id: format!("{count} rows"),
                    field: &column.name,
                    length: None,
                    note: Cow::Borrowed(note),
                };
                self.about.line(&mut self.book, &line)?;
            }
        }
        Ok(())
    }

    /// A line for what a sheet lacks as a whole.
    fn missing(
        &mut self,
        what: &str,
        order: &SheetOrder<'_>,
        id: String,
        field: &str,
        note: String,
    ) -> Result<(), Failure> {
        self.report.missing += 1;
        let line = Line {
            what: &format!("{what} left out"),
            model: &order.name,
            id,
            field,
            length: None,
            note: Cow::Owned(note),
        };
        self.about.line(&mut self.book, &line)
    }
}

/// The model that a column's ids are of.
fn referred(column: &Column) -> Option<&str> {
    let many2one = matches!(column.odoo_type.as_deref(), None | Some("many2one"));
    column.relation.as_deref().filter(|_| many2one)
}

/// The order for a table that was not asked for, and stands in for fields that do not fit.
pub(crate) fn extra<'a>(tables: &'a [TableEntry], table: &str) -> Option<SheetOrder<'a>> {
    let table = tables.iter().find(|found| found.table == table)?;
    Some(SheetOrder {
        name: plain_name(&table.table).to_owned(),
        table,
    })
}
