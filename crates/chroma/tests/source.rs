//! The source step by step: what may happen meanwhile, and what must never.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::{
    fs,
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arkstream_chroma::{ChromaOptions, ChromaSource, DATABASE};
use arkstream_pipeline::{FailureKind, Source};
use common::{DirectorySink, Made, assert_good, back_up, copy_directory, python, run};
use rusqlite::Connection;
use tempfile::TempDir;

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| Made::new(&python()))
}

/// A copy of the real directory that a test may change.
fn directory() -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    let copy = root.path().join("chroma");
    copy_directory(&made().directory(), &copy);
    (root, copy)
}

/// Waits until the folders are quiet, so that the first pass takes them.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// Whether another process can start a write transaction.
fn another_process_can_write(directory: &Path) -> bool {
    let program = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute('BEGIN IMMEDIATE')
except sqlite3.OperationalError as error:
    assert 'database is locked' in str(error), error
    sys.exit(9)
";
    let database = directory.join(DATABASE);
    let status = Command::new(python())
        .args(["-c", program])
        .arg(database)
        .status()
        .unwrap();
    match status.code() {
        Some(0) => true,
        Some(9) => false,
        other => panic!("Python ended with {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_directory_arrives_as_it_is() {
    let (_root, directory) = directory();
    fs::create_dir(directory.join("void")).unwrap();
    fs::write(directory.join("notes.txt"), b"unknown files travel, too").unwrap();
    let database = directory.join(DATABASE);
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    settle().await;
    let (run, sink) = run(DirectorySink::new());
    let (report, _) = back_up(&directory, ChromaOptions::default(), &run)
        .await
        .unwrap();

    assert_good(&sink.chroma());
    for member in sink.members() {
        let expected = fs::read(directory.join(&member)).unwrap();
        assert_eq!(
            fs::read(sink.chroma().join(&member)).unwrap(),
            expected,
            "{member}"
        );
    }
    assert!(sink.members().contains("notes.txt"));
    assert_eq!(sink.spec(DATABASE).mode, 0o640);
    let modified = database.metadata().unwrap().modified().unwrap();
    assert_eq!(sink.spec(DATABASE).modified_at.timestamp(), {
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_secs()).unwrap()
    });
    assert!(sink.retracted().is_empty() && sink.abandoned().is_empty());
    assert!(run.omissions().is_empty(), "{:?}", run.omissions());
    let summary = report.chroma.unwrap();
    assert_eq!(summary.collections, 6);
    assert_eq!(summary.embeddings, 1201 + 166 + 1104 + 1000 + 300);
    assert!(summary.queued > 0 && !summary.migrations.is_empty());
    assert!(report.chroma_hold_ms.is_some());
    made().check(&python(), &sink.chroma());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_are_held_while_the_last_folder_is_read_and_go_on_afterwards() {
    let (_root, directory) = directory();
    let asked = Arc::new(AtomicUsize::new(0));
    let sink = DirectorySink::new().on_write({
        let (directory, asked) = (directory.clone(), Arc::clone(&asked));
        move |_| {
            assert!(!another_process_can_write(&directory));
            asked.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (run, sink) = run(sink);
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    // Without a first pass, everything is read under the lock.
    assert!(another_process_can_write(&directory));
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    assert!(asked.load(Ordering::Relaxed) >= sink.members().len());
    assert!(another_process_can_write(&directory));
    assert_good(&sink.chroma());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_another_descriptor_would_drop_the_lock() {
    let (_root, directory) = directory();
    let (run, _) = run(DirectorySink::new());
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    // Looking at it is harmless …
    assert!(!another_process_can_write(&directory));
    fs::metadata(directory.join(DATABASE)).unwrap();
    assert!(!another_process_can_write(&directory));
    // … and this is the trap that the claim and the single thread are there for.
    drop(File::open(directory.join(DATABASE)).unwrap());
    assert!(another_process_can_write(&directory));
    source.release().await;
    source.release().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_in_one_process_do_not_meet() {
    let (_root, directory) = directory();
    let (run, _) = run(DirectorySink::new());
    let mut first = ChromaSource::new(directory.clone(), ChromaOptions::default());
    first.plan().await.unwrap();
    first.lock(&run).await.unwrap();
    let options = ChromaOptions {
        lock_wait: Duration::from_millis(50),
        ..ChromaOptions::default()
    };
    let mut second = ChromaSource::new(directory.clone(), options);
    second.plan().await.unwrap();
    let failure = second.lock(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(
        !another_process_can_write(&directory),
        "the first lock is still there"
    );
    first.release().await;
    second.lock(&run).await.unwrap();
    second.stream(&run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_is_a_bounded_wait() {
    let (_root, directory) = directory();
    let (run, sink) = run(DirectorySink::new());
    let mut busy = Command::new(python())
        .args([
            "-c",
            "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.read()
",
        ])
        .arg(directory.join(DATABASE))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(busy.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let options = ChromaOptions {
        lock_wait: Duration::from_millis(300),
        ..ChromaOptions::default()
    };
    let mut source = ChromaSource::new(directory, options);
    source.plan().await.unwrap();
    let failure = source.lock(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.to_string().contains("busy"), "{failure}");
    drop(busy.stdin.take());
    busy.wait().unwrap();
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    assert_good(&sink.chroma());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hold_is_bounded_however_slow_the_output_is() {
    let (_root, directory) = directory();
    let after_the_bound = Arc::new(Mutex::new(None));
    let sink = DirectorySink::new().on_write({
        let (directory, seen) = (directory.clone(), Arc::clone(&after_the_bound));
        move |_| {
            // The sink is stuck; nobody asks the lock's thread for anything.
            let mut seen = seen.lock().unwrap();
            while seen.is_none() && !another_process_can_write(&directory) {}
            *seen = Some(true);
        }
    });
    let (run, _) = run(sink);
    let options = ChromaOptions {
        max_hold: Duration::from_millis(700),
        ..ChromaOptions::default()
    };
    let mut source = ChromaSource::new(directory, options);
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    let failure = source.stream(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(
        failure
            .why()
            .contains("which is as long as writers may be held"),
        "{failure}"
    );
    assert!(
        failure.advice().unwrap().contains("--chroma-max-hold"),
        "{failure:?}"
    );
    assert_eq!(*after_the_bound.lock().unwrap(), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_changes_after_the_first_pass_is_read_again() {
    let (_root, directory) = directory();
    let segment = made().segment("purged");
    settle().await;
    let (run, sink) = run(DirectorySink::new());
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.prepare(&run).await.unwrap();
    for shape in ["mixed", "changed", "purged"] {
        let pickle = format!("{}/index_metadata.pickle", made().segment(shape));
        assert!(
            sink.members().contains(&pickle),
            "{shape} is quiet: {:?}",
            sink.members()
        );
    }
    // In place, with the same size, as a persist does it.
    let file = format!("{segment}/length.bin");
    let mut bytes = fs::read(directory.join(&file)).unwrap();
    bytes[0] ^= 1;
    fs::write(directory.join(&file), &bytes).unwrap();
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    assert_eq!(sink.retracted(), [format!("databases/chroma_data/{file}")]);
    assert_eq!(fs::read(sink.chroma().join(&file)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persist_that_lands_while_its_folder_is_read_is_seen() {
    let (_root, directory) = directory();
    let segment = made().segment("purged");
    let landed = Arc::new(AtomicUsize::new(0));
    let sink = DirectorySink::new().on_write({
        let (folder, landed) = (directory.join(&segment), Arc::clone(&landed));
        move |name| {
            // First a file that is done already, then the one that is being read.
            if name.ends_with("header.bin") && landed.load(Ordering::Relaxed) == 0 {
                landed.store(1, Ordering::Relaxed);
                touch(&folder.join("data_level0.bin"));
            } else if name.contains(folder.file_name().unwrap().to_str().unwrap())
                && name.ends_with("link_lists.bin")
                && landed.load(Ordering::Relaxed) == 1
            {
                landed.store(2, Ordering::Relaxed);
                touch(&folder.join("header.bin"));
                touch(&folder.join("link_lists.bin"));
            }
        }
    });
    let (run, sink) = run(sink);
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    assert_eq!(landed.load(Ordering::Relaxed), 2);
    assert!(
        !sink.abandoned().is_empty(),
        "the file being read was given up"
    );
    assert!(
        !sink.retracted().is_empty(),
        "the file read before was taken back"
    );
    for member in sink.members() {
        let expected = fs::read(directory.join(&member)).unwrap();
        assert_eq!(
            fs::read(sink.chroma().join(&member)).unwrap(),
            expected,
            "{member}"
        );
    }
}

/// Changes a byte at the end, in place.
fn touch(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.push(7);
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_deleted_meanwhile_fails_only_if_the_database_refers_to_it() {
    let (_root, directory) = directory();
    let segment = made().segment("purged");
    fs::create_dir(directory.join("leftover")).unwrap();
    fs::write(
        directory.join("leftover/header.bin"),
        b"of a deleted collection",
    )
    .unwrap();
    settle().await;
    let (run, sink) = run(DirectorySink::new());
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.prepare(&run).await.unwrap();
    assert!(sink.members().contains("leftover/header.bin"));
    fs::remove_dir_all(directory.join("leftover")).unwrap();
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    assert!(!sink.members().contains("leftover/header.bin"));
    assert_good(&sink.chroma());

    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    fs::remove_dir_all(directory.join(&segment)).unwrap();
    let (run, _) = common::run(DirectorySink::new());
    source.lock(&run).await.unwrap();
    let failure = source.stream(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.to_string().contains("sam_purged_3"), "{failure}");
    assert!(failure.to_string().contains(&segment), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_lost_before_the_backup_are_an_omission() {
    let (_root, directory) = directory();
    fs::remove_dir_all(directory.join(made().segment("purged"))).unwrap();
    let (run, _) = run(DirectorySink::new());
    back_up(&directory, ChromaOptions::default(), &run)
        .await
        .unwrap();
    let omissions = run.omissions();
    assert_eq!(omissions.len(), 1, "{omissions:?}");
    assert!(
        omissions[0].reason.contains("sam_purged_3"),
        "{omissions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_counted_and_journals_never_travel() {
    let (_root, directory) = directory();
    std::os::unix::fs::symlink("/etc/hostname", directory.join("link")).unwrap();
    fs::hard_link(directory.join(DATABASE), directory.join("second.sqlite3")).unwrap();
    fs::write(directory.join("chroma.sqlite3-shm"), b"x").unwrap();
    let (run, sink) = run(DirectorySink::new().on_begin({
        let directory = directory.clone();
        move |_| assert!(!another_process_can_write(&directory))
    }));
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    source.stream(&run).await.unwrap();
    let omitted: Vec<_> = run
        .omissions()
        .into_iter()
        .map(|omission| omission.what)
        .collect();
    assert_eq!(omitted, ["link", "second.sqlite3"]);
    for name in [
        "link",
        "second.sqlite3",
        "chroma.sqlite3-shm",
        "chroma.sqlite3-journal",
    ] {
        assert!(!sink.members().contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_wal_mode_the_log_travels_and_stays() {
    let (_root, directory) = directory();
    let writer = Connection::open(directory.join(DATABASE)).unwrap();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    writer
        .execute("INSERT INTO tenants (id) VALUES ('only in the log')", [])
        .unwrap();
    // The last connection must not move the log either.
    writer
        .set_db_config(
            rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
            true,
        )
        .unwrap();
    drop(writer);
    let (run, sink) = run(DirectorySink::new());
    let log = fs::read(directory.join("chroma.sqlite3-wal")).unwrap();
    back_up(&directory, ChromaOptions::default(), &run)
        .await
        .unwrap();
    assert_eq!(
        fs::read(sink.chroma().join("chroma.sqlite3-wal")).unwrap(),
        log
    );
    assert_eq!(fs::read(directory.join("chroma.sqlite3-wal")).unwrap(), log);
    assert_good(&sink.chroma());
    let copy = Connection::open(sink.chroma().join(DATABASE)).unwrap();
    let found: i64 = copy
        .query_row(
            "SELECT count(*) FROM tenants WHERE id = 'only in the log'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(found, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_the_barrier_takes_nothing_twice() {
    let (_root, directory) = directory();
    settle().await;
    let (run, sink) = run(DirectorySink::new());
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    for _ in 0..2 {
        source.plan().await.unwrap();
        source.prepare(&run).await.unwrap();
        source.lock(&run).await.unwrap();
        source.release().await;
        assert!(another_process_can_write(&directory));
    }
    let (report, _) = {
        source.lock(&run).await.unwrap();
        (source.stream(&run).await.unwrap(), ())
    };
    assert!(report.chroma.is_some());
    assert!(sink.retracted().is_empty());
    assert_good(&sink.chroma());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_gives_the_lock_up() {
    let (_root, directory) = directory();
    let sink = DirectorySink::new();
    let (run, _) = run(sink);
    let mut source = ChromaSource::new(directory.clone(), ChromaOptions::default());
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    run.cancel.raise();
    let failure = source.stream(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(another_process_can_write(&directory));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_none_is_refused_with_what_was_looked_for() {
    let root = TempDir::new().unwrap();
    let (run, _) = run(DirectorySink::new());
    let mut source = ChromaSource::new(root.path().to_owned(), ChromaOptions::default());
    let failure = source.plan().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(
        failure.to_string().contains("no chroma.sqlite3"),
        "{failure}"
    );
    // Created, but not by Chroma.
    fs::write(root.path().join(DATABASE), b"").unwrap();
    source.plan().await.unwrap();
    source.lock(&run).await.unwrap();
    let failure = source.stream(&run).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.to_string().contains("no such table"), "{failure}");
}
