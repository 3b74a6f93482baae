//! The decisions of a layout: types, companions, names, metadata, SQL.

mod support;

use std::collections::HashMap;

use arkstream_columnar::{Encoding, PgColumn, TableLayout};
use arrow_schema::DataType;
use support::{array_column, column, numeric_typmod};

#[test]
fn a_companions_name_avoids_the_tables_columns() {
    let layout = TableLayout::new(vec![
        column("d", 1082, "date"),
        column("d__text", 25, "text"),
        column("d__text_", 1082, "date"),
    ]);
    let schema = layout.arrow_schema(HashMap::new());
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(
        names,
        ["d", "d__text__", "d__text", "d__text_", "d__text___text"]
    );
    assert_eq!(layout.columns()[0].companion.as_deref(), Some("d__text__"));
    let metadata = |index: usize| schema.field(index).metadata().clone();
    assert_eq!(metadata(0)["arkstream.companion"], "d__text__");
    assert_eq!(metadata(1)["arkstream.companion_of"], "d");
    assert_eq!(metadata(1)["arkstream.encoding"], "text");
}

#[test]
fn only_a_numeric_that_fits_becomes_a_decimal() {
    let of = |precision, scale| {
        let numeric = PgColumn {
            typmod: numeric_typmod(precision, scale),
            ..column("n", 1700, "numeric")
        };
        let layout = TableLayout::new(vec![numeric]);
        let schema = layout.arrow_schema(HashMap::new());
        (
            schema.field(0).data_type().clone(),
            layout.columns()[0].encoding,
        )
    };
    let text = (DataType::Utf8, Encoding::Text);
    assert_eq!(of(10, 2), (DataType::Decimal128(10, 2), Encoding::Native));
    assert_eq!(of(38, 38), (DataType::Decimal128(38, 38), Encoding::Native));
    assert_eq!(of(39, 2), text);
    assert_eq!(of(1000, 2), text);
    assert_eq!(of(2, -3), text);
    assert_eq!(of(3, 5), text);
    let unconstrained = TableLayout::new(vec![column("n", 1700, "numeric")]);
    assert_eq!(unconstrained.columns()[0].encoding, Encoding::Text);
    assert_eq!(unconstrained.select_list(), "\"n\"");
}

#[test]
fn names_are_quoted_and_text_is_the_output_functions() {
    let layout = TableLayout::new(vec![
        column("we\"ird", 23, "integer"),
        column("ip", 869, "inet"),
        array_column("n", 1231, 1700, "numeric[]"),
    ]);
    assert_eq!(
        layout.select_list(),
        "\"we\"\"ird\", \
         CASE WHEN pg_catalog.num_nulls(\"ip\") = 0 THEN pg_catalog.format('%s', \"ip\") END, \
         CASE WHEN pg_catalog.num_nulls(\"n\") = 0 THEN pg_catalog.format('%s', \"n\") END"
    );
}

#[test]
fn a_domain_travels_as_text_even_over_a_native_type() {
    let domain = PgColumn {
        type_kind: 'd',
        ..column("positive", 70_000, "positive")
    };
    let of_domain = PgColumn {
        element_kind: Some('d'),
        ..array_column("positives", 70_001, 70_000, "positive[]")
    };
    for layout in TableLayout::new(vec![domain, of_domain]).columns() {
        assert_eq!(layout.encoding, Encoding::Text, "{}", layout.name);
        assert_eq!(layout.companion, None);
    }
}

#[test]
fn a_dictionary_is_for_enums_and_selections_only() {
    let enumeration = PgColumn {
        type_kind: 'e',
        ..column("mood", 70_000, "mood")
    };
    let selection = PgColumn {
        odoo_type: Some("selection".to_owned()),
        ..column("state", 1043, "character varying")
    };
    let integer = PgColumn {
        odoo_type: Some("selection".to_owned()),
        ..column("level", 23, "integer")
    };
    let layout = TableLayout::new(vec![
        enumeration,
        selection,
        integer,
        column("body", 25, "text"),
    ]);
    let flags: Vec<bool> = layout.columns().iter().map(|c| c.dictionary).collect();
    assert_eq!(flags, [true, true, false, false]);
}

#[test]
fn fields_carry_what_odoo_and_the_catalog_know() {
    let layout = TableLayout::new(vec![PgColumn {
        not_null: true,
        odoo_type: Some("many2one".to_owned()),
        relation: Some("res.users".to_owned()),
        ..column("user_id", 23, "integer")
    }]);
    let file = HashMap::from([("arkstream.model".to_owned(), "x.y".to_owned())]);
    let schema = layout.arrow_schema(file);
    assert_eq!(schema.metadata()["arkstream.model"], "x.y");
    let expected = [
        ("arkstream.pg_type", "integer"),
        ("arkstream.encoding", "native"),
        ("arkstream.odoo_type", "many2one"),
        ("arkstream.relation", "res.users"),
        ("arkstream.not_null", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(*schema.field(0).metadata(), HashMap::from(expected));
}
