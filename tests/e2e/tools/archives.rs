//! Any unzip tool opens a bundle.

use std::{collections::BTreeSet, path::Path};

use crate::support::{Bundle, Profile, python, run, scratch, sh};

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn in_its_folder(bundle: &Path, line: &str) -> String {
    let folder = bundle.parent().expect("a folder");
    let name = bundle.file_name().expect("a name").to_string_lossy();
    sh(folder, &line.replace("BUNDLE", &name)).stdout
}

fn bundles() -> [&'static Bundle; 3] {
    [
        Bundle::shared(Profile::SamAi),
        Bundle::shared(Profile::All),
        super::large_bundle(),
    ]
}

#[test]
fn unzip_tests_and_lists_every_member() {
    for bundle in bundles() {
        let tested = in_its_folder(&bundle.path, "unzip -t BUNDLE");
        assert!(tested.contains("No errors detected"), "{tested}");
        let listed = lines(&in_its_folder(&bundle.path, "unzip -Z1 BUNDLE"));
        assert_eq!(listed, bundle.members().into_iter().collect());
    }
}

#[test]
fn seven_zip_tests_every_member() {
    for bundle in bundles() {
        let tested = in_its_folder(&bundle.path, "7z t BUNDLE");
        assert!(tested.contains("Everything is Ok"), "{tested}");
        let files = tested.lines().find_map(|line| line.strip_prefix("Files: "));
        assert_eq!(
            files.map(str::trim),
            Some(&*bundle.members().len().to_string()),
            "{tested}"
        );
    }
}

#[test]
fn bsdtar_lists_and_unpacks_every_member() {
    for bundle in bundles() {
        let members: BTreeSet<String> = bundle.members().into_iter().collect();
        assert_eq!(
            lines(&in_its_folder(&bundle.path, "bsdtar -tf BUNDLE")),
            members
        );
        // From a pipe it cannot seek to the directory, and reads headers and descriptors alone.
        assert_eq!(
            lines(&in_its_folder(&bundle.path, "cat BUNDLE | bsdtar -tf -")),
            members
        );
        let folder = scratch("bsdtar");
        sh(&folder, &format!("bsdtar -xf '{}'", bundle.path.display()));
        sh(&folder, &format!("diff -r . '{}'", bundle.dir.display()));
    }
}

#[test]
fn pythons_zipfile_reads_every_member() {
    let script = "import json, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
print(json.dumps({i.filename: [i.file_size, i.external_attr >> 16 & 0o777] for i in archive.infolist()}))";
    for bundle in bundles() {
        let found = run(python().args(["-c", script]).arg(&bundle.path))
            .ok()
            .json();
        assert_eq!(
            found.as_object().map(|o| o.len()),
            Some(bundle.members().len())
        );
        for member in super::members(&bundle.json("manifest.json")) {
            let name = super::text(&member["name"]);
            assert_eq!(found[name][0], member["raw_len"], "{name}");
            assert_eq!(found[name][1], member["mode"], "{name}");
        }
    }
}

#[test]
fn sha256sum_checks_the_sidecar() {
    for bundle in bundles() {
        let checked = in_its_folder(&bundle.path, "sha256sum -c BUNDLE.sha256");
        assert!(checked.ends_with(": OK\n"), "{checked}");
        let line = in_its_folder(&bundle.path, "cat BUNDLE.sha256");
        assert_eq!(line.split(' ').next(), bundle.report["sha256"].as_str());
    }
}

/// The whole bundle moves with its checksum: the sidecar names the file, not its path.
#[test]
fn bundle_and_sidecar_can_be_moved_together() {
    let bundle = Bundle::shared(Profile::SamAi);
    let folder = scratch("moved");
    sh(
        &folder,
        &format!(
            "cp '{0}' '{0}.sha256' . && sha256sum -c *.sha256",
            bundle.path.display()
        ),
    );
}
