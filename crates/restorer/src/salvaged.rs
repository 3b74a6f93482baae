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
        based_on: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use arkstream_format::{Generator, LostMember, RunId, Salvage};

    use super::*;

    fn manifest(lost: &[(&str, Component)]) -> Manifest {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        Manifest {
            salvage: Some(Salvage {
                source: "damaged.zip".into(),
                source_bytes: 9,
                source_run_id: None,
                at,
                described: true,
                proven_by_crc: Vec::new(),
                lost: lost
                    .iter()
                    .map(|(name, component)| LostMember {
                        member: Some((*name).to_owned()),
                        component: Some(*component),
                        rows: None,
                        ranges: Vec::new(),
                        pieces: Vec::new(),
                    })
                    .collect(),
            }),
            ..Manifest::empty(RunId("2".into()), Generator::new("test", "0"), at)
        }
    }

    #[test]
    fn only_components_that_lost_something_are_refused() {
        let wanted = [Component::Models, Component::Chroma];
        let manifest = manifest(&[("databases/chroma_data/x", Component::Chroma)]);
        let refused = lost(&manifest, &wanted);
        let [failure] = refused.as_slice() else {
            panic!("{refused:?}");
        };
        assert!(
            failure.to_string().contains("component chroma"),
            "{failure}"
        );
        assert!(failure.why().contains("databases/chroma_data/x"));
        assert!(failure.advice().unwrap().contains("--components models"));
    }

    #[test]
    fn metadata_stays_byte_for_byte_where_nothing_is_lost() {
        let none = manifest(&[]);
        let first = salvaged_metadata(None, &none, &[]).unwrap();
        let spaced = [first.as_slice(), b"  "].concat();
        assert_eq!(
            salvaged_metadata(Some(&spaced), &none, &[]).unwrap(),
            spaced
        );
        let mut some = manifest(&[("a", Component::Models)]);
        some.omissions.push(Omission {
            component: Component::Models,
            what: "a".into(),
            reason: "lost".into(),
        });
        let told = salvaged_metadata(Some(&spaced), &some, &[]).unwrap();
        let told: Metadata = serde_json::from_slice(&told).unwrap();
        assert_eq!(told.export_errors, ["models: a: lost"]);
        assert_eq!(told.export_status, ExportStatus::Partial);
    }
}
