//! All stores together: switched as one, taken back as one.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, thread, time::Duration};

use super::stage::{Place, bundle, done, json_of, source};
use crate::support::{Stack, arkstream, files_below, python, run, soak, support_file};

/// Every file below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    if !folder.exists() {
        return BTreeMap::new();
    }
    files_below(folder)
        .into_iter()
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).expect("reads");
            (name, bytes)
        })
        .collect()
}

/// The rows of the graph, as the server prints them, without AGE's OIDs.
fn graph_rows(database: &str) -> String {
    let name = crate::support::GRAPH_NAME;
    let labels = source()
        .server
        .psql(
            database,
            "SELECT relation::regclass FROM ag_catalog.ag_label ORDER BY relation::regclass::text",
        )
        .expect("psql");
    assert!(labels.lines().count() >= 7, "{labels}");
    let selects: Vec<String> = labels
        .lines()
        .map(|table| {
            format!(
                "SELECT '{}' || t::text AS line FROM ONLY {table} t",
                table.replace('\'', "''")
            )
        })
        .collect();
    let sql = format!(
        "SELECT line FROM ({}) a ORDER BY line COLLATE \"C\"; SELECT count(*) FROM \"{name}\".\"Concept\"",
        selects.join(" UNION ALL ")
    );
    source().server.psql(database, &sql).expect("psql")
}

fn databases() -> String {
    let sql = "SELECT datname FROM pg_database ORDER BY 1";
    source().server.psql("postgres", sql).expect("psql")
}

/// Everything that a restore can touch.
#[derive(PartialEq)]
pub(super) struct State {
    rows: String,
    graph: Option<String>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    chroma: BTreeMap<String, Vec<u8>>,
}

impl State {
    pub(super) fn of(place: &Place) -> Self {
        let has_graph = databases().lines().any(|name| name == place.graph);
        Self {
            rows: place.every_row(),
            graph: has_graph.then(|| graph_rows(&place.graph)),
            files: contents(&place.filestore),
            chroma: contents(&place.chroma),
        }
    }

    /// Which stores are equal.
    pub(super) fn same(&self, other: &Self) -> [bool; 4] {
        [
            self.rows == other.rows,
            self.graph == other.graph,
            self.files == other.files,
            self.chroma == other.chroma,
        ]
    }
}

/// Nothing of ours lies about but what an undo needs.
pub(super) fn assert_tidy(place: &Place) {
    let beside = files_below(&place.dir);
    let left: Vec<&String> = beside
        .iter()
        .filter(|name| name.contains(".arkstream_") && !name.ends_with(".record"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        place.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream_[0-9a-z]{16}$'"),
        "0"
    );
    let names = databases();
    let staged = format!("{}_arkstream_", place.graph);
    assert!(!names.contains(&staged), "{names}");
}

/// A former state of graph and Chroma, different from the bundle's.
pub(super) fn with_former_stores(place: &Place) {
    let server = &source().server;
    let copy = format!(
        "CREATE DATABASE {} TEMPLATE {}",
        place.graph,
        source().graph
    );
    // Another test may be backing it up, and PostgreSQL copies only what nobody is connected to.
    let start = std::time::Instant::now();
    while let Err(error) = server.psql("postgres", &copy) {
        let busy = error.to_string().contains("accessed by other users");
        assert!(
            busy && start.elapsed() < Duration::from_secs(120),
            "{error}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    server
        .psql(
            &place.graph,
            &format!(
                "DELETE FROM ONLY \"{}\".\"RELATED_TO\"",
                crate::support::GRAPH_NAME
            ),
        )
        .expect("psql");
    fs::create_dir_all(&place.chroma).expect("a folder");
    fs::write(place.chroma.join("former.txt"), "former").expect("writes");
    place.sql("UPDATE ai_message SET content = 'former' WHERE id % 2 = 0");
    fs::create_dir_all(place.filestore.join("zz")).expect("a folder");
    fs::write(place.filestore.join("zz/foreign"), "somebody else's").expect("writes");
}

#[test]
fn everything_comes_back_and_chroma_answers_the_same_queries() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'lost'");
    let report = json_of(place.everything(bundle()).args(["--mode", "replace"]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    for key in [
        "restore_id",
        "inserted",
        "updated",
        "deleted",
        "unchanged",
        "unmapped",
        "components",
        "proof",
        "duration_seconds",
    ] {
        assert!(!report[key].is_null(), "{key}: {report:#}");
    }
    assert_eq!(graph_rows(&place.graph), graph_rows(&source().graph));
    assert!(!contents(&place.filestore).is_empty());
    for (name, bytes) in contents(&place.filestore) {
        assert_eq!(
            fs::read(source().filestore.join(&name)).expect("reads"),
            bytes,
            "{name}"
        );
    }
    let mut check = python();
    check
        .arg(support_file("chroma/check.py"))
        .arg(&place.chroma);
    check.arg("--truth").arg(&source().chroma_truth);
    run(&mut check).ok();
    assert_tidy(&place);
    assert!(
        fs::read_to_string(place.dir.join("report.md"))
            .expect("a report")
            .contains("equal")
    );
}

#[test]
fn an_undo_brings_all_stores_back_byte_for_byte_and_row_for_row() {
    let place = Place::copy();
    with_former_stores(&place);
    let before = State::of(&place);
    done(place.everything(bundle()).args(["--mode", "replace"]));
    let after = State::of(&place);
    assert_eq!(before.same(&after), [false; 4]);
    run(&mut place.after("undo")).ok();
    let mut undone = State::of(&place);
    // The copy's rows referred to the files all along, so the files stay.
    assert!(undone.files.contains_key("zz/foreign"));
    undone.files.clone_from(&before.files);
    assert_eq!(undone.same(&before), [true; 4]);
    assert_tidy(&place);
}

#[test]
fn a_first_restore_undone_leaves_neither_graph_nor_chroma() {
    let place = Place::copy();
    done(place.everything(bundle()).args(["--mode", "replace"]));
    assert!(place.chroma.exists() && databases().contains(&place.graph));
    run(&mut place.after("undo")).ok();
    assert!(!place.chroma.exists());
    assert!(!databases().lines().any(|name| name == place.graph));
    assert_tidy(&place);
}

#[test]
fn a_failing_store_takes_all_others_back() {
    let place = Place::copy();
    with_former_stores(&place);
    let before = State::of(&place);
    // Violated only when the rows are applied.
    place.sql("ALTER TABLE ai_message ADD CONSTRAINT wall CHECK (content = 'former' OR id % 2 = 1) NOT VALID");
    run(place.everything(bundle()).args(["--mode", "replace"]))
        .expect_code(7)
        .says(&["ai_message", "wall"]);
    let mut after = State::of(&place);
    // Files that rows refer to stay.
    after.files.clone_from(&before.files);
    assert_eq!(after.same(&before), [true; 4]);
    assert_eq!(place.restores().as_array().map(Vec::len), Some(0));
    assert_tidy(&place);
}

#[test]
fn who_holds_the_graph_is_named_and_can_be_ended() {
    let place = Place::copy();
    with_former_stores(&place);
    let mut session = std::process::Command::new(source().server.bin_dir().join("psql"));
    session
        .arg(source().url(&place.graph))
        .args(["-c", "SELECT pg_sleep(300)"]);
    session
        .env("PGAPPNAME", "somebody")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut session = session.spawn().expect("psql");
    while source()
        .server
        .psql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'somebody'",
        )
        .expect("psql")
        == "0"
    {
        thread::sleep(Duration::from_millis(20));
    }
    let before = State::of(&place);
    run(place.everything(bundle()).args(["--mode", "replace"]))
        .expect_code(6)
        .says(&["in use", "somebody", "--terminate-connections"]);
    assert_eq!(State::of(&place).same(&before), [true; 4]);
    done(
        place
            .everything(bundle())
            .args(["--mode", "replace", "--terminate-connections"]),
    );
    let _ = session.wait();
}

/// Killed at any moment: every store is old or new, and the next command makes them agree.
#[test]
fn killed_at_any_moment_all_stores_agree_after_the_next_command() {
    let place = Place::copy();
    with_former_stores(&place);
    let before = State::of(&place);
    let mut complete = 0;
    for round in 0..soak(6u64, 60) {
        // Spread over the run, most of them near its end, where the cut-over is.
        let delay = Duration::from_millis(300 + (round * 977) % 4200);
        let mut child = place
            .everything(bundle())
            .args(["--mode", "replace"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        thread::sleep(delay);
        let _ = child.kill();
        let _ = child.wait();
        // The next restore of nothing but files ends what was left; so does undo.
        let left = place.restores();
        for record in left.as_array().expect("a list") {
            let name = record["restore_id"].as_str().expect("a name");
            let mut undo = arkstream();
            undo.args(["undo", name, "--state-dir"]).arg(&place.state);
            undo.env("PGPASSWORD", Stack::OWNER_PASSWORD);
            run(&mut undo).ok();
            complete += u32::from(record["phase"] == "live");
        }
        let mut after = State::of(&place);
        // Files that attachments refer to stay; they change nothing.
        after.files.clone_from(&before.files);
        assert_eq!(
            after.same(&before),
            [true; 4],
            "round {round}, after {delay:?}"
        );
        assert_tidy(&place);
    }
    assert!(complete < soak(6, 60), "no round was interrupted");
}
