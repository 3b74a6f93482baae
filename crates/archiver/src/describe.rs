//! The members that describe a bundle: model list, metadata, instructions, log.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use arkstream_format::{
    BaseBundle, BasedOn, Component, Compression, Contents, DatabaseInfo, ExportStatus,
    FORMAT_VERSION, Generation, Manifest, Metadata, ModelEntry, ModelStatus, Omission, RunId,
    member_names,
};
use arkstream_pipeline::{
    BundleSink, Failure, FailureKind, MemberFacts, MemberSpec, Run, SourceReport,
};

use crate::instructions;

/// Somebody who knows what the backed-up stack is.
pub trait Describe: Send {
    /// Every model with its status. Asked after the sources have streamed.
    fn model_list(&self) -> Vec<ModelEntry>;

    /// Versions and names. Asked after the sources have streamed.
    fn facts(&self) -> StackFacts;

    /// The run's log so far, without secrets.
    fn log(&self) -> String;
}

/// Versions and names of the stack.
#[derive(Clone, Debug, Default)]
pub struct StackFacts {
    /// First two components of the installed version of `base`.
    pub odoo_version: String,
    /// Installed modules and their versions.
    pub module_versions: BTreeMap<String, String>,
    /// `database.uuid`.
    pub database_uuid: Option<String>,
    /// Where the data came from.
    pub database_info: DatabaseInfo,
}

/// What the drive knows when the sources are done.
pub(crate) struct Finished<'a> {
    pub(crate) run_id: RunId,
    pub(crate) version: &'a str,
    pub(crate) generation: &'a Generation,
    pub(crate) report: SourceReport,
    pub(crate) elapsed: Duration,
    pub(crate) omissions: Vec<Omission>,
}

/// Writes the describing members. Returns the models, for the outcome.
pub(crate) async fn write(
    sink: &dyn BundleSink,
    run: &Run,
    describe: &dyn Describe,
    finished: &Finished<'_>,
) -> Result<Vec<ModelEntry>, Failure> {
    let models = describe.model_list();
    let facts = describe.facts();
    put(
        sink,
        run,
        finished,
        member_names::MODEL_LIST,
        json(&models)?,
    )
    .await?;
    let contents = sink.contents(&run.bases).await?;
    let text = instructions::render(&facts, &models, finished, &contents);
    put(sink, run, finished, member_names::INSTRUCTIONS, text.into()).await?;
    put(
        sink,
        run,
        finished,
        member_names::LOG,
        describe.log().into(),
    )
    .await?;

    // Last: it covers all members before it.
    let contents = sink.contents(&run.bases).await?;
    let metadata = metadata(&facts, &models, finished, contents);
    put(
        sink,
        run,
        finished,
        member_names::METADATA,
        json(&metadata)?,
    )
    .await?;
    Ok(models)
}

fn json(value: &impl serde::Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec_pretty(value)
        .map(Bytes::from)
        .map_err(|error| Failure::new(FailureKind::Internal, "write a JSON document", error))
}

async fn put(
    sink: &dyn BundleSink,
    run: &Run,
    finished: &Finished<'_>,
    name: &str,
    bytes: Bytes,
) -> Result<(), Failure> {
    let spec = MemberSpec {
        name: name.to_owned(),
        component: Component::Description,
        compression: Compression::Deflate,
        modified_at: finished.generation.taken_at,
        mode: 0o600,
        budget: run.budget.clone(),
    };
    sink.put(spec, bytes, MemberFacts::default())
        .await
        .map(drop)
}

fn metadata(
    facts: &StackFacts,
    models: &[ModelEntry],
    finished: &Finished<'_>,
    contents: Contents,
) -> Metadata {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for (component, sum) in &contents.components {
        let key = match component {
            Component::Models => "odoo_data",
            Component::Filestore => "filestore",
            Component::Graph => "postgres_dump",
            Component::Chroma => "chroma_data",
            Component::OdooDump => "odoo_dump",
            Component::Xlsx => "odoo_data_xlsx",
            Component::Description => continue,
        };
        *sizes.entry(key).or_default() += sum.raw_bytes;
    }
    let sums = contents.components.values();
    let stored = sums.map(|sum| sum.stored_bytes).sum();
    sizes.insert("total_zip", stored);

    let complete = [Component::Models, Component::Graph, Component::Chroma]
        .into_iter()
        .all(|component| contents.has(component));
    let mut ordered: Vec<&ModelEntry> = models
        .iter()
        .filter(|model| model.import_order.is_some())
        .collect();
    ordered.sort_by_key(|model| model.import_order);
    Metadata {
        backup_version: FORMAT_VERSION.to_owned(),
        timestamp: finished.generation.taken_at,
        backup_type: if complete { "complete" } else { "partial" }.to_owned(),
        odoo_version: facts.odoo_version.clone(),
        module_versions: facts.module_versions.clone(),
        database_info: facts.database_info.clone(),
        model_counts: models
            .iter()
            .filter(|m| matches!(m.status, ModelStatus::Exported | ModelStatus::Empty))
            .map(|m| (m.model.clone(), m.rows))
            .collect(),
        model_import_order: ordered.into_iter().map(|m| m.model.clone()).collect(),
        file_sizes: sizes
            .into_iter()
            .map(|(key, bytes)| (key.to_owned(), human_size(bytes)))
            .collect(),
        export_duration_seconds: finished.elapsed.as_secs(),
        export_status: if finished.omissions.is_empty() {
            ExportStatus::Success
        } else {
            ExportStatus::Partial
        },
        export_errors: finished.omissions.iter().map(line).collect(),
        checksum: contents.checksum,
        run_id: finished.run_id.clone(),
        arkstream_version: finished.version.to_owned(),
        database_uuid: facts.database_uuid.clone(),
        based_on: contents.bases.into_iter().map(based_on).collect(),
    }
}

fn based_on(base: BaseBundle) -> BasedOn {
    let all = base.copied_sum();
    BasedOn {
        run_id: base.run_id,
        timestamp: base.taken_at,
        members: all.members,
        size: human_size(all.bytes),
    }
}

fn line(omission: &Omission) -> String {
    format!(
        "{}: {}: {}",
        omission.component, omission.what, omission.reason
    )
}

/// A size for people, in the specification's style: `45.2 MB`, powers of 1024.
pub(crate) fn human_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "KB", "MB", "GB"] {
        if size < 1024.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                unit => format!("{size:.1} {unit}"),
            };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TB")
}

/// The manifest, but for what the sink fills in.
pub(crate) fn manifest(finished: Finished<'_>, run: &Run) -> Manifest {
    let mut generations = run.generations.clone();
    generations.push(finished.generation.clone());
    let report = finished.report;
    Manifest {
        generations,
        bases: run.bases.clone(),
        tables: report.tables,
        omissions: finished.omissions,
        references: report.references,
        chroma: report.chroma,
        graph: report.graph,
        ..Manifest::empty(
            finished.run_id,
            arkstream_format::Generator::new("arkstream", finished.version),
            run.begun_at,
        )
    }
}
