//! Which PostgreSQL type travels how.
//!
//! Built-in types have OIDs that never change; everything that is not in the table below —
//! enum, domain, range, composite, extension types, the rarer built-in ones — travels as the
//! text of its output function.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};

use crate::layout::PgColumn;
use crate::numeric;

/// The longest field PostgreSQL can send (its allocation limit, one byte below 1 GiB).
pub(crate) const MAX_FIELD: u32 = 0x3fff_ffff;

/// Name of a list's element, as the Parquet specification has it.
pub(crate) const ELEMENT: &str = "element";

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const CHAR: u32 = 18;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT2VECTOR: u32 = 22;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const OIDVECTOR: u32 = 30;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;

/// How a column's values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The type's own wire format into the matching Arrow type.
    Scalar(Scalar),
    /// A numeric without a usable precision and scale: wire format in, exact text out.
    NumericText,
    /// A one-dimensional array of a native scalar into an Arrow list.
    List {
        /// The element's type.
        element: Scalar,
        /// The element's OID, which every array repeats on the wire.
        oid: u32,
    },
    /// The output function's text, made by the server.
    Output,
}

/// A scalar with an Arrow type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Decimal { precision: u8, scale: u8 },
    Text,
    Char,
    Json,
    Jsonb,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    Uuid,
}

impl Kind {
    /// Decides by the catalog's description of the column.
    pub(crate) fn of(column: &PgColumn) -> Kind {
        if column.type_kind != 'b' || matches!(column.type_oid, INT2VECTOR | OIDVECTOR) {
            return Kind::Output;
        }
        if let Some(oid) = column.element_oid {
            let base = column.element_kind.is_none_or(|kind| kind == 'b');
            return match Scalar::of(oid, column.typmod) {
                Some(element) if base => Kind::List { element, oid },
                _ => Kind::Output,
            };
        }
        match Scalar::of(column.type_oid, column.typmod) {
            Some(scalar) => Kind::Scalar(scalar),
            None if column.type_oid == NUMERIC => Kind::NumericText,
            None => Kind::Output,
        }
    }

    /// The Arrow type of the column's neat field.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Kind::Scalar(scalar) => scalar.data_type(),
            Kind::List { element, .. } => DataType::List(element.element_field()),
            Kind::NumericText | Kind::Output => DataType::Utf8,
        }
    }

    /// Whether values exist that the neat field cannot carry.
    pub(crate) fn has_companion(self) -> bool {
        match self {
            Kind::Scalar(scalar) => scalar.has_exceptions(),
            // Bounds and dimensions belong to the value, not to an array column's type.
            Kind::List { .. } => true,
            Kind::NumericText | Kind::Output => false,
        }
    }

    /// Possible lengths of a non-null field on the wire.
    pub(crate) fn wire_length(self) -> RangeInclusive<u32> {
        match self {
            Kind::Scalar(scalar) => scalar.wire_length(),
            Kind::NumericText => numeric::MIN_BYTES..=numeric::MAX_BYTES,
            Kind::List { .. } => 12..=MAX_FIELD,
            Kind::Output => 0..=MAX_FIELD,
        }
    }
}

impl Scalar {
    fn of(oid: u32, typmod: i32) -> Option<Scalar> {
        Some(match oid {
            BOOL => Scalar::Bool,
            INT2 => Scalar::Int2,
            INT4 => Scalar::Int4,
            INT8 => Scalar::Int8,
            FLOAT4 => Scalar::Float4,
            FLOAT8 => Scalar::Float8,
            NUMERIC => decimal(typmod)?,
            TEXT | VARCHAR | BPCHAR | NAME => Scalar::Text,
            CHAR => Scalar::Char,
            JSON => Scalar::Json,
            JSONB => Scalar::Jsonb,
            BYTEA => Scalar::Bytea,
            DATE => Scalar::Date,
            TIMESTAMP => Scalar::Timestamp,
            TIMESTAMPTZ => Scalar::TimestampTz,
            TIME => Scalar::Time,
            UUID => Scalar::Uuid,
            _ => return None,
        })
    }

    /// The element of a list whose type is known: the wire has its OID, and no precision.
    pub(crate) fn of_element(oid: u32, data_type: &DataType) -> Option<Scalar> {
        let scalar = match data_type {
            DataType::Decimal128(precision, scale) if oid == NUMERIC => Scalar::Decimal {
                precision: *precision,
                scale: u8::try_from(*scale).ok()?,
            },
            _ => Scalar::of(oid, -1)?,
        };
        (scalar.data_type() == *data_type).then_some(scalar)
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Scalar::Bool => DataType::Boolean,
            Scalar::Int2 => DataType::Int16,
            Scalar::Int4 => DataType::Int32,
            Scalar::Int8 => DataType::Int64,
            Scalar::Float4 => DataType::Float32,
            Scalar::Float8 => DataType::Float64,
            // At most 38, so the cast keeps the value.
            Scalar::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Scalar::Text | Scalar::Char | Scalar::Json | Scalar::Jsonb => DataType::Utf8,
            Scalar::Bytea => DataType::Binary,
            Scalar::Date => DataType::Date32,
            Scalar::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Scalar::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Scalar::Time => DataType::Time64(TimeUnit::Microsecond),
            Scalar::Uuid => DataType::FixedSizeBinary(16),
        }
    }

    /// The field of a list's elements; they are nullable, as PostgreSQL's are.
    pub(crate) fn element_field(self) -> FieldRef {
        let field = Field::new(ELEMENT, self.data_type(), true);
        Arc::new(if self.is_json() {
            mark_json(field)
        } else {
            field
        })
    }

    pub(crate) fn is_json(self) -> bool {
        matches!(self, Scalar::Json | Scalar::Jsonb)
    }

    /// Whether values exist that the Arrow type cannot carry.
    pub(crate) fn has_exceptions(self) -> bool {
        matches!(
            self,
            Scalar::Decimal { .. }
                | Scalar::Date
                | Scalar::Timestamp
                | Scalar::TimestampTz
                | Scalar::Time
        )
    }

    pub(crate) fn wire_length(self) -> RangeInclusive<u32> {
        match self {
            Scalar::Bool | Scalar::Char => 1..=1,
            Scalar::Int2 => 2..=2,
            Scalar::Int4 | Scalar::Float4 | Scalar::Date => 4..=4,
            Scalar::Int8
            | Scalar::Float8
            | Scalar::Timestamp
            | Scalar::TimestampTz
            | Scalar::Time => 8..=8,
            Scalar::Decimal { .. } => numeric::MIN_BYTES..=numeric::MAX_BYTES,
            Scalar::Uuid => 16..=16,
            Scalar::Jsonb => 1..=MAX_FIELD,
            Scalar::Text | Scalar::Json | Scalar::Bytea => 0..=MAX_FIELD,
        }
    }

    /// Bytes a row takes in the Arrow array, values of variable length aside.
    pub(crate) fn row_bytes(self) -> usize {
        match self {
            Scalar::Bool => 1,
            Scalar::Int2 => 2,
            Scalar::Int4 | Scalar::Float4 | Scalar::Date => 4,
            Scalar::Int8
            | Scalar::Float8
            | Scalar::Timestamp
            | Scalar::TimestampTz
            | Scalar::Time => 8,
            Scalar::Decimal { .. } | Scalar::Uuid => 16,
            // The offset.
            Scalar::Text | Scalar::Char | Scalar::Json | Scalar::Jsonb | Scalar::Bytea => 4,
        }
    }
}

/// Gives a text field Arrow's JSON extension type, which Parquet writes as its JSON type.
pub(crate) fn mark_json(field: Field) -> Field {
    field.with_extension_type(arrow_schema::extension::Json::default())
}

/// The decimal of a numeric's typmod, when one carries its values: 0 ≤ scale ≤ precision ≤ 38.
///
/// The typmod holds the precision in its upper half and the scale, signed since PostgreSQL 15,
/// in its lowest eleven bits, all of it plus four; −1 stands for an unconstrained numeric.
fn decimal(typmod: i32) -> Option<Scalar> {
    let typmod = typmod.checked_sub(4).filter(|typmod| *typmod >= 0)?;
    let precision = u8::try_from((typmod >> 16) & 0xffff).ok()?;
    let scale = u8::try_from(((typmod & 0x7ff) ^ 0x400) - 0x400).ok()?;
    (scale <= precision && (1..=38).contains(&precision))
        .then_some(Scalar::Decimal { precision, scale })
}
