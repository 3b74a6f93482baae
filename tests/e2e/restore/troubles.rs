//! Full disks and broken networks in the middle of a restore: a clear message, nothing live touched, and
//! the next command succeeds.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::{
    stage::{Place, bundle, source},
    whole::assert_tidy,
};
use crate::{
    failures::{namespace::in_namespace, running::Running},
    support::{
        Random, Run,
        proxy::{Proxy, Trouble},
        run, scratch, seeds, soak,
    },
};

/// Bytes that go to the server in a restore of the sample's rows, roughly.
const USUAL: u64 = 5 << 20;

fn changed() -> Place {
    let place = Place::copy();
    place.sql(
        "UPDATE ai_message SET content = 'former'; DELETE FROM ai_token_usage WHERE id % 2 = 0",
    );
    place
}

/// What the rows are after an undisturbed restore.
fn expected() -> String {
    let place = changed();
    let ended = run(place.rows(bundle()).args(["--mode", "replace"]));
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    place.every_row()
}

/// A restore of rows by way of the proxy.
fn rows_by(place: &Place, proxy: &Proxy) -> Command {
    let port = |port: u16| format!(":{port}/");
    let url = place.url();
    let url = url.replace(&port(source().server.port()), &port(proxy.port()));
    assert!(url.contains(&port(proxy.port())), "{url}");
    let mut command = place.command(bundle());
    command.args([
        "--components",
        "models",
        "--odoo-db",
        &url,
        "--mode",
        "replace",
        "--json",
    ]);
    command
}

#[track_caller]
fn finish(command: &mut Command, what: &str) -> Run {
    let ended = run(command);
    assert!(matches!(ended.code, Some(0 | 3)), "{what}: {ended:?}");
    assert_eq!(ended.json()["proof"]["holds"], true, "{what}: {ended:?}");
    ended
}

#[test]
fn a_connection_that_is_cut_anywhere_loses_nothing() {
    let expected = expected();
    for seed in seeds(soak(3, 25)) {
        let bytes = Random(seed).below(USUAL);
        let what = format!("seed {seed}: cut after {bytes} bytes");
        let place = changed();
        let before = place.every_row();
        let proxy = Proxy::start(source().server.port(), bytes, Trouble::Cut);
        let ended = run(&mut rows_by(&place, &proxy));
        let cut = proxy.is_troubled();
        proxy.mend();
        println!("{what}: exit {:?}", ended.code);
        match ended.code {
            Some(0 | 3) if !cut => continue,
            // Live, and its proof or its tidying was cut off.
            Some(7) | Some(0 | 3) => assert!(
                ended.code != Some(7) || ended.stderr.contains("help: "),
                "{what}: {ended:?}"
            ),
            _ => panic!("{what}: {ended:?}"),
        }
        let now = place.every_row();
        assert!(
            now == before || now == expected,
            "{what}: neither old nor new"
        );
        finish(&mut rows_by(&place, &proxy), &what);
        assert!(place.every_row() == expected, "{what}");
        assert_tidy(&place);
    }
}

#[test]
fn a_connection_that_stalls_is_given_up_when_the_user_says_so() {
    let expected = expected();
    for seed in seeds(soak(2, 25)) {
        let bytes = Random(500 + seed).below(USUAL);
        let what = format!("seed {seed}: stalled after {bytes} bytes");
        let place = changed();
        let proxy = Proxy::start(source().server.port(), bytes, Trouble::Stall);
        let mut running = Running::start(&mut rows_by(&place, &proxy));
        while !proxy.is_troubled() && !running.has_ended() {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(500));
        if !running.has_ended() {
            running.signal("INT");
            thread::sleep(Duration::from_secs(1));
            if !running.has_ended() {
                // The second one does not wait for a rollback.
                running.signal("INT");
            }
            let ended = running.end(Duration::from_secs(30));
            assert_eq!(ended.code, Some(130), "{what}: {ended:?}");
        }
        proxy.mend();
        println!("{what}");
        finish(&mut rows_by(&place, &proxy), &what);
        assert!(place.every_row() == expected, "{what}");
        assert_tidy(&place);
    }
}

#[test]
fn a_full_disk_of_files_and_vectors_is_told_and_the_next_run_succeeds() {
    for seed in seeds(soak(3, 25)) {
        // The check sees that too little is free; so it fills up only after it.
        let kib = 300 + Random(seed).below(12_000);
        let place = Place::copy();
        let small = scratch("small");
        let mut command = place.command(bundle());
        command.args([
            "--components",
            "filestore,chroma",
            "--odoo-db",
            &place.url(),
            "--json",
        ]);
        command.arg("--filestore").arg(small.join("filestore"));
        command.arg("--chroma").arg(small.join("chroma_data"));
        let script = format!(
            "mount -t tmpfs -o size=64m none '{0}' || exit 99\n\
             ( i=0; while [ $i -lt 1000 ] && [ ! -e '{0}/filestore' ] && [ ! -e '{0}'/chroma_data.arkstream_* ]; do i=$((i+1)); sleep 0.01; done; \
               mount -o remount,size={kib}k '{0}' ) &\n\
             \"$@\" >/dev/null; code=$?; wait\n\
             if [ $code = 8 ]; then mount -o remount,size=1g '{0}'; \"$@\"; code=$?; fi\n\
             [ -e '{0}/chroma_data/chroma.sqlite3' ] || code=98\nexit $code",
            small.display()
        );
        let ended = run(&mut in_namespace(&script, &command));
        assert!(matches!(ended.code, Some(0 | 3)), "{kib} KiB: {ended:?}");
        println!("{kib} KiB: whole");
    }
}

/// A small disk for the server's tables.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(kib: u64) -> Self {
        let folder = scratch("tablespace");
        let options = format!("size={kib}k,mode=0777");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&folder);
        run(&mut mount).ok();
        // The server insists on a folder of its own.
        let server = std::fs::metadata(source().server.data_dir()).expect("a folder");
        std::os::unix::fs::chown(&folder, Some(server.uid()), Some(server.gid())).expect("root");
        Self(folder)
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.0)).ok();
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_of_the_server_is_told_and_the_next_run_succeeds() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: mounting a small disk for the server takes root");
        return;
    }
    let expected = expected();
    for seed in seeds(soak(2, 25)) {
        let kib = 400 + Random(seed).below(16_000);
        let what = format!("seed {seed}: {kib} KiB");
        let disk = SmallDisk::mount(kib);
        let place = changed();
        let before = place.every_row();
        let (server, name) = (&source().server, format!("small_{seed}"));
        for sql in [
            format!(
                "CREATE TABLESPACE {name} LOCATION '{}'",
                disk.path().display()
            ),
            format!("GRANT CREATE ON TABLESPACE {name} TO PUBLIC"),
            format!(
                "ALTER DATABASE {} SET default_tablespace = {name}",
                place.database
            ),
        ] {
            server.psql("postgres", &sql).expect("psql");
        }
        let restore = || {
            let mut command = place.rows(bundle());
            command.args(["--mode", "replace", "--json"]);
            command
        };
        let ended = run(&mut restore());
        println!("{what}: exit {:?}", ended.code);
        match ended.code {
            Some(0 | 3) => {}
            Some(8) => {
                assert!(
                    place.every_row() == before,
                    "{what}: live rows were touched"
                );
                disk.resize("1g");
                finish(&mut restore(), &what);
            }
            _ => panic!("{what}: {ended:?}"),
        }
        assert!(place.every_row() == expected, "{what}");
        assert_tidy(&place);
        place.forget();
        for sql in [
            format!("DROP DATABASE {}", place.database),
            format!("DROP TABLESPACE {name}"),
        ] {
            server.psql("postgres", &sql).expect("psql");
        }
    }
}
