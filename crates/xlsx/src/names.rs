//! What many2one values are called: the names of the rows that they refer to, where the bundle has them.
//!
//! Peak memory: the budget. Names of a table that do not fit beside the others of the sheet are not kept;
//! its many2one values are bare ids then, and the "About" sheet says so.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray as _,
    types::{Int16Type, Int32Type, Int64Type},
};
use arrow_schema::DataType;

use arkstream_format::{ColumnEntry, TableEntry};
use arkstream_pipeline::{BundleReader, Failure};
use arkstream_query::{Rows, lost_parts};

use crate::cell::start;

/// Columns that hold a row's name, the best one first.
const NAME_COLUMNS: &[&str] = &[
    "name",
    "x_name",
    "display_name",
    "complete_name",
    "login",
    "email",
    "code",
];

/// UTF-16 units of a name that are shown.
const SHOWN: usize = 200;

/// Text is kept in blocks of this size, so that nothing large moves when it grows.
const BLOCK: usize = 1 << 18;

/// The names of the tables that the sheet at hand refers to.
pub(crate) struct Names {
    bundle: Arc<dyn BundleReader>,
    budget: usize,
    tables: BTreeMap<String, Known>,
}

enum Known {
    Names(Table),
    /// There are names, and they do not fit.
    TooMany,
}

/// Id, block, and place in the block.
type Entry = (i64, u32, u32, u32);

/// Names by id.
#[derive(Default)]
struct Table {
    /// Sorted in the end.
    entries: Vec<Entry>,
    blocks: Vec<String>,
}

impl Names {
    pub(crate) fn new(bundle: Arc<dyn BundleReader>, budget: usize) -> Self {
        Self {
            bundle,
            budget,
            tables: BTreeMap::new(),
        }
    }

    /// Makes the names of these models ready, smaller tables first, and forgets those of others. Returns
    /// the models whose names do not fit.
    pub(crate) fn prepare(&mut self, models: &[&str]) -> Result<Vec<String>, Failure> {
        self.tables.retain(|model, known| {
            models.contains(&model.as_str()) && !matches!(known, Known::TooMany)
        });
        let bundle = Arc::clone(&self.bundle);
        let mut wanted: Vec<(&TableEntry, &ColumnEntry, &str)> = models
            .iter()
            .filter(|model| !self.tables.contains_key(**model))
            .filter_map(|model| {
                let (table, column) = named_table(bundle.as_ref(), model)?;
                Some((table, column, *model))
            })
            .collect();
        wanted.sort_by_key(|(table, ..)| table.rows);
        let mut too_many = Vec::new();
        for (table, column, model) in wanted {
            let used: usize = self.tables.values().map(Known::bytes).sum();
            let known = match Table::read(&bundle, table, column, self.budget.saturating_sub(used))?
            {
                Some(names) => Known::Names(names),
                None => {
                    too_many.push(model.to_owned());
                    Known::TooMany
                }
            };
            self.tables.insert(model.to_owned(), known);
        }
        Ok(too_many)
    }

    /// The name of a row.
    pub(crate) fn get(&self, model: &str, id: i64) -> Option<&str> {
        match self.tables.get(model)? {
            Known::Names(table) => table.get(id),
            Known::TooMany => None,
        }
    }
}

impl Known {
    fn bytes(&self) -> usize {
        match self {
            Self::Names(table) => table.bytes(),
            Self::TooMany => 0,
        }
    }
}

/// The table of a model and its column with names.
fn named_table<'a>(
    bundle: &'a dyn BundleReader,
    model: &str,
) -> Option<(&'a TableEntry, &'a ColumnEntry)> {
    let tables = bundle.manifest().tables.iter();
    let mut of_it = tables.filter(|table| table.model.as_deref() == Some(model));
    of_it.find_map(|table| {
        let named = |name: &str| table.columns.iter().find(|column| column.name == name);
        named("id")?;
        let texts = NAME_COLUMNS.iter().filter_map(|name| named(name));
        let mut texts = texts.filter(|column| is_text(&column.pg_type));
        Some((table, texts.next()?))
    })
}

fn is_text(pg_type: &str) -> bool {
    matches!(pg_type, "text" | "jsonb") || pg_type.starts_with("character varying")
}

impl Table {
    /// Reads the names; `None` where they take more than `room` bytes.
    fn read(
        bundle: &Arc<dyn BundleReader>,
        table: &TableEntry,
        column: &ColumnEntry,
        room: usize,
    ) -> Result<Option<Self>, Failure> {
        if lost_parts(bundle.as_ref(), table).len() == table.parts.len() {
            return Ok(Some(Self::default()));
        }
        let most = usize::try_from(table.rows).unwrap_or(usize::MAX);
        if most.saturating_mul(size_of::<Entry>()) > room {
            return Ok(None);
        }
        let rows = Rows::open_remaining(Arc::clone(bundle), table)?.only(&["id", &column.name])?;
        let translated = column.pg_type == "jsonb";
        let mut names = Self {
            entries: Vec::with_capacity(most),
            blocks: Vec::new(),
        };
        for batch in rows {
            let batch = batch?;
            let (Some(ids), Some(texts)) = (
                batch.column_by_name("id"),
                batch.column_by_name(&column.name),
            ) else {
                return Ok(Some(Self::default()));
            };
            let Some(texts) = texts.as_string_opt::<i32>() else {
                return Ok(Some(Self::default()));
            };
            for row in (0..batch.num_rows()).filter(|row| texts.is_valid(*row)) {
                let Some(id) = integer(ids, row) else {
                    continue;
                };
                match translated {
                    true => names.push(id, &translation(texts.value(row))),
                    false => names.push(id, texts.value(row)),
                }
            }
            if names.bytes() > room {
                return Ok(None);
            }
        }
        names.entries.sort_unstable();
        Ok(Some(names))
    }

    fn push(&mut self, id: i64, name: &str) {
        let shown = start(name, SHOWN);
        let cut = if shown.len() < name.len() { "…" } else { "" };
        if self
            .blocks
            .last()
            .is_none_or(|block| block.len() + shown.len() + 4 > BLOCK)
        {
            self.blocks.push(String::with_capacity(BLOCK));
        }
        let number = self.blocks.len() - 1;
        if let Some(block) = self.blocks.last_mut() {
            let from = block.len();
            block.push_str(shown);
            block.push_str(cut);
            // Blocks are short and there are not billions of them.
            self.entries
                .push((id, number as u32, from as u32, block.len() as u32));
        }
    }

    fn get(&self, id: i64) -> Option<&str> {
        let at = self.entries.partition_point(|entry| entry.0 < id);
        let (found, block, from, to) = *self.entries.get(at)?;
        let block = self.blocks.get(block as usize)?;
        (found == id).then(|| block.get(from as usize..to as usize))?
    }

    fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK + self.entries.capacity() * size_of::<Entry>()
    }
}

/// A translated field's text: English, or whatever comes first.
fn translation(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let text = match &value {
        serde_json::Value::Object(texts) => texts.get("en_US").or_else(|| texts.values().next()),
        other => Some(other),
    };
    text.and_then(|text| text.as_str())
        .unwrap_or(json)
        .to_owned()
}

/// A whole number of any width.
pub(crate) fn integer(array: &ArrayRef, row: usize) -> Option<i64> {
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row),
        _ => return None,
    })
}
