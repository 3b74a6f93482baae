//! Looking into bundles: `ls`, `show`, `cat`, `extract`; and `schema`.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
};

use serde_json::{Value, json};

use arkstream_bundle::{BundleFile, extract_member};
use arkstream_format::{Manifest, Member, member_names, schemas};
#[cfg(debug_assertions)]
use arkstream_pipeline::fault;
use arkstream_pipeline::{BundleReader, Failure, FailureKind, words::nearest};

use crate::{
    args::{BundleArgs, CatArgs, ExtractArgs, WithJson},
    commands::base,
    exit::Code,
    output, settings, units,
};

/// Most references that `show` prints.
const SHOWN: usize = 12;

/// `arkstream ls`
pub(crate) fn ls(args: &BundleArgs) -> Result<Code, Failure> {
    let bundle = BundleFile::open(&args.bundle)?;
    let members = &bundle.manifest().members;
    if args.json {
        let list: Vec<Value> = members.iter().map(member_json).collect();
        output::print_json(&json!({ "members": list, "file_bytes": bundle.file_len() }))?;
        return Ok(Code::Complete);
    }
    let rows: Vec<Vec<String>> = members
        .iter()
        .map(|member| {
            vec![
                member.rows.map(|rows| rows.to_string()).unwrap_or_default(),
                units::size(member.raw_len),
                units::size(member.stored_len),
                ratio(member.raw_len, member.stored_len),
                member.modified_at.format("%Y-%m-%d %H:%M").to_string(),
                member.name.clone(),
            ]
        })
        .collect();
    let mut text = output::table(
        &[">rows", ">size", ">stored", ">ratio", "modified", "member"],
        &rows,
    );
    let sum = |of: fn(&Member) -> u64| members.iter().map(of).sum::<u64>();
    let _ = writeln!(
        text,
        "\n{} members, {} rows, {} in a file of {} ({})",
        members.len() + 1,
        sum(|m| m.rows.unwrap_or(0)),
        units::size(sum(|m| m.raw_len)),
        units::size(bundle.file_len()),
        ratio(sum(|m| m.raw_len), bundle.file_len())
    );
    output::print(&text)?;
    Ok(Code::Complete)
}

fn ratio(raw: u64, stored: u64) -> String {
    match raw {
        0 => String::new(),
        raw => format!("{:.0}%", stored as f64 * 100.0 / raw as f64),
    }
}

fn member_json(member: &Member) -> Value {
    json!({
        "name": member.name,
        "component": member.component,
        "compression": member.compression,
        "rows": member.rows,
        "raw_bytes": member.raw_len,
        "stored_bytes": member.stored_len,
        "ratio": member.stored_len as f64 / member.raw_len.max(1) as f64,
        "chunks": member.chunks.len(),
        "crc32": member.crc32,
        "digest": member.digest,
        "modified_at": member.modified_at,
    })
}

/// `arkstream show`
pub(crate) fn show(args: &BundleArgs) -> Result<Code, Failure> {
    let bundle = BundleFile::open(&args.bundle)?;
    let manifest = bundle.manifest();
    let metadata: Value = serde_json::from_slice(&read_member(&bundle, member_names::METADATA)?)
        .map_err(|error| Failure::new(FailureKind::Damaged, "read metadata.json", error))?;
    if args.json {
        output::print_json(&json!({
            "metadata": metadata,
            "run_id": manifest.run_id,
            "generator": manifest.generator,
            "format_version": manifest.format_version,
            "generations": manifest.generations,
            "bases": manifest.bases,
            "components": manifest.components,
            "omissions": manifest.omissions,
            "references": manifest.references,
            "chroma": manifest.chroma,
            "graph": manifest.graph,
            "salvage": manifest.salvage,
            "dead_bytes": manifest.dead_ranges.iter().map(|range| range.len).sum::<u64>(),
            "file_bytes": bundle.file_len(),
        }))?;
        return Ok(Code::Complete);
    }
    output::print(&describe(&bundle, manifest, &metadata))?;
    Ok(Code::Complete)
}

fn describe(bundle: &BundleFile, manifest: &Manifest, metadata: &Value) -> String {
    let field = |key: &str| metadata[key].as_str().unwrap_or("unknown").to_owned();
    let mut text = String::new();
    let _ = writeln!(text, "bundle       {}", bundle.path().display());
    let _ = writeln!(text, "taken        {}", field("timestamp"));
    let _ = writeln!(
        text,
        "by           {} {}, format {}",
        manifest.generator.name, manifest.generator.version, manifest.format_version
    );
    let _ = writeln!(
        text,
        "status       {}, {}",
        field("backup_type"),
        field("export_status")
    );
    let _ = writeln!(
        text,
        "odoo         {}, {} modules, database {}",
        field("odoo_version"),
        metadata["module_versions"]
            .as_object()
            .map_or(0, |m| m.len()),
        metadata["database_info"]["odoo_database"]
            .as_str()
            .unwrap_or("unknown")
    );
    for generation in &manifest.generations {
        let _ = writeln!(
            text,
            "generation   {}: {}, skew {} ms{}",
            generation.number,
            generation.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
            generation.barrier_skew_ms,
            generation
                .chroma_hold_ms
                .map(|ms| format!(", Chroma held {ms} ms"))
                .unwrap_or_default()
        );
        for snapshot in &generation.snapshots {
            let _ = writeln!(
                text,
                "             {}: PostgreSQL {}, database {}",
                snapshot.component, snapshot.server.version, snapshot.server.database
            );
        }
    }
    if let Some(salvage) = &manifest.salvage {
        let _ = writeln!(
            text,
            "salvaged     {} from {}, {} things lost",
            salvage.at.format("%Y-%m-%d %H:%M:%S UTC"),
            salvage.source,
            salvage.lost.len()
        );
    }
    text.push_str(&base::copied(manifest));
    let rows: Vec<Vec<String>> = manifest
        .components
        .iter()
        .map(|(component, sum)| {
            vec![
                component.to_string(),
                sum.members.to_string(),
                sum.rows.to_string(),
                units::size(sum.raw_bytes),
                units::size(sum.stored_bytes),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&output::table(
        &["component", ">members", ">rows", ">size", ">stored"],
        &rows,
    ));
    let dangling: Vec<_> = manifest
        .references
        .iter()
        .filter(|r| r.dangling > 0)
        .collect();
    if !dangling.is_empty() {
        text.push_str("\nreferences that point nowhere, in the source as in the bundle:\n");
        for reference in dangling.iter().take(SHOWN) {
            let _ = writeln!(
                text,
                "  {} -> {}: {} of {}",
                reference.from, reference.to, reference.dangling, reference.total
            );
        }
        if dangling.len() > SHOWN {
            let _ = writeln!(
                text,
                "  … and {} more (--json has all)",
                dangling.len() - SHOWN
            );
        }
    }
    if manifest.omissions.is_empty() {
        text.push_str("\nnothing was left out\n");
    } else {
        let _ = writeln!(text, "\nleft out ({}):", manifest.omissions.len());
        for omission in &manifest.omissions {
            let _ = writeln!(
                text,
                "  {}: {}: {}",
                omission.component, omission.what, omission.reason
            );
        }
    }
    text
}

fn find<'a>(bundle: &'a BundleFile, name: &str) -> Result<&'a Member, Failure> {
    bundle.member(name).ok_or_else(|| {
        let members = &bundle.manifest().members;
        let names = members.iter().map(|member| member.name.as_str());
        let within = names
            .clone()
            .filter(|member| member.contains(name.trim_matches('/')));
        let mut meant: Vec<&str> = within.take(3).collect();
        if meant.is_empty() {
            meant = nearest(name, names.chain([member_names::MANIFEST]));
        }
        let failure = Failure::new(
            FailureKind::Usage,
            format!("find the member {name}"),
            "the bundle has none of that name",
        );
        match meant.as_slice() {
            [] => failure.help("`arkstream ls BUNDLE` lists the members"),
            near => failure.help(format!("did you mean {}?", near.join(" or "))),
        }
    })
}

/// The bytes of a member that is known to be small.
pub(crate) fn read_member(bundle: &BundleFile, name: &str) -> Result<Vec<u8>, Failure> {
    let member = find(bundle, name)?;
    let mut bytes = Vec::new();
    copy_member(bundle, member, &mut bytes)?;
    Ok(bytes)
}

fn copy_member(bundle: &BundleFile, member: &Member, out: &mut impl Write) -> Result<(), Failure> {
    for index in 0..member.chunks.len() {
        let raw = bundle.read_chunk(member, index).map_err(|finding| {
            Failure::new(
                FailureKind::Damaged,
                format!("read {}", member.name),
                finding,
            )
        })?;
        match out.write_all(&raw) {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome
                .map_err(|error| Failure::io(FailureKind::Refused, "write the output", error))?,
        }
    }
    Ok(())
}

/// `arkstream cat`
pub(crate) fn cat(args: &CatArgs) -> Result<Code, Failure> {
    let bundle = BundleFile::open(&args.bundle)?;
    let mut out = io::stdout().lock();
    if args.member == member_names::MANIFEST {
        let copied = bundle
            .manifest_bytes()
            .and_then(|mut manifest| io::copy(&mut Read::by_ref(&mut manifest), &mut out));
        match copied {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(Failure::io(
                    FailureKind::Refused,
                    "print the manifest",
                    error,
                ));
            }
            _ => {}
        }
    } else {
        copy_member(&bundle, find(&bundle, &args.member)?, &mut out)?;
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(FailureKind::Refused, "write the output", error))
        }
        _ => Ok(Code::Complete),
    }
}

/// `arkstream extract`
pub(crate) fn extract(WithJson { args, json }: &WithJson<ExtractArgs>) -> Result<Code, Failure> {
    let bundle = BundleFile::open(&args.bundle)?;
    let mut wanted: Vec<&Member> = Vec::new();
    let mut with_manifest = args.members.is_empty();
    if args.members.is_empty() {
        wanted.extend(&bundle.manifest().members);
    }
    for name in &args.members {
        if name == member_names::MANIFEST {
            with_manifest = true;
        } else if name.ends_with('/') {
            let below: Vec<_> = bundle
                .manifest()
                .members
                .iter()
                .filter(|member| member.name.starts_with(name.as_str()))
                .collect();
            if below.is_empty() {
                find(&bundle, name)?;
            }
            wanted.extend(below);
        } else {
            wanted.push(find(&bundle, name)?);
        }
    }
    wanted.sort_by_key(|member| member.header_offset);
    wanted.dedup_by_key(|member| member.header_offset);
    let mut bytes: u64 = 0;
    for member in &wanted {
        extract_member(&bundle, member, &args.dir)?;
        bytes += member.raw_len;
    }
    let mut count = wanted.len();
    if with_manifest {
        bundle.extract_manifest(&args.dir)?;
        count += 1;
    }
    if *json {
        output::print_json(&json!({ "dir": args.dir, "members": count, "bytes": bytes }))?;
        return Ok(Code::Complete);
    }
    output::print(&format!(
        "{count} members, {} to {}\n",
        units::size(bytes),
        args.dir.display()
    ))?;
    Ok(Code::Complete)
}

/// `arkstream faults list`
#[cfg(debug_assertions)]
pub(crate) fn faults() -> Result<Code, Failure> {
    for (command, points) in fault::ALL {
        for point in *points {
            output::print(&format!("{command} {point}\n"))?;
        }
    }
    Ok(Code::Complete)
}

fn all_schemas() -> Vec<(&'static str, schemars::Schema)> {
    let mut all = schemas::all();
    all.push(("config", schemars::schema_for!(settings::Settings)));
    all
}

/// `arkstream schema`
pub(crate) fn schema(name: &str) -> Result<Code, Failure> {
    match all_schemas().iter().find(|(known, _)| *known == name) {
        Some((_, schema)) => {
            output::print_json(schema)?;
            Ok(Code::Complete)
        }
        // The command line takes the names that there are.
        None => Err(Failure::new(
            FailureKind::Internal,
            format!("print the schema {name}"),
            "there is none of that name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::SCHEMAS;

    #[test]
    fn the_command_line_takes_every_schema() {
        let names: Vec<_> = all_schemas().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, SCHEMAS);
    }
}
