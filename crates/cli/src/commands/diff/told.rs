//! A comparison in words.

use std::{fmt::Write as _, sync::Arc};

use arkstream_pipeline::BundleReader;
use arkstream_query::diff::{BundleDiff, FieldDiff, In, RowDiff, Shown, StoreDiff, TableDiff};

use super::word;
use crate::{args::DiffArgs, output, units};

/// Names of files that are shown of each kind.
const FILES: usize = 20;

/// Characters of a value that are shown.
const WIDTH: usize = 48;

/// Characters in front of the first difference that are shown of a long value.
const BEFORE: usize = 12;

/// Everything that differs, and one line on what does not.
pub(super) fn describe(
    args: &DiffArgs,
    bundles: (&Arc<dyn BundleReader>, &Arc<dyn BundleReader>),
    found: &BundleDiff,
) -> String {
    let mut text = String::new();
    for (mark, path, bundle) in [
        ("-", &args.first, bundles.0),
        ("+", &args.second, bundles.1),
    ] {
        let last = bundle.manifest().generations.last();
        let taken = last.map(|last| last.taken_at.format("%Y-%m-%d %H:%M:%S UTC").to_string());
        let taken = taken.as_deref().unwrap_or("at an unknown time");
        let _ = writeln!(text, "{mark} {}, taken {taken}", path.display());
    }
    tables(&mut text, &found.tables);
    for table in &found.tables {
        for row in &table.samples {
            text.push_str(&sample(table, row));
        }
    }
    for store in &found.stores {
        text.push_str(&files(store));
    }
    if !found.versions.is_empty() {
        let absent = || "(none)".to_owned();
        let rows: Vec<Vec<String>> = found
            .versions
            .iter()
            .map(|version| {
                vec![
                    version.what.clone(),
                    version.first.clone().unwrap_or_else(absent),
                    version.second.clone().unwrap_or_else(absent),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["version of", "-", "+"], &rows));
    }
    text.push('\n');
    text.push_str(&verdict(found));
    text
}

fn tables(text: &mut String, tables: &[TableDiff]) {
    let differ: Vec<&TableDiff> = tables.iter().filter(|table| !table.is_equal()).collect();
    let rows: Vec<Vec<String>> = differ
        .iter()
        .map(|table| {
            let rows = |number: u64, there: bool| match there {
                true => number.to_string(),
                false => "(none)".to_owned(),
            };
            vec![
                name(table),
                rows(table.rows.0, table.found != In::Second),
                rows(table.rows.1, table.found != In::First),
                table.added.to_string(),
                table.removed.to_string(),
                match &table.id {
                    Some(_) => table.changed.to_string(),
                    None => String::new(),
                },
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        let titles = [
            "model or table",
            ">rows -",
            ">rows +",
            ">added",
            ">removed",
            ">changed",
        ];
        text.push_str(&output::table(&titles, &rows));
    }
    for table in &differ {
        let columns = &table.columns;
        for (mark, names) in [("-", &columns.removed), ("+", &columns.added)] {
            for column in names {
                let _ = writeln!(text, "{}: {mark} column {column}", name(table));
            }
        }
        for (column, from, to) in &columns.retyped {
            let _ = writeln!(text, "{}: column {column}: {from} -> {to}", name(table));
        }
    }
    for table in tables {
        if let Some(why) = &table.left_out {
            let _ = writeln!(text, "{}: rows not compared: {why}", name(table));
        }
    }
}

fn name(table: &TableDiff) -> String {
    table.model.clone().unwrap_or_else(|| table.table.clone())
}

fn sample(table: &TableDiff, row: &RowDiff) -> String {
    let mut text = format!("\n{}", name(table));
    if let (Some(id), Some(value)) = (&table.id, row.id) {
        let _ = write!(text, ", {id} {value}");
    }
    let _ = writeln!(text, ", {}", word(row.kind));
    let rows: Vec<Vec<String>> = row
        .fields
        .iter()
        .map(|field| {
            let (first, second) = side_by_side(field);
            vec![format!("  {}", field.name), first, second]
        })
        .collect();
    text.push_str(&output::table(&["  field", "-", "+"], &rows));
    text
}

/// Both values, cut so that the first difference is seen.
fn side_by_side(field: &FieldDiff) -> (String, String) {
    let (first, second) = (&field.first, &field.second);
    let same = match (first, second) {
        (Some(one), Some(other)) => {
            let pairs = one.text.chars().zip(other.text.chars());
            pairs.take_while(|(a, b)| a == b).count()
        }
        _ => 0,
    };
    let from = if same > WIDTH / 2 { same - BEFORE } else { 0 };
    (window(first.as_ref(), from), window(second.as_ref(), from))
}

/// [`WIDTH`] characters of a value, on one line.
fn window(value: Option<&Shown>, from: usize) -> String {
    let Some(value) = value else {
        return String::new();
    };
    let mut shown = String::new();
    if from > 0 {
        shown.push('…');
    }
    let mut rest = value.text.chars().skip(from);
    shown.extend(rest.by_ref().take(WIDTH).map(|c| match c {
        '\n' | '\t' | '\r' => ' ',
        c => c,
    }));
    if rest.next().is_some() || value.is_cut() {
        let _ = write!(shown, "… ({})", units::size(value.bytes));
    }
    shown
}

fn files(store: &StoreDiff) -> String {
    let mut text = String::new();
    if store.is_equal() {
        return text;
    }
    let _ = writeln!(
        text,
        "\n{}: {} added, {} removed, {} changed, {} equal",
        store.component,
        store.added.len(),
        store.removed.len(),
        store.changed.len(),
        store.equal
    );
    for (mark, names) in [
        ("+", &store.added),
        ("-", &store.removed),
        ("~", &store.changed),
    ] {
        for name in names.iter().take(FILES) {
            let _ = writeln!(text, "  {mark} {name}");
        }
        if names.len() > FILES {
            let _ = writeln!(
                text,
                "  {mark} … and {} more (--json has all)",
                names.len() - FILES
            );
        }
    }
    text
}

fn verdict(found: &BundleDiff) -> String {
    let differ = found
        .tables
        .iter()
        .filter(|table| !table.is_equal())
        .count();
    let mut parts = vec![of(differ, found.tables.len(), "table", "tables")];
    if !found.stores.is_empty() {
        let differ = found
            .stores
            .iter()
            .filter(|store| !store.is_equal())
            .count();
        parts.push(of(
            differ,
            found.stores.len(),
            "store of files",
            "stores of files",
        ));
    }
    match found.versions.len() {
        0 => {}
        1 => parts.push("1 version".to_owned()),
        many => parts.push(format!("{many} versions")),
    }
    let verdict = match found.is_equal() {
        true => "nothing differs",
        false => "different",
    };
    let partial = match found.is_partial() {
        true => "; not everything could be compared",
        false => "",
    };
    format!("{verdict}: {}{partial}\n", parts.join(", "))
}

/// `3 of 115 tables`
fn of(differ: usize, all: usize, one: &str, many: &str) -> String {
    format!("{differ} of {all} {}", if all == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(first: &str, second: &str) -> (String, String) {
        side_by_side(&FieldDiff {
            name: "body".into(),
            first: Some(Shown::of(first)),
            second: Some(Shown::of(second)),
        })
    }

    #[test]
    fn short_values_stand_whole_and_on_one_line() {
        assert_eq!(both("a\nb", "ü"), ("a b".into(), "ü".into()));
        assert_eq!(window(None, 0), "", "NULL");
    }

    #[test]
    fn of_long_values_the_first_difference_is_seen() {
        let long = "é".repeat(500);
        let (first, second) = both(&format!("{long}one"), &format!("{long}two and more"));
        assert_eq!(first, format!("…{}one", "é".repeat(BEFORE)));
        assert_eq!(second, format!("…{}two and more", "é".repeat(BEFORE)));
        let (first, second) = both(&format!("x{long}"), "y");
        assert_eq!(first.chars().take(3).collect::<String>(), "xéé");
        assert!(first.ends_with("… (1001 B)"), "{first}");
        assert_eq!(second, "y");
    }

    #[test]
    fn values_that_differ_behind_what_is_kept_say_how_long_they_are() {
        let long = "x".repeat(5_000);
        let (first, second) = both(&format!("{long}a"), &format!("{long}bc"));
        assert!(
            first.ends_with("… (4.9 KiB)") && second.ends_with("… (4.9 KiB)"),
            "{first}"
        );
    }
}
