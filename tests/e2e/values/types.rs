//! How values stand in Parquet: types, companions, metadata.

use serde_json::{Value, json};

use super::type_matrix_columns;
use crate::support::{Bundle, Profile};

#[test]
fn the_type_matrix_travels_with_every_column_in_the_tables_order() {
    let bundle = Bundle::shared(Profile::SamAi);
    let entry = bundle.table("public.x_type_matrix");
    let columns: Vec<&str> = entry["columns"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(columns, type_matrix_columns());
}

/// What a column of the type matrix is in Parquet: Arrow type, logical type, encoding.
const PARQUET_TYPES: &[(&str, &str, &str, &str)] = &[
    ("c_bool", "bool", "None", "native"),
    (
        "c_int2",
        "int16",
        "Int(bitWidth=16, isSigned=true)",
        "native",
    ),
    ("c_int4", "int32", "None", "native"),
    ("c_int8", "int64", "None", "native"),
    ("c_float4", "float", "None", "native"),
    ("c_float8", "double", "None", "native"),
    ("c_numeric", "string", "String", "text"),
    (
        "c_numeric_10_2",
        "decimal128(10, 2)",
        "Decimal(precision=10, scale=2)",
        "native",
    ),
    (
        "c_numeric_38_0",
        "decimal128(38, 0)",
        "Decimal(precision=38, scale=0)",
        "native",
    ),
    (
        "c_numeric_38_38",
        "decimal128(38, 38)",
        "Decimal(precision=38, scale=38)",
        "native",
    ),
    ("c_numeric_50_20", "string", "String", "text"),
    ("c_numeric_neg_scale", "string", "String", "text"),
    ("c_numeric_small", "string", "String", "text"),
    ("c_text", "string", "String", "native"),
    ("c_varchar_20", "string", "String", "native"),
    ("c_json", "extension<arrow.json>", "JSON", "native"),
    ("c_jsonb", "extension<arrow.json>", "JSON", "native"),
    ("c_bytea", "binary", "None", "native"),
    ("c_date", "date32[day]", "Date", "native"),
    (
        "c_timestamp",
        "timestamp[us]",
        "Timestamp(isAdjustedToUTC=false",
        "native",
    ),
    (
        "c_timestamptz",
        "timestamp[us, tz=UTC]",
        "Timestamp(isAdjustedToUTC=true",
        "native",
    ),
    (
        "c_time",
        "time64[us]",
        "Time(isAdjustedToUTC=false, timeUnit=microseconds)",
        "native",
    ),
    ("c_uuid", "fixed_size_binary[16]", "None", "native"),
    ("a_int4", "list<element: int32>", "None", "native"),
    ("a_text", "list<element: string>", "String", "native"),
    (
        "a_numeric_10_2",
        "list<element: decimal128(10, 2)>",
        "Decimal(precision=10, scale=2)",
        "native",
    ),
    ("a_bytea", "list<element: binary>", "None", "native"),
    ("c_enum", "string", "String", "text"),
    ("c_domain_int", "string", "String", "text"),
    ("c_composite", "string", "String", "text"),
    ("c_int4range", "string", "String", "text"),
    ("c_inet", "string", "String", "text"),
    ("c_interval", "string", "String", "text"),
    ("c_timetz", "string", "String", "text"),
    ("c_xid", "string", "String", "text"),
    ("a_numeric", "string", "String", "text"),
    ("a_enum", "string", "String", "text"),
    ("v_int2vector", "string", "String", "text"),
];

#[test]
fn types_stand_in_parquet_as_documented() {
    let schemas = Bundle::shared(Profile::SamAi).schemas("odoo_data/models/sam.type.matrix");
    let fields = schemas[0]["fields"].as_array().expect("a list");
    for (column, arrow, logical, encoding) in PARQUET_TYPES {
        let field = fields
            .iter()
            .find(|field| field["name"] == *column)
            .expect(column);
        assert_eq!(field["type"], *arrow, "{column}");
        assert!(
            field["logical"]
                .as_str()
                .expect("a text")
                .starts_with(logical),
            "{field}"
        );
        assert_eq!(
            field["metadata"]["arkstream.encoding"], *encoding,
            "{column}"
        );
    }
}

/// A value that the neat type cannot carry stands as text in the companion, and nowhere else.
#[test]
fn values_that_the_neat_type_cannot_carry_stand_in_the_companion() {
    let rows = Bundle::shared(Profile::SamAi).rows("odoo_data/models/sam.type.matrix");
    for (column, text) in [
        ("c_numeric_10_2", "NaN"),
        ("c_numeric_38_0", "NaN"),
        ("c_time", "24:00:00"),
        ("c_time_0", "24:00:00"),
        ("c_date", "infinity"),
        ("c_date", "-infinity"),
        ("c_timestamp", "infinity"),
        ("c_timestamptz", "-infinity"),
        ("a_int4", "[0:2]={1,2,3}"),
        ("a_int4", "{{1,2},{3,4}}"),
        ("a_int4", "[2:3][0:1]={{1,2},{3,4}}"),
        ("a_text", "[0:1]={x,y}"),
        ("a_bool", "{{t,f},{f,t}}"),
        ("a_numeric_10_2", "{NaN,2.00}"),
        ("a_time", "{24:00:00,00:00:00}"),
        ("a_date", "{2024-02-29,infinity,\"0044-03-15 BC\"}"),
    ] {
        let companion = format!("{column}__text");
        let holding: Vec<_> = rows.iter().filter(|row| row[&companion] == text).collect();
        assert_eq!(holding.len(), 1, "{column} {text}");
        assert_eq!(holding[0][column], Value::Null, "{column} {text}");
    }
    // And one that it can carry stands in the neat column alone.
    for (column, value) in [
        ("c_numeric_10_2", json!("99999999.99")),
        ("c_time", json!(86_399_999_999_u64)),
        ("a_int4", json!([1, null, 3])),
        ("a_int4", json!([null])),
        (
            "a_text",
            json!(["", null, "NULL", "a,b", "q\"uote", "back\\\\slash", " sp "]),
        ),
    ] {
        let holding: Vec<_> = rows.iter().filter(|row| row[column] == value).collect();
        assert_eq!(holding.len(), 1, "{column} {value}");
        assert_eq!(
            holding[0][&format!("{column}__text")],
            Value::Null,
            "{column} {value}"
        );
    }
}

/// Trailing zeros, signs of zero and the last digit of a float are part of the value.
#[test]
fn numbers_keep_their_last_digit() {
    let bundle = Bundle::shared(Profile::SamAi);
    let conversations = bundle.rows("odoo_data/models/ai.conversation");
    let cost = |id: u64| {
        conversations
            .iter()
            .find(|row| row["id"] == id)
            .expect("a row")["total_cost"]
            .clone()
    };
    let expected = [
        "1.500",
        "NaN",
        "0.000000",
        "123456789012345678901234567890.10",
        "-0.10",
    ];
    assert_eq!(
        [cost(1), cost(2), cost(3), cost(4), cost(5)].map(|v| v.as_str().map(str::to_owned)),
        expected.map(|t| Some(t.to_owned()))
    );
    let messages = bundle.rows("odoo_data/models/ai.message");
    let cost =
        |id: u64| messages.iter().find(|row| row["id"] == id).expect("a row")["cost"].clone();
    assert_eq!(cost(74), json!(0.300_000_000_000_000_04));
    assert_eq!(cost(75), json!(5e-324));
    assert_eq!(
        cost(73).as_f64().map(f64::to_bits),
        Some((-0.0_f64).to_bits())
    );
    assert_eq!(
        [cost(70), cost(71), cost(72)],
        [json!("nan"), json!("inf"), json!("-inf")]
    );
    let long = messages.iter().find(|row| row["id"] == 7).expect("a row");
    assert!(long["content"].as_str().expect("a text").len() >= 1_600_000);
}

#[test]
fn every_parquet_file_says_what_it_holds() {
    let bundle = Bundle::shared(Profile::SamAi);
    let manifest = bundle.json("manifest.json");
    let tables = manifest["tables"].as_array().expect("a list");
    let schemas = bundle.schemas("odoo_data");
    assert!(schemas.len() >= tables.len());
    let snapshot = &manifest["generations"][0]["snapshots"][0]["snapshot"];
    for schema in &schemas {
        let member = format!("odoo_data/{}", schema["member"].as_str().expect("a name"));
        let holds = |table: &&Value| {
            let parts = table["parts"].as_array().expect("a list");
            parts.iter().any(|part| part["member"] == member)
        };
        let table = tables
            .iter()
            .find(holds)
            .unwrap_or_else(|| panic!("{member} is no part"));
        let metadata = &schema["metadata"];
        assert_eq!(metadata["arkstream.table"], table["table"], "{member}");
        assert_eq!(metadata["arkstream.model"], table["model"], "{member}");
        assert_eq!(&metadata["arkstream.snapshot"], snapshot, "{member}");
        let number = member
            .rsplit(['-', '.'])
            .nth(1)
            .expect("part-NNNNN.parquet");
        let number: u32 = number.parse().expect("a number");
        assert_eq!(metadata["arkstream.part"], number.to_string(), "{member}");
        if schema["rows"] != 0 {
            // Pages have headers, which the limit of 4 KiB does not count.
            let is_small = schema["bytes"].as_u64() < Some(16 << 10);
            let expected = match schema["codecs"] == json!(["UNCOMPRESSED"]) && is_small {
                true => "UNCOMPRESSED",
                false => "ZSTD",
            };
            assert_eq!(schema["codecs"], json!([expected]), "{member}");
        }
        check_fields(&member, schema, table);
    }
}

/// Fields and columns of the manifest say the same, companions aside.
fn check_fields(member: &str, schema: &Value, table: &Value) {
    let fields = schema["fields"].as_array().expect("a list");
    let is_companion = |field: &Value| !field["metadata"]["arkstream.companion_of"].is_null();
    let neat: Vec<&Value> = fields.iter().filter(|field| !is_companion(field)).collect();
    let columns = table["columns"].as_array().expect("a list");
    assert_eq!(neat.len(), columns.len(), "{member}");
    for (field, column) in neat.iter().zip(columns) {
        let metadata = &field["metadata"];
        assert_eq!(field["name"], column["name"], "{member}");
        assert_eq!(
            metadata["arkstream.pg_type"], column["pg_type"],
            "{member} {field}"
        );
        assert_eq!(
            metadata["arkstream.encoding"], column["encoding"],
            "{member} {field}"
        );
        assert_eq!(
            metadata["arkstream.odoo_type"], column["odoo_type"],
            "{member} {field}"
        );
        assert_eq!(
            metadata["arkstream.relation"], column["relation"],
            "{member} {field}"
        );
        assert_eq!(
            metadata["arkstream.companion"], column["companion"],
            "{member} {field}"
        );
        if let Some(companion) = column["companion"].as_str() {
            let found = fields
                .iter()
                .find(|field| field["name"] == companion)
                .expect(companion);
            assert_eq!(
                found["metadata"]["arkstream.companion_of"], column["name"],
                "{member}"
            );
            assert_eq!(found["type"], "string", "{member}");
        }
    }
}

#[test]
fn fields_carry_odoos_types_and_relations() {
    let schemas = Bundle::shared(Profile::SamAi).schemas("odoo_data/models/ai.message");
    let field = |name: &str| {
        let fields = schemas[0]["fields"].as_array().expect("a list");
        fields
            .iter()
            .find(|field| field["name"] == name)
            .expect(name)["metadata"]
            .clone()
    };
    let reference = field("conversation_id");
    assert_eq!(reference["arkstream.odoo_type"], "many2one");
    assert_eq!(reference["arkstream.relation"], "ai.conversation");
    assert_eq!(reference["arkstream.pg_type"], "integer");
    assert_eq!(field("content")["arkstream.odoo_type"], "text");
    assert_eq!(field("metadata")["arkstream.pg_type"], "jsonb");
}
