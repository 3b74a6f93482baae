use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder with a script that claims to be that `pg_dump`.
fn fake(root: &Path, folder: &str, says: &str) -> PathBuf {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("pg_dump");
    #[allow(clippy::disallowed_methods)]
    fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn echo(version: &str) -> String {
    format!("echo 'pg_dump (PostgreSQL) {version}'")
}

#[test]
fn versions_are_read_from_what_programs_print() {
    for (text, version) in [
        (
            "pg_dump (PostgreSQL) 15.20 (Debian 15.20-1.pgdg12+1)",
            Some(150_020),
        ),
        ("pg_dump (PostgreSQL) 18.6", Some(180_006)),
        ("pg_dump (PostgreSQL) 9.6.24", Some(90_624)),
        ("pg_dump (PostgreSQL) 18beta1", Some(180_000)),
        ("pg_dump (PostgreSQL) 19devel", Some(190_000)),
        ("pg_dump (EnterpriseDB) 16.1.0", Some(160_001)),
        ("usage: pg_dump", None),
        ("", None),
        ("pg_dump (PostgreSQL) 99999999999.1", None),
    ] {
        assert_eq!(parse_version(text), version, "{text}");
    }
}

#[test]
fn the_newest_that_can_dump_the_server_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let folders = [
        fake(root.path(), "old", &echo("13.4")),
        fake(root.path(), "same", &echo("15.2")),
        fake(root.path(), "newest", &echo("17.1")),
        fake(root.path(), "broken", "exit 127"),
        root.path().join("absent"),
    ];
    let found = search(&folders);
    assert_eq!(found.len(), 4);
    assert_eq!(choose(150_020, found).unwrap().version_num, 170_001);
    assert_eq!(
        choose(130_000, search(&folders[..1])).unwrap().version_num,
        130_004
    );
}

#[test]
fn too_old_ones_are_listed_with_the_package_to_install() {
    let root = tempfile::tempdir().unwrap();
    let folders = [
        fake(root.path(), "old", &echo("13.4")),
        fake(root.path(), "broken", "exit 127"),
    ];
    let failure = choose(160_002, search(&folders)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Source);
    assert!(
        failure
            .why()
            .contains("old/pg_dump (pg_dump (PostgreSQL) 13.4)"),
        "{failure}"
    );
    assert!(
        failure.why().contains("broken/pg_dump (unusable"),
        "{failure}"
    );
    assert!(failure.advice().unwrap().contains("postgresql-client-16"));
    let none = choose(90_600, Vec::new()).unwrap_err();
    assert!(none.advice().unwrap().contains("postgresql-client-9.6"));
}

#[test]
fn places_with_a_version_are_expanded_and_programs_are_found_once() {
    let root = tempfile::tempdir().unwrap();
    fake(root.path(), "pgsql-14/bin", &echo("14.1"));
    fake(root.path(), "pgsql-16/bin", &echo("16.1"));
    fake(root.path(), "other-17/bin", &echo("17.1"));
    let place = format!("{}/pgsql-*/bin", root.path().display());
    let mut folders = expand(&place);
    folders.extend(expand(&place));
    let versions: Vec<u32> = search(&folders)
        .into_iter()
        .map(|tool| tool.unwrap().version_num)
        .collect();
    assert_eq!(versions, [160_001, 140_001]);
}

#[test]
fn debians_wrapper_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let folder = fake(root.path(), "usr", &echo("15.1"));
    let wrapper = root.path().join("pg_wrapper");
    fs::copy(folder.join("pg_dump"), &wrapper).unwrap();
    fs::remove_file(folder.join("pg_dump")).unwrap();
    std::os::unix::fs::symlink(&wrapper, folder.join("pg_dump")).unwrap();
    assert!(search(&[folder]).is_empty());
}

#[test]
fn pg_path_may_name_the_program_itself() {
    let root = tempfile::tempdir().unwrap();
    let folder = fake(root.path(), "x", &echo("99.1"));
    let tool = find_pg_dump(150_000, Some(&folder.join("pg_dump"))).unwrap();
    assert_eq!(tool.version_num, 990_001);
}
