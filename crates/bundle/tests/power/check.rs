//! What must hold whenever the power comes back.

use sha2::{Digest as _, Sha256};

use arkstream_bundle::BundleFile;
use arkstream_pipeline::{BundleReader as _, Sink as _};

use crate::{
    claims::Claims,
    disk::{Image, Node, Op, SimDisk},
    script::{CONTINUE, Contents, Promises, finish, open, paths},
};

/// How a crash state was recovered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The bundle had its final name.
    Published,
    /// An unfinished bundle was continued.
    Continued,
    /// There was nothing to continue.
    Nothing,
}

/// Recovers from what is on a disk, and finishes the bundle. Says which promise was broken.
pub(crate) async fn recover(
    disk: &SimDisk,
    contents: &Contents,
    promises: &Promises,
    ops: usize,
) -> Result<Found, String> {
    let before = disk.now();
    if before.names.contains_key(&paths().bundle) {
        is_whole(disk, contents)?;
        let refused = open(disk, CONTINUE).await.err();
        let refused = refused.ok_or("a second run was let in")?;
        if !refused.why().contains("exists already") {
            return Err(format!("told wrongly: {refused}"));
        }
        let after = disk.now();
        if after.file(&paths().bundle) != before.file(&paths().bundle) {
            return Err("the finished bundle was changed".into());
        }
        return Ok(Found::Published);
    }
    if let Some(journal) = before.file(&paths().journal) {
        Claims::of(journal).hold(before.file(&paths().partial).unwrap_or_default())?;
    }
    let (writer, resumed) = open(disk, CONTINUE)
        .await
        .map_err(|failure| format!("it cannot be continued: {failure}"))?;
    let (durable, torn) = promises.after(ops);
    let mut kept = 0;
    if let Some(resumed) = &resumed {
        if !resumed.damaged.is_empty() {
            return Err(format!("damaged: {:?}", resumed.damaged));
        }
        let component = crate::common::spec("", arkstream_format::Compression::Stored).component;
        let earlier = writer.earlier(component).await.unwrap();
        for (name, bytes) in durable {
            let found = earlier.iter().find(|member| member.name == name);
            let found = found.ok_or_else(|| format!("{name} was durable, and is lost"))?;
            if found.raw_len != bytes.len() as u64 {
                return Err(format!("{name} was durable, and is another one"));
            }
            kept += u64::from(contents.get(name).is_some_and(|now| now.bytes == *bytes));
        }
        if let Some((name, bytes)) = torn {
            let there = resumed.torn.as_ref().filter(|(found, _)| found == name);
            // Or it is finished by now.
            let whole = earlier.iter().any(|member| member.name == name);
            if !whole && there.is_none_or(|(_, found)| *found < bytes) {
                return Err(format!(
                    "{bytes} bytes of {name} were durable, and are lost"
                ));
            }
        }
    } else if !durable.is_empty() || torn.is_some() {
        return Err("all that was durable is lost".into());
    }
    let published = finish(writer, contents)
        .await
        .map_err(|failure| format!("it cannot be finished: {failure}"))?;
    if published.kept.members < kept {
        return Err(format!("{} members kept of {kept}", published.kept.members));
    }
    is_whole(disk, contents)?;
    let (base, log) = disk.history();
    is_never_touched_once_named(&base, &log)?;
    let files = disk.now().names.into_keys().skip(1);
    let left = files.filter(|path| ![&paths().bundle, &paths().sha256].contains(&path));
    if let Some(path) = left.into_iter().next() {
        return Err(format!("{} is left behind", path.display()));
    }
    Ok(match resumed {
        Some(_) => Found::Continued,
        None => Found::Nothing,
    })
}

/// The bundle has its final name, is complete, and is what it should be.
pub(crate) fn is_whole(disk: &SimDisk, contents: &Contents) -> Result<(), String> {
    let bundle = BundleFile::open_on(disk, &paths().bundle)
        .map_err(|failure| format!("under its final name: {failure}"))?;
    let findings = bundle.check_framing();
    if !findings.is_empty() {
        return Err(format!("under its final name: {findings:?}"));
    }
    let members = &bundle.manifest().members;
    if members.len() != contents.len() {
        let names: Vec<_> = members.iter().map(|member| &member.name).collect();
        return Err(format!("the bundle has {names:?}"));
    }
    for (name, shape) in contents {
        let member = bundle
            .member(name)
            .ok_or_else(|| format!("{name} is lost"))?;
        let mut at = 0;
        for index in 0..member.chunks.len() {
            let chunk = bundle
                .read_chunk(member, index)
                .map_err(|finding| format!("{finding:?}"))?;
            if shape.bytes.get(at..at + chunk.len()) != Some(&chunk) {
                return Err(format!("{name} is not what was written"));
            }
            at += chunk.len();
        }
        if at != shape.bytes.len() {
            return Err(format!("{name} is too short"));
        }
    }
    let now = disk.now();
    let bytes = now.file(&paths().bundle).unwrap_or_default();
    let sum: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = format!("{sum}  bundle.zip\n");
    match now.file(&paths().sha256) {
        Some(found) if found == expected.as_bytes() => Ok(()),
        Some(found) => Err(format!(
            "the checksum file says {:?}",
            String::from_utf8_lossy(found)
        )),
        None => Err("there is no checksum file beside the bundle".into()),
    }
}

/// Nothing is done to a bundle, nor to its name, after it has its final name.
pub(crate) fn is_never_touched_once_named(base: &Image, log: &[Op]) -> Result<(), String> {
    let bundle = paths().bundle;
    let mut named = match base.names.get(&bundle) {
        Some(Node::File(inode)) => Some(*inode),
        _ => None,
    };
    for op in log {
        let touched = match op {
            Op::Write { inode, .. } | Op::Resize { inode, .. } => named == Some(*inode),
            Op::Rename { to, .. } => named.is_some() && *to == bundle,
            Op::Unlink { path, .. } | Op::Create { path, .. } => *path == bundle,
            _ => false,
        };
        if touched {
            return Err(format!("{op:?} after the bundle had its name"));
        }
        if let Op::Rename { to, inode, .. } = op
            && *to == bundle
        {
            named = Some(*inode);
        }
    }
    Ok(())
}
