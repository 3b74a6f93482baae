//! Rows and filestore of an Odoo as targets, held against what targets promise. They restore a whole
//! bundle, which only the program makes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_bundle::BundleFile;
use arkstream_conformance::target::{self, Targets};
use arkstream_format::{Digest, TargetPlace};
use arkstream_odoo::target::{
    FilestoreTarget, FilestoreTargetOptions,
    models::{Mode, ModelsTarget, ModelsTargetOptions},
};
use arkstream_pipeline::{Budget, Cancel, Restoring, Silent, Target};
use arkstream_postgres::ConnectSpec;
use async_trait::async_trait;

use super::stage::{Place, bundle, source};
use crate::support::{files_below, runtime, soak};

/// A restore of the bundle, by that name.
fn restoring(bundle: &Path, id: &str) -> Restoring {
    Restoring {
        bundle: Arc::new(BundleFile::open(bundle).unwrap()),
        id: id.to_owned(),
        began_at: chrono::Utc::now(),
        continues: false,
        kept: Arc::default(),
        observer: Arc::new(Silent),
        cancel: Cancel::default(),
        budget: Budget::new(64 << 20),
        jobs: 2,
    }
}

fn spec(place: &Place) -> ConnectSpec {
    ConnectSpec::parse(&place.url()).unwrap()
}

/// The rows of a live Odoo that has moved on since.
struct Rows(Place);

impl Rows {
    fn options() -> ModelsTargetOptions {
        ModelsTargetOptions {
            mode: Some(Mode::Replace),
            ..ModelsTargetOptions::default()
        }
    }
}

#[async_trait]
impl Targets for Rows {
    fn restoring(&self, id: &str) -> Restoring {
        restoring(bundle(), id)
    }

    async fn make(&self, restoring: &Restoring) -> Box<dyn Target> {
        let target = ModelsTarget::new(spec(&self.0), &restoring.id, Self::options());
        Box::new(target)
    }

    async fn reopen(&self, place: &TargetPlace, _id: &str) -> Box<dyn Target> {
        Box::new(ModelsTarget::reopen(place, spec(&self.0), Self::options()).unwrap())
    }

    async fn keeps_others_out(&self) -> bool {
        let mut other = ModelsTarget::new(spec(&self.0), "0000000000000new", Self::options());
        other.claim().await.is_err()
    }

    async fn live(&self) -> String {
        Digest::of(self.0.every_row_of_tables().as_bytes()).to_string()
    }

    async fn beside(&self) -> String {
        self.0
            .sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'arkstream%' ORDER BY 1")
    }
}

#[test]
fn rows_are_a_target() {
    let place = Place::copy();
    place.sql(
        "UPDATE ai_message SET content = content || ' changed' WHERE id % 50 = 0; \
         DELETE FROM ai_message WHERE id % 70 = 1",
    );
    runtime().block_on(target::suite(&Rows(place), soak(1, usize::MAX)));
}

/// A filestore that lacks files of the bundle, whose attachments are gone.
struct Files(Place);

impl Files {
    fn options(&self) -> FilestoreTargetOptions {
        FilestoreTargetOptions {
            state_dir: self.0.state.clone(),
            connection: Some(spec(&self.0)),
        }
    }
}

#[async_trait]
impl Targets for Files {
    fn restoring(&self, id: &str) -> Restoring {
        restoring(bundle(), id)
    }

    async fn make(&self, restoring: &Restoring) -> Box<dyn Target> {
        let folder = self.0.filestore.clone();
        Box::new(FilestoreTarget::new(folder, &restoring.id, self.options()).unwrap())
    }

    async fn reopen(&self, place: &TargetPlace, id: &str) -> Box<dyn Target> {
        Box::new(FilestoreTarget::reopen(place, id, Some(spec(&self.0))).unwrap())
    }

    async fn keeps_others_out(&self) -> bool {
        // As a stranger does, for the claims of one process are one.
        let folder = fs::File::open(&self.0.filestore).unwrap();
        matches!(folder.try_lock(), Err(fs::TryLockError::WouldBlock))
    }

    async fn live(&self) -> String {
        let files = files_below(&self.0.filestore).into_iter();
        let seen = files.filter(|name| !name.starts_with('.')).map(|name| {
            let bytes = fs::read(self.0.filestore.join(&name)).unwrap();
            format!("{name} {}", Digest::of(&bytes))
        });
        seen.collect::<Vec<_>>().join("\n")
    }

    async fn beside(&self) -> String {
        let names = |folder: &PathBuf| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let hidden = names(&self.0.filestore)
            .into_iter()
            .filter(|name| name.starts_with('.'));
        let mut beside: Vec<String> = hidden.chain(names(&self.0.state)).collect();
        beside.sort();
        beside.join("\n")
    }
}

#[test]
fn a_filestore_is_a_target() {
    let place = Place::copy();
    fs::create_dir_all(&place.state).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&source().filestore)
        .arg(&place.filestore)
        .status();
    assert!(copied.unwrap().success());
    let bundle = BundleFile::open(bundle()).unwrap();
    let members = arkstream_pipeline::BundleReader::manifest(&bundle)
        .members
        .iter();
    let names = members.filter_map(|member| member.name.strip_prefix("odoo_data/filestore/"));
    for name in names.step_by(7) {
        fs::remove_file(place.filestore.join(name)).unwrap();
        place.sql(&format!(
            "DELETE FROM ir_attachment WHERE store_fname = '{name}'"
        ));
    }
    runtime().block_on(target::suite(&Files(place), soak(2, usize::MAX)));
}
