//! Every value in the bundle is the database's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Bundle, Profile, Stack, python, run, scratch, support_file};

/// Compares a bundle with a database by pyarrow and psql, tables that travel whole as wholes, and
/// lets DuckDB count. Returns what `compare.py` found, whatever that is.
fn compare(bundle: &Bundle, database: &str) -> Value {
    let stack = Stack::shared();
    let psql = stack.server.bin_dir().join("psql");
    let mut command = python();
    command
        .arg(support_file("compare.py"))
        .arg(&bundle.dir)
        .arg("--duckdb");
    let psql = format!("{} -d '{}'", psql.display(), stack.url(database));
    command.args(["--psql", &psql]);
    for table in whole_tables(bundle) {
        command.args(["--whole", &table]);
    }
    let run = run(&mut command);
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    run.json()
}

/// Tables of the manifest that are there with all rows and all columns.
fn whole_tables(bundle: &Bundle) -> BTreeSet<String> {
    tables(bundle)
        .into_iter()
        .filter(|table| {
            table["filter"].is_null() && table["columns_left_out"] == json!([]) && is_stored(table)
        })
        .map(|table| table["table"].as_str().expect("a name").to_owned())
        .collect()
}

/// Rows of a query, such as the states of sequences, are no table of the database.
fn is_stored(table: &Value) -> bool {
    table["table"].as_str().expect("a name").contains('.')
}

fn tables(bundle: &Bundle) -> Vec<Value> {
    bundle.json("manifest.json")["tables"]
        .as_array()
        .expect("a list")
        .clone()
}

/// `SELECT count(*)` of each table: of itself, or of its leaves when it is partitioned.
fn live_counts(tables: &BTreeSet<String>) -> BTreeMap<String, u64> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let counts: Vec<String> = tables
        .iter()
        .map(|table| {
            let (schema, name) = table.split_once('.').expect("qualified");
            let name = format!("{}.{}", quoted(schema), quoted(name));
            format!(
                "SELECT '{table}', CASE WHEN (SELECT relkind FROM pg_class WHERE oid = '{name}'::regclass) = 'p' \
                 THEN (SELECT count(*) FROM {name}) ELSE (SELECT count(*) FROM ONLY {name}) END"
            )
        })
        .collect();
    let answer = Stack::shared().ask(&counts.join(" UNION ALL "));
    answer
        .lines()
        .map(|line| {
            let (table, count) = line.split_once('|').expect("two columns");
            (table.to_owned(), count.parse().expect("a number"))
        })
        .collect()
}

fn holds_the_values_of_the_database(profile: Profile) -> Value {
    let bundle = Bundle::shared(profile);
    let found = compare(bundle, &Stack::shared().odoo);
    assert_eq!(found["difference_count"], 0, "{:#}", found["differences"]);

    let compared: BTreeSet<&str> = found["compared"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let all = tables(bundle);
    let stored: Vec<_> = all.iter().filter(|table| is_stored(table)).collect();
    let names: BTreeSet<&str> = stored
        .iter()
        .filter_map(|table| table["table"].as_str())
        .collect();
    assert_eq!(compared, names, "each table of the manifest is compared");
    let rows: u64 = stored
        .iter()
        .map(|table| table["rows"].as_u64().expect("a number"))
        .sum();
    assert_eq!(found["rows"], rows, "each row of the manifest is compared");

    let whole = whole_tables(bundle);
    for (table, count) in live_counts(&whole) {
        assert_eq!(
            found["duckdb_counts"][&table], count,
            "DuckDB's count of {table}"
        );
    }
    found
}

#[test]
fn every_value_of_the_sam_ai_profile_equals_the_databases() {
    let found = holds_the_values_of_the_database(Profile::SamAi);
    assert!(found["tables"].as_u64() > Some(100), "{}", found["tables"]);
    assert!(
        found["values"].as_u64() > Some(30_000),
        "{}",
        found["values"]
    );
}

#[test]
fn every_value_of_the_whole_database_equals_the_databases() {
    holds_the_values_of_the_database(Profile::All);
    let bundle = Bundle::shared(Profile::All);
    // Of the whole database, every table travels whole, the support tables included.
    let stored = tables(bundle).into_iter().filter(is_stored).count();
    assert_eq!(whole_tables(bundle).len(), stored);
    // Leaves travel with their partitioned table; everything else is listed by its own name.
    let in_database = Stack::shared().ask(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
         AND relnamespace = 'public'::regnamespace",
    );
    assert_eq!(in_database, stored.to_string());
}

/// The comparison above is worth something only if it sees one changed value of any kind.
#[test]
fn the_comparison_finds_a_single_changed_value_in_each_column_of_the_type_matrix() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let database = stack.fresh_database();
    let columns = type_matrix_columns();
    assert!(columns.len() > 95, "{columns:?}");
    // Row 0 is NULL in every column but the key; it takes row 1's values.
    let (names, values): (Vec<_>, Vec<_>) = columns
        .iter()
        .filter(|c| *c != "id")
        .map(|c| (format!("\"{c}\""), format!("b.\"{c}\"")))
        .unzip();
    let (names, values) = (names.join(", "), values.join(", "));
    let sql = format!(
        "UPDATE x_type_matrix a SET ({names}) = (SELECT {values} FROM x_type_matrix b WHERE b.id = 1) WHERE a.id = 0"
    );
    stack.server.psql(&database, &sql).expect("an update");
    let folder = scratch("matrix");
    let part = "odoo_data/models/sam.type.matrix";
    crate::support::sh(
        &folder,
        &format!(
            "mkdir -p odoo_data/models && cp -r '{}' odoo_data/models/",
            bundle.dir.join(part).display()
        ),
    );
    let mut command = python();
    let psql = format!("psql -d '{}'", stack.url(&database));
    command
        .arg(support_file("compare.py"))
        .arg(&folder)
        .args(["--psql", &psql, "--shown", "1000"]);
    let found = run(&mut command).expect_code(1).json();
    let differing: BTreeSet<&str> = found["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|difference| difference["column"].as_str())
        .collect();
    let expected: BTreeSet<&str> = columns
        .iter()
        .map(String::as_str)
        .filter(|column| *column != "id")
        .collect();
    assert_eq!(differing, expected);
}

fn type_matrix_columns() -> Vec<String> {
    let answer = Stack::shared().ask(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'x_type_matrix'::regclass AND attnum > 0 \
         AND NOT attisdropped ORDER BY attnum",
    );
    answer.lines().map(str::to_owned).collect()
}

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
            assert_eq!(schema["codecs"], json!(["ZSTD"]), "{member}");
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

/// State of every sequence by name, as the server has it.
fn live_sequences() -> BTreeMap<String, Value> {
    let stack = Stack::shared();
    let names = stack.ask(
        "SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY 1",
    );
    let states: Vec<String> = names
        .lines()
        .map(|name| {
            format!(
                "SELECT json_build_object('name', '{name}', 'last_value', s.last_value, 'is_called', s.is_called, \
                 'data_type', p.data_type::text, 'increment', p.increment_by, 'start', p.start_value, \
                 'min', p.min_value, 'max', p.max_value, 'cache', p.cache_size, 'cycle', p.cycle) \
                 FROM \"{name}\" s, pg_sequences p WHERE p.sequencename = '{name}'"
            )
        })
        .collect();
    let answer = stack.ask(&states.join(" UNION ALL "));
    answer
        .lines()
        .map(|line| {
            let state: Value = serde_json::from_str(line).expect("JSON");
            (state["name"].as_str().expect("a name").to_owned(), state)
        })
        .collect()
}

fn bundled_sequences(profile: Profile) -> BTreeMap<String, Value> {
    let rows = Bundle::shared(profile).rows("odoo_data/support/sequences");
    rows.into_iter()
        .map(|row| (row["name"].as_str().expect("a name").to_owned(), row))
        .collect()
}

#[test]
fn sequences_have_the_state_of_the_server() {
    let live = live_sequences();
    let all = bundled_sequences(Profile::All);
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        live.keys().collect::<Vec<_>>()
    );
    for (name, row) in &all {
        for (key, value) in live[name].as_object().expect("an object") {
            assert_eq!(&row[key], value, "{name} {key}");
        }
    }
}

/// Document numbering lives in sequences that no table owns: lost if only tables travelled.
#[test]
fn unowned_sequences_travel_with_the_numbering_they_belong_to() {
    let bundled = bundled_sequences(Profile::SamAi);
    assert_eq!(bundled["ir_sequence_002"]["last_value"], 777);
    assert_eq!(bundled["ir_sequence_002"]["ir_sequence_id"], 2);
    assert_eq!(bundled["ir_sequence_004_002"]["is_called"], false);
    assert_eq!(bundled["ir_sequence_004_002"]["date_range_id"], 2);
    assert_eq!(bundled["ir_sequence_004_001"]["last_value"], 501);
    // Those of sales orders and project tasks are somebody else's.
    assert!(!bundled.contains_key("ir_sequence_001"));
    assert!(!bundled.contains_key("ir_sequence_005"));
    // Caches are told by these; they travel for information only.
    for name in ["base_registry_signaling", "base_cache_signaling_default"] {
        assert_eq!(bundled[name]["restore"], false, "{name}");
    }
    assert_eq!(bundled["ai_message_id_seq"]["restore"], true);
    // Every sequence that a column of a whole table owns is there.
    let owned = Stack::shared().ask(
        "SELECT s.relname, t.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i') \
         AND d.classid = 'pg_class'::regclass AND d.refobjsubid > 0 JOIN pg_class t ON t.oid = d.refobjid \
         WHERE s.relkind = 'S'",
    );
    let whole = whole_tables(Bundle::shared(Profile::SamAi));
    let mut seen = 0;
    for line in owned.lines() {
        let (sequence, table) = line.split_once('|').expect("two columns");
        if whole.contains(&format!("public.{table}")) {
            assert!(bundled.contains_key(sequence), "{sequence} of {table}");
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen}");
}
