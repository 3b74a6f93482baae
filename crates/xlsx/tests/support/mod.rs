//! Bundles in memory, of tables that are given column by column.

use std::{collections::HashMap, sync::Arc};

use arkstream_columnar::{EncodeOptions, PartEncoder, layout};
use arkstream_conformance::{MemoryBundle, table_of};
use arkstream_format::{ColumnEncoding, ColumnEntry, TableRole};
use arkstream_pipeline::BundleReader;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};

/// A column.
pub(crate) struct Col {
    name: String,
    pg_type: &'static str,
    relation: Option<String>,
    array: ArrayRef,
}

impl Col {
    fn new(name: &str, pg_type: &'static str, array: ArrayRef) -> Self {
        Self {
            name: name.to_owned(),
            pg_type,
            relation: None,
            array,
        }
    }

    /// `id` from 1 on.
    pub(crate) fn ids(count: usize) -> Self {
        Self::new(
            "id",
            "integer",
            Arc::new(Int32Array::from_iter_values(1..=count as i32)),
        )
    }

    pub(crate) fn texts(name: &str, values: &[Option<&str>]) -> Self {
        Self::new(name, "text", Arc::new(StringArray::from(values.to_vec())))
    }

    pub(crate) fn longs(name: &str, values: &[Option<i64>]) -> Self {
        Self::new(name, "bigint", Arc::new(Int64Array::from(values.to_vec())))
    }

    pub(crate) fn floats(name: &str, values: &[f64]) -> Self {
        Self::new(
            name,
            "double precision",
            Arc::new(Float64Array::from(values.to_vec())),
        )
    }

    pub(crate) fn bools(name: &str, values: &[bool]) -> Self {
        Self::new(
            name,
            "boolean",
            Arc::new(BooleanArray::from(values.to_vec())),
        )
    }

    pub(crate) fn dates(name: &str, values: &[Option<i32>]) -> Self {
        Self::new(name, "date", Arc::new(Date32Array::from(values.to_vec())))
    }

    pub(crate) fn moments(name: &str, values: &[Option<i64>]) -> Self {
        let array = TimestampMicrosecondArray::from(values.to_vec());
        Self::new(name, "timestamp without time zone", Arc::new(array))
    }

    pub(crate) fn binaries(name: &str, values: &[Option<&[u8]>]) -> Self {
        Self::new(
            name,
            "bytea",
            Arc::new(BinaryArray::from_opt_vec(values.to_vec())),
        )
    }

    pub(crate) fn many2one(name: &str, relation: &str, values: &[Option<i32>]) -> Self {
        Self {
            relation: Some(relation.to_owned()),
            ..Self::new(name, "integer", Arc::new(Int32Array::from(values.to_vec())))
        }
    }

    fn field(&self) -> Field {
        let mut metadata = HashMap::from([
            (layout::KEY_PG_TYPE.to_owned(), self.pg_type.to_owned()),
            (layout::KEY_ENCODING.to_owned(), "native".to_owned()),
        ]);
        if let Some(relation) = &self.relation {
            metadata.insert(layout::KEY_RELATION.to_owned(), relation.clone());
            metadata.insert(layout::KEY_ODOO_TYPE.to_owned(), "many2one".to_owned());
        }
        Field::new(&self.name, self.array.data_type().clone(), true).with_metadata(metadata)
    }

    fn entry(&self) -> ColumnEntry {
        ColumnEntry {
            name: self.name.clone(),
            pg_type: self.pg_type.to_owned(),
            not_null: false,
            encoding: ColumnEncoding::Native,
            companion: None,
            odoo_type: self.relation.as_ref().map(|_| "many2one".to_owned()),
            relation: self.relation.clone(),
            generated: false,
        }
    }
}

/// A bundle of such tables.
pub(crate) struct World(MemoryBundle);

impl World {
    /// Tables by model; without a model it is `note_tag_rel`, a relation.
    pub(crate) fn new(tables: &[(&str, Vec<Col>)]) -> Self {
        let mut bundle = MemoryBundle::default();
        for (model, columns) in tables {
            let fields: Vec<Field> = columns.iter().map(Col::field).collect();
            let schema = Arc::new(Schema::new(fields));
            let arrays = columns.iter().map(|column| column.array.clone()).collect();
            let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
            let mut encoder = PartEncoder::new(schema, &EncodeOptions::default()).unwrap();
            encoder.write(&batch).unwrap();
            let mut table = table_of(model);
            if model.is_empty() {
                table.table = "public.note_tag_rel".to_owned();
                table.role = TableRole::Relation;
                table.model = None;
                table.primary_key.clear();
            }
            table.columns = columns.iter().map(Col::entry).collect();
            let part = (encoder.finish().unwrap(), batch.num_rows() as u64);
            bundle.add_table(table, [part]);
        }
        Self(bundle)
    }

    pub(crate) fn bundle(&self) -> Arc<dyn BundleReader> {
        Arc::new(self.0.clone())
    }

    /// With a bit flipped in the first chunk of a member.
    pub(crate) fn damaged(&self, member: &str, at: usize) -> Arc<dyn BundleReader> {
        let mut bundle = self.0.clone();
        let chunk = &mut bundle.chunks.get_mut(member).unwrap()[0];
        let mut bytes = chunk.take().unwrap().to_vec();
        bytes[at] ^= 1;
        *chunk = Some(bytes.into());
        Arc::new(bundle)
    }
}
