//! The columns of a table as people know them: a field and its companion are one.

use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;

use arkstream_columnar::{
    layout::{KEY_COMPANION, KEY_COMPANION_OF, KEY_ODOO_TYPE, KEY_PG_TYPE, KEY_RELATION},
    write_text,
};
use arkstream_pipeline::{Failure, FailureKind};

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type as `format_type()` prints it.
    pub pg_type: String,
    /// Odoo's type of the field, where it is one.
    pub odoo_type: Option<String>,
    /// The model that it refers to.
    pub relation: Option<String>,
    /// The field with the typed values.
    pub index: usize,
    /// The field with the texts of values that the typed one cannot carry.
    pub companion: Option<usize>,
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// SQL's NULL.
    Null,
    /// The value at that row of the array.
    Typed(&'a dyn Array, usize),
    /// The text of a value that the typed field cannot carry.
    Text(&'a str),
}

/// The columns of a schema, in their order. Companions that have lost their column are columns.
#[must_use]
pub fn columns(schema: &Schema) -> Vec<Column> {
    let fields = schema.fields();
    let names = |name: &str| fields.iter().any(|field| field.name() == name);
    fields
        .iter()
        .enumerate()
        .filter(|(_, field)| {
            let of = field.metadata().get(KEY_COMPANION_OF);
            !of.is_some_and(|column| names(column))
        })
        .map(|(index, field)| {
            let of = |key: &str| field.metadata().get(key).cloned();
            Column {
                name: field.name().clone(),
                pg_type: of(KEY_PG_TYPE).unwrap_or_default(),
                odoo_type: of(KEY_ODOO_TYPE),
                relation: of(KEY_RELATION),
                index,
                companion: of(KEY_COMPANION).and_then(|name| schema.index_of(&name).ok()),
            }
        })
        .collect()
}

impl Column {
    /// The names of its fields, for [`crate::Rows::only`].
    pub fn fields<'a>(&self, schema: &'a Schema) -> impl Iterator<Item = &'a str> {
        let indexes = [Some(self.index), self.companion];
        let fields = indexes.into_iter().flatten();
        fields.filter_map(|index| {
            schema
                .fields()
                .get(index)
                .map(|field| field.name().as_str())
        })
    }

    /// Its value in a row.
    #[must_use]
    pub fn value<'a>(&self, batch: &'a RecordBatch, row: usize) -> Value<'a> {
        let array = |index: usize| {
            let array = batch.columns().get(index);
            array.filter(|array| row < array.len() && array.is_valid(row))
        };
        if let Some(texts) = self.companion.and_then(array)
            && let Some(texts) = texts.as_any().downcast_ref::<arrow_array::StringArray>()
        {
            return Value::Text(texts.value(row));
        }
        match array(self.index) {
            Some(array) => Value::Typed(array.as_ref(), row),
            None => Value::Null,
        }
    }

    /// Appends PostgreSQL's text of its value in a row. Returns whether there is one: NULL has none.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] when the column has a type that no part can have.
    pub fn text(&self, batch: &RecordBatch, row: usize, out: &mut String) -> Result<bool, Failure> {
        match self.value(batch, row) {
            Value::Null => Ok(false),
            Value::Text(text) => {
                out.push_str(text);
                Ok(true)
            }
            Value::Typed(array, row) if write_text(array, row, out) => Ok(true),
            Value::Typed(array, _) => Err(self.unknown(array)),
        }
    }

    /// The failure of a value that cannot be printed.
    pub(crate) fn unknown(&self, array: &dyn Array) -> Failure {
        Failure::new(
            FailureKind::Damaged,
            format!("print the column {}", self.name),
            format!(
                "no value of {} has the type {}",
                self.pg_type,
                array.data_type()
            ),
        )
    }
}
