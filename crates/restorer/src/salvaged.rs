//! Salvaged bundles: what a restore must not do with them, and their `metadata.json`.

use arkstream_format::{
    Component, DatabaseInfo, ExportStatus, FORMAT_VERSION, Manifest, Member, Metadata, Omission,
};
use arkstream_pipeline::{Failure, FailureKind};

/// Most names in a message.
const NAMED: usize = 5;

/// The wanted components that a salvaged bundle does not have whole. They are refused: a restore of
/// a part would look like a restore of the whole.
pub(crate) fn lost(manifest: &Manifest, wanted: &[Component]) -> Vec<Failure> {
    let Some(salvage) = &manifest.salvage else {
        return Vec::new();
    };
    let hurt = |component: &&Component| salvage.hurts(**component);
    let intact: Vec<&str> = wanted
        .iter()
        .filter(|component| !hurt(component))
        .map(|component| component.name())
        .collect();
    let extract = "what is there can be read from the files that `arkstream extract` gives";
    let help = match intact.is_empty() {
        true => format!("restore from another bundle; {extract}"),
        false => format!(
            "restore what is whole with --components {}; {extract}",
            intact.join(",")
        ),
    };
    let refused = wanted.iter().filter(hurt).map(|component| {
        let names: Vec<&str> = salvage
            .lost
            .iter()
            .filter(|lost| {
                let of_all = [Some(Component::Description), None];
                lost.component == Some(*component) || of_all.contains(&lost.component)
            })
            .map(|lost| lost.member.as_deref().unwrap_or("a part without a name"))
            .collect();
        let mut why = format!(
            "the bundle was salvaged from {}, which had lost {}",
            salvage.source,
            names
                .iter()
                .take(NAMED)
                .copied()
                .collect::<Vec<_>>()
                .join(", ")
        );
        if names.len() > NAMED {
            why.push_str(&format!(" and {} more", names.len() - NAMED));
        }
        if !salvage.described {
            why.push_str("; the descriptions that a restore needs are lost as well");
        }
        let attempted = format!("restore the component {component}");
        Failure::new(FailureKind::Damaged, attempted, why).help(help.clone())
    });
    refused.collect()
}

/// The `metadata.json` of a salvaged bundle: the damaged one's, if that is left, with what is lost and
/// the checksum of what is there. Where nothing is lost it is the old one, byte for byte.
///
/// # Errors
/// Only if serialisation fails, which no value of these types does.
pub fn salvaged_metadata(
    original: Option<&[u8]>,
    manifest: &Manifest,
    members: &[Member],
) -> Result<Vec<u8>, Failure> {
    let checksum = Manifest::checksum_of(members);
    let parsed = original.and_then(|bytes| serde_json::from_slice::<Metadata>(bytes).ok());
    let whole = manifest.salvage.as_ref().is_none_or(|s| s.lost.is_empty());
    if let (Some(bytes), Some(metadata)) = (original, &parsed)
        && whole
        && metadata.checksum == checksum
    {
        return Ok(bytes.to_vec());
    }
    let mut metadata = parsed.unwrap_or_else(|| unknown(manifest));
    metadata.checksum = checksum;
    metadata.run_id = manifest.run_id.clone();
    metadata.export_errors = manifest.omissions.iter().map(line).collect();
    if !manifest.omissions.is_empty() {
        metadata.export_status = ExportStatus::Partial;
    }
    serde_json::to_vec_pretty(&metadata)
        .map_err(|error| Failure::new(FailureKind::Internal, "write metadata.json", error))
}

fn line(omission: &Omission) -> String {
    let Omission {
        component,
        what,
        reason,
    } = omission;
    format!("{component}: {what}: {reason}")
}

/// Of a bundle whose `metadata.json` is lost. No restore takes it for another Odoo's: the version is
/// none.
fn unknown(manifest: &Manifest) -> Metadata {
    let taken_at = manifest.generations.last().map(|last| last.taken_at);
    Metadata {
        backup_version: FORMAT_VERSION.to_owned(),
        timestamp: taken_at.unwrap_or(manifest.started_at),
        backup_type: "partial".to_owned(),
        odoo_version: "unknown".to_owned(),
        module_versions: Default::default(),
        database_info: DatabaseInfo::default(),
        model_counts: Default::default(),
        model_import_order: Vec::new(),
        file_sizes: Default::default(),
        export_duration_seconds: 0,
        export_status: ExportStatus::Partial,
        export_errors: Vec::new(),
        checksum: String::new(),
        run_id: manifest.run_id.clone(),
        arkstream_version: manifest.generator.version.clone(),
        database_uuid: None,
    }
}
