//! The workbook as calamine, a reader that shares no code with the writer, opens it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeMap, io::Cursor};

use arkstream_format::{ModelEntry, ModelStatus, X2ManyField};
use arkstream_pipeline::{Cancel, Failure, FailureKind, Silent};
use arkstream_xlsx::{LargeFields, MOST_ROWS, Order, Report, all_sheets, write};
use calamine::{Data, Range, Reader as _, Xlsx, open_workbook_from_rs};
use support::{Col, World};

#[derive(Default)]
struct Kept(BTreeMap<String, String>);

impl LargeFields for Kept {
    fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        assert!(self.0.insert(name.to_owned(), text.to_owned()).is_none());
        Ok(())
    }
}

struct Opened {
    book: Xlsx<Cursor<Vec<u8>>>,
    large: BTreeMap<String, String>,
    report: Report,
}

impl Opened {
    fn sheet(&mut self, name: &str) -> Range<Data> {
        let range = self.book.worksheet_range(name);
        range.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The values below a head, by row.
    fn column(&mut self, sheet: &str, head: &str) -> Vec<Data> {
        let range = self.sheet(sheet);
        let heads: Vec<String> = range
            .rows()
            .next()
            .unwrap()
            .iter()
            .map(Data::to_string)
            .collect();
        let at = heads.iter().position(|found| found == head);
        let at = at.unwrap_or_else(|| panic!("{head} is none of {heads:?}"));
        range.rows().skip(1).map(|row| row[at].clone()).collect()
    }

    /// Lines of the "About" sheet as texts.
    fn about(&mut self) -> Vec<Vec<String>> {
        let range = self.sheet("About");
        range
            .rows()
            .skip(1)
            .map(|row| row.iter().map(Data::to_string).collect())
            .collect()
    }

    fn about_line(&mut self, what: &str, field: &str) -> Vec<String> {
        let lines = self.about();
        let found = lines
            .iter()
            .find(|line| line[0] == what && line[3] == field);
        found
            .unwrap_or_else(|| panic!("{what} of {field} is not in {lines:?}"))
            .clone()
    }
}

fn opened(world: &World, models: &[ModelEntry], memory: u64, max_rows: u32) -> Opened {
    let bundle = world.bundle();
    let temp = tempfile::tempdir().unwrap();
    let order = Order {
        sheets: all_sheets(bundle.as_ref()),
        bundle: bundle.clone(),
        models,
        memory,
        temp: temp.path().to_owned(),
        max_rows,
        taken_at: Default::default(),
        facts: vec![("Bundle", "of a test".to_owned())],
        observer: std::sync::Arc::new(Silent),
        cancel: Cancel::default(),
    };
    let (mut large, mut out) = (Kept::default(), Vec::new());
    let report = write(&order, &mut large, &mut out).unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    Opened {
        book: open_workbook_from_rs(Cursor::new(out)).unwrap(),
        large: large.0,
        report,
    }
}

fn text(text: &str) -> Data {
    Data::String(text.to_owned())
}

#[test]
fn every_text_is_whole_or_listed() {
    let long = format!("https://example.com/?q={}", "long ".repeat(5_000));
    let message = &long[..22_601];
    let huge = "Zeile a\n".repeat(200_000);
    let texts = [
        message,
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "emoji \u{1f600}\u{1f469}\u{200d}\u{1f680}",
        "a\u{1}b\u{1b}c\u{8}\u{b}",
        "literal _x0041_ and _x005F_",
        " spaces ",
        "line\nbreak",
        "<b>&amp;</b>",
        "1234567890123456",
    ];
    let mut values: Vec<Option<&str>> = texts.iter().map(|text| Some(*text)).collect();
    values.extend([Some(huge.as_str()), Some(""), None]);
    let columns = vec![Col::ids(values.len()), Col::texts("body", &values)];
    let world = World::new(&[("ai.message", columns)]);
    let mut opened = opened(&world, &[], 1 << 20, MOST_ROWS);
    let found = opened.column("ai.message", "body");
    for (found, expected) in found.iter().zip(texts) {
        assert_eq!(found, &text(expected));
    }
    let name = format!(
        "odoo_data/large_fields/ai.message/{}.body.txt",
        texts.len() + 1
    );
    assert!(opened.large[&name] == huge);
    assert_eq!(opened.large.len(), 1);
    let shown = found[texts.len()].to_string();
    let end = format!("the whole text is in {name}]");
    assert!(
        shown.starts_with("Zeile a\n") && shown.ends_with(&end),
        "{shown}"
    );
    assert_eq!(found[texts.len() + 1..], [Data::Empty, Data::Empty]);
    let line = opened.about_line("text cut", "body");
    let id = (texts.len() + 1).to_string();
    assert_eq!(line[1..5], ["ai.message", &id, "body", "1600000"]);
    assert!(line[5].contains(&name));
    assert_eq!(opened.about_line("empty texts", "body")[2], "1 rows");
    assert_eq!(opened.report.large_fields, 1);
    let formulas = opened.book.worksheet_formula("ai.message").unwrap();
    assert!(formulas.used_cells().next().is_none(), "no formula, ever");
}

#[test]
fn numbers_dates_and_bytes_are_what_they_are_or_text() {
    let long = vec![7u8; 30_000];
    let columns = vec![
        Col::ids(3),
        Col::longs(
            "big",
            &[Some(1_234_567_890_123_456), Some(123_456_789_012_345), None],
        ),
        Col::floats("score", &[0.5, f64::NAN, 0.1 + 0.2]),
        Col::bools("active", &[true, false, true]),
        Col::dates("day", &[Some(19_844), Some(-30_000), None]),
        Col::moments(
            "at",
            &[
                Some(1_714_558_272_345_678),
                Some(-5_000_000_000_000_000),
                None,
            ],
        ),
        Col::binaries("data", &[Some(b"\0\xff"), Some(&long), None]),
    ];
    let world = World::new(&[("ai.numbers", columns)]);
    let mut opened = opened(&world, &[], 1 << 20, MOST_ROWS);
    let sheet = "ai.numbers";
    let number = Data::Float(123_456_789_012_345.0);
    assert_eq!(
        opened.column(sheet, "big"),
        [text("1234567890123456"), number, Data::Empty]
    );
    let scores = [Data::Float(0.5), text("NaN"), text("0.30000000000000004")];
    assert_eq!(opened.column(sheet, "score"), scores);
    assert_eq!(
        opened.column(sheet, "active")[..2],
        [Data::Bool(true), Data::Bool(false)]
    );
    let days = opened.column(sheet, "day");
    assert!(
        matches!(&days[0], Data::DateTime(day) if day.as_f64() == 45_413.0),
        "{days:?}"
    );
    assert_eq!(days[1..], [text("1887-11-12"), Data::Empty]);
    let moments = opened.column(sheet, "at");
    let Data::DateTime(moment) = &moments[0] else {
        panic!("{moments:?}")
    };
    let (day, part) = (moment.as_f64().floor(), moment.as_f64().fract());
    let micros = (day as i64 - 25_569) * 86_400_000_000 + (part * 86_400e6).round() as i64;
    assert_eq!(micros, 1_714_558_272_345_678, "the very microsecond");
    assert_eq!(moments[1], text("1811-07-23 15:06:40"));
    let bytes = opened.column(sheet, "data");
    assert_eq!(bytes[0], text("AP8="));
    assert!(
        bytes[1].to_string().contains("binary of 30000 bytes"),
        "{bytes:?}"
    );
    let line = opened.about_line("binary left out", "data");
    assert_eq!(line[1..5], ["ai.numbers", "2", "data", "30000"]);
    assert_eq!(opened.about_line("values as text", "score")[2], "2 rows");
    assert_eq!(opened.about_line("values as text", "big")[2], "1 rows");
}

fn tagged() -> Vec<ModelEntry> {
    let field = |field: &str, ttype: &str, table: &str, column: &str, ids: &str| X2ManyField {
        field: field.to_owned(),
        ttype: ttype.to_owned(),
        relation: "ai.tag".to_owned(),
        table: table.to_owned(),
        column: column.to_owned(),
        ids: ids.to_owned(),
    };
    vec![ModelEntry {
        model: "ai.note".to_owned(),
        inventory_name: None,
        table: Some("public.ai_note".to_owned()),
        status: ModelStatus::Exported,
        rows: 0,
        reason: String::new(),
        category: String::new(),
        priority: String::new(),
        sensitive: String::new(),
        modules: Vec::new(),
        import_order: None,
        x2many: vec![
            field("child_ids", "one2many", "public.ai_note", "parent_id", "id"),
            field(
                "tag_ids",
                "many2many",
                "public.note_tag_rel",
                "note_id",
                "tag_id",
            ),
        ],
    }]
}

fn notes(names: usize) -> World {
    let tags: Vec<String> = (1..=names).map(|n| format!("tag {n}")).collect();
    let tags: Vec<Option<&str>> = tags.iter().map(|tag| Some(tag.as_str())).collect();
    let note = vec![
        Col::ids(3),
        Col::many2one("parent_id", "ai.note", &[None, Some(1), Some(1)]),
        Col::many2one("tag_id", "ai.tag", &[Some(2), Some(999_999), None]),
    ];
    let relation = vec![
        Col::many2one("note_id", "ai.note", &[Some(2), Some(1), Some(1)]),
        Col::many2one("tag_id", "ai.tag", &[Some(2), Some(2), Some(1)]),
    ];
    let tag = vec![Col::ids(tags.len()), Col::texts("name", &tags)];
    World::new(&[("ai.note", note), ("ai.tag", tag), ("", relation)])
}

#[test]
fn relations_are_ids_and_names() {
    let mut opened = opened(&notes(3), &tagged(), 2 << 20, MOST_ROWS);
    let sheet = "ai.note";
    let (one, unknown) = (Data::Float(1.0), Data::Float(999_999.0));
    assert_eq!(
        opened.column(sheet, "tag_id"),
        [text("2, tag 2"), unknown, Data::Empty]
    );
    assert_eq!(
        opened.column(sheet, "parent_id"),
        [Data::Empty, one.clone(), one]
    );
    assert_eq!(
        opened.column(sheet, "child_ids"),
        [text("2,3"), Data::Empty, Data::Empty]
    );
    assert_eq!(
        opened.column(sheet, "tag_ids"),
        [text("1,2"), text("2"), Data::Empty]
    );
    assert_eq!(
        opened.about_line("ids without a name", "tag_id")[2],
        "1 rows"
    );
    assert_eq!(
        opened.book.sheet_names(),
        ["Index", "About", "ai.note", "ai.tag"]
    );
    let index = opened.sheet("Index");
    let row: Vec<String> = index
        .rows()
        .nth(1)
        .unwrap()
        .iter()
        .map(Data::to_string)
        .collect();
    assert_eq!(row, ["ai.note", "ai.note", "public.ai_note", "3", "5"]);
}

#[test]
fn what_does_not_fit_into_the_memory_is_left_out_and_said() {
    let mut opened = opened(&notes(20_000), &tagged(), 64, MOST_ROWS);
    assert_eq!(opened.column("ai.note", "tag_id")[0], Data::Float(2.0));
    let about = opened.about();
    let notes: Vec<&str> = about.iter().map(|line| line[5].as_str()).collect();
    let said = |words: &[&str]| {
        notes
            .iter()
            .any(|note| words.iter().all(|word| note.contains(word)))
    };
    assert!(said(&["the names of ai.tag do not fit"]), "{notes:?}");
    assert!(
        said(&["its 3 values do not fit", "note_tag_rel"]),
        "{notes:?}"
    );
    // The table stands in for the field.
    assert_eq!(opened.column("note_tag_rel", "note_id").len(), 3);
    assert!(opened.report.missing >= 3);
}

#[test]
fn what_is_too_many_rows_continues_on_further_sheets() {
    let texts: Vec<String> = (0..2_500).map(|n| format!("row {n}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let name = "sam.a.model.of.a.very.long.name.indeed";
    let world = World::new(&[(name, vec![Col::ids(2_500), Col::texts("body", &texts)])]);
    let mut opened = opened(&world, &[], 1 << 20, 1_000);
    let names = opened.book.sheet_names();
    assert_eq!(
        names[2..],
        [
            "sam.a.model.of.a.very.long.name",
            "sam.a.model.of.a.very.long. (2)",
            "sam.a.model.of.a.very.long. (3)"
        ]
    );
    let mut found = Vec::new();
    for name in &names[2..] {
        assert!(opened.sheet(name).height() <= 1_000);
        found.extend(opened.column(name, "body"));
    }
    assert_eq!(found.len(), 2_500);
    assert!(
        found
            .iter()
            .zip(&texts)
            .all(|(found, expected)| *found == text(expected.unwrap()))
    );
    let rows = opened.column("Index", "Rows");
    assert_eq!(
        rows,
        [Data::Float(999.0), Data::Float(999.0), Data::Float(502.0)]
    );
}

#[test]
fn the_list_of_cuts_continues_on_further_sheets() {
    let huge = "x".repeat(33_000);
    let texts = vec![Some(huge.as_str()); 30];
    let world = World::new(&[("ai.long", vec![Col::ids(30), Col::texts("body", &texts)])]);
    let mut opened = opened(&world, &[], 1 << 20, 20);
    let lines = opened.about().len() + opened.sheet("About~2").height() - 1;
    assert_eq!(lines, 31, "a fact and thirty cuts");
    assert_eq!(opened.report.lines, 30);
    assert_eq!(opened.large.len(), 30);
}

#[test]
fn a_damaged_part_ends_it() {
    let tag = vec![Col::ids(3), Col::texts("name", &[None; 3])];
    let world = World::new(&[("ai.tag", tag)]);
    let bundle = world.damaged("odoo_data/models/ai.tag/part-00000.parquet", 10);
    let order = Order {
        sheets: all_sheets(bundle.as_ref()),
        bundle: bundle.clone(),
        models: &[],
        memory: 1 << 20,
        temp: std::env::temp_dir(),
        max_rows: MOST_ROWS,
        taken_at: Default::default(),
        facts: Vec::new(),
        observer: std::sync::Arc::new(Silent),
        cancel: Cancel::default(),
    };
    let failure = write(&order, &mut Kept::default(), Vec::new()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
}
