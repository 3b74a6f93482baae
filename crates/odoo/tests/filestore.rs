//! Files of a sample Odoo's filestore, streamed as a backup streams them.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use arkstream_format::Component;
use arkstream_odoo::{FilestoreOptions, Odoo, OdooOptions};
use arkstream_pipeline::{Event, FailureKind, Observer, Run, Source};

use common::{MemorySink, Stack, backup, omitted, select, whole};

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(format!("{}/.", dir.display()))
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(status.success());
    copy
}

#[tokio::test]
async fn the_filestore_is_exactly_what_travelling_attachments_name() {
    let stack = Stack::shared();
    let backup = whole(&stack).await;
    let names: BTreeSet<String> = backup
        .sink
        .names("odoo_data/filestore/")
        .into_iter()
        .collect();
    let plan = stack.plan(&select("sam_ai", &[], &[])).await.unwrap();
    let expected = stack.ask(&format!(
        "string_agg(DISTINCT 'odoo_data/filestore/' || t.store_fname, ' ') {} AND t.store_fname IS NOT NULL",
        plan.rows("ir_attachment")
    ));
    assert_eq!(names, expected.split(' ').map(str::to_owned).collect());
    assert!(
        names.len() < usize::try_from(stack.report.filestore_files).unwrap(),
        "others' files stay behind"
    );
    for name in &names {
        let file = stack
            .filestore
            .path()
            .join(name.strip_prefix("odoo_data/filestore/").unwrap());
        assert_eq!(
            backup.sink.bytes(name),
            std::fs::read(&file).unwrap(),
            "{name}"
        );
        let metadata = file.metadata().unwrap();
        let member = backup.sink.member(name);
        assert_eq!(member.mode, metadata.permissions().mode() & 0o7777);
        assert_eq!(
            member.modified_at,
            chrono::DateTime::<chrono::Utc>::from(metadata.modified().unwrap())
        );
    }
    assert!(
        backup.run.omissions().is_empty(),
        "{:?}",
        backup.run.omissions()
    );
}

#[tokio::test]
async fn orphans_are_counted_and_copied_only_on_request() {
    #[derive(Default)]
    struct Notes(std::sync::Mutex<Vec<String>>);
    impl Observer for Notes {
        fn event(&self, event: &Event) {
            if let Event::Note(note) = event {
                self.0.lock().unwrap().push(note.clone());
            }
        }
    }
    let stack = Stack::shared();
    assert!(!stack.report.filestore_orphans.is_empty());
    for include in [false, true] {
        let odoo = Odoo::new(
            stack.spec(),
            OdooOptions {
                selection: select("all", &[], &[]),
                ..OdooOptions::default()
            },
        );
        let sink = MemorySink::default();
        let notes = std::sync::Arc::new(Notes::default());
        let run = Run::new(
            std::sync::Arc::new(sink.clone()),
            notes.clone(),
            Default::default(),
            arkstream_pipeline::Budget::new(16 << 20),
            3,
        );
        let mut files = odoo.filestore(FilestoreOptions {
            dir: stack.filestore.path().to_owned(),
            include_orphans: include,
        });
        let mut models = odoo.models();
        models.plan().await.unwrap();
        models.lock(&run).await.unwrap();
        models.snapshot(&run).await.unwrap();
        files.stream(&run).await.unwrap();
        models.release().await;
        let named = stack
            .ask("count(DISTINCT store_fname) FROM ir_attachment")
            .parse::<usize>()
            .unwrap();
        let on_disk = usize::try_from(stack.report.filestore_files).unwrap();
        let orphans = stack.report.filestore_orphans.len() + on_disk - named;
        let found = stack
            .report
            .filestore_orphans
            .iter()
            .filter(|name| {
                !sink
                    .names(&format!("odoo_data/filestore/{name}"))
                    .is_empty()
            })
            .count();
        assert_eq!(
            found,
            if include {
                stack.report.filestore_orphans.len()
            } else {
                0
            }
        );
        let taken = named + if include { orphans } else { 0 };
        assert_eq!(sink.names("odoo_data/filestore/").len(), taken);
        let notes = notes.0.lock().unwrap().join("\n");
        assert!(
            notes.contains(&format!("{orphans} files that no attachment names")),
            "{notes}"
        );
    }
}

#[tokio::test]
async fn vanished_mismatched_and_outlying_files_are_omissions() {
    let stack = Stack::build();
    let store = copy_of(stack.filestore.path());
    let names = stack.ask(
        "string_agg(DISTINCT store_fname, ' ') FROM ir_attachment WHERE store_fname IS NOT NULL AND res_model = 'ai.conversation'",
    );
    let mut names = names.split(' ');
    let (gone, changed, linked) = (
        names.next().unwrap(),
        names.next().unwrap(),
        names.next().unwrap(),
    );
    std::fs::remove_file(store.path().join(gone)).unwrap();
    std::fs::write(store.path().join(changed), "something else").unwrap();
    std::fs::remove_file(store.path().join(linked)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", store.path().join(linked)).unwrap();
    stack
        .server
        .psql(
            common::DATABASE,
            "INSERT INTO ir_attachment (name, type, res_model, res_id, store_fname) \
             VALUES ('bad', 'binary', 'ai.conversation', 1, '../../../etc/passwd'), \
                    ('worse', 'binary', 'ai.conversation', 1, '/etc/passwd'); SELECT 1",
        )
        .unwrap();
    let backup = backup(&stack, select("sam_ai", &[], &[]), store.path())
        .await
        .unwrap();
    let omissions: BTreeMap<_, _> = omitted(&backup.run.omissions(), Component::Filestore)
        .into_iter()
        .collect();
    assert_eq!(omissions.len(), 5, "{omissions:?}");
    assert!(omissions[gone].contains("does not have it"));
    assert!(omissions[changed].contains("content does not match its name"));
    assert!(omissions[linked].contains("leads out"));
    assert!(omissions["../../../etc/passwd"].contains("leads out"));
    assert!(omissions["/etc/passwd"].contains("leads out"));
    assert_eq!(
        backup.sink.bytes(&format!("odoo_data/filestore/{changed}")),
        "something else"
    );
    for name in [gone, linked] {
        assert!(
            backup
                .sink
                .names(&format!("odoo_data/filestore/{name}"))
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_missing_filestore_is_an_error_only_if_attachments_need_it() {
    let stack = Stack::shared();
    let nowhere = Path::new("/does/not/exist");
    let failure = match backup(&stack, select("sam_ai", &[], &[]), nowhere).await {
        Err(failure) => failure,
        Ok(_) => panic!("a backup without its files"),
    };
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(failure.to_string().contains("/does/not/exist"), "{failure}");
    let advice = failure.advice().unwrap();
    assert!(
        advice.contains("--filestore") && advice.contains("--no-filestore"),
        "{advice}"
    );
    // These have no attachments.
    let backup = backup(
        &stack,
        select("sam_ai", &["sam.private.note"], &[]),
        nowhere,
    )
    .await
    .unwrap();
    assert!(backup.sink.names("odoo_data/filestore/").is_empty());
}
