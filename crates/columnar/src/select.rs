//! The SQL expressions that bring a column over the wire.

use crate::pgtype::{Kind, Scalar};

/// The expressions of one column, in wire order.
pub(crate) fn expressions(name: &str, kind: Kind) -> Vec<String> {
    let column = quote_identifier(name);
    match kind {
        Kind::Scalar(_) | Kind::NumericText => vec![column],
        Kind::List { element, .. } => {
            let text = format!(
                "CASE WHEN {} THEN pg_catalog.format('%s', {column}) END",
                needs_text(&column, element)
            );
            vec![column, text]
        }
        // Neither `::text` nor `IS NULL` would do: the cast loses the netmask of an inet and the
        // padding of a char(n), and a composite whose fields are all NULL "is null" without
        // being NULL. `num_nulls` looks at the value itself.
        Kind::Output => vec![format!(
            "CASE WHEN pg_catalog.num_nulls({column}) = 0 THEN pg_catalog.format('%s', {column}) END"
        )],
    }
}

/// Puts a name into double quotes, as SQL wants it.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// True of every array that an Arrow list cannot carry; it may be true of others as well, for
/// the decoder decides, and a text that it does not need is dropped.
///
/// Of an empty array both bounds and dimensions are NULL, which is not true.
fn needs_text(column: &str, element: Scalar) -> String {
    let shape =
        format!("pg_catalog.array_ndims({column}) > 1 OR pg_catalog.array_lower({column}, 1) <> 1");
    let comparisons: &[&str] = match element {
        Scalar::Decimal { .. } => &["'NaN'::pg_catalog.numeric ="],
        Scalar::Date => &[
            "'infinity'::pg_catalog.date =",
            "'-infinity'::pg_catalog.date =",
        ],
        Scalar::Timestamp => &[
            "'294247-01-01'::pg_catalog.timestamp <=",
            "'-infinity'::pg_catalog.timestamp =",
        ],
        Scalar::TimestampTz => &[
            "'294247-01-01 00:00:00+00'::pg_catalog.timestamptz <=",
            "'-infinity'::pg_catalog.timestamptz =",
        ],
        Scalar::Time => &["'24:00:00'::pg_catalog.time ="],
        _ => &[],
    };
    comparisons.iter().fold(shape, |condition, comparison| {
        format!("{condition} OR {comparison} ANY ({column})")
    })
}
