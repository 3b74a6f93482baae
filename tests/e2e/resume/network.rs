//! A network that is cut or stalls after any number of bytes.

use std::{path::Path, process::Command, thread, time::Duration};

use super::verified;
use crate::{
    failures::running::Running,
    support::{
        Random, Stack,
        proxy::{Proxy, Trouble},
        run, scratch, seeds, soak,
    },
    values::compare,
};

/// Bytes that a backup of the sample moves, roughly.
const USUAL: u64 = 4 << 20;

/// A backup by way of the proxy.
fn backup(database: &str, proxy: &Proxy, out: &Path) -> Command {
    let stack = Stack::shared();
    let url = format!(
        "host=127.0.0.1 port={} dbname={database} user=postgres password={}",
        proxy.port(),
        stack.server.password()
    );
    stack.backup_from(&url, &stack.chroma, out)
}

fn finish(database: &str, proxy: &Proxy, out: &Path, what: &str) {
    let ended = run(backup(database, proxy, out).arg("--json")).ok();
    let bundle = verified(out, &ended);
    let found = compare(&bundle, database);
    assert_eq!(found["difference_count"], 0, "{what}: {found:#}");
}

#[test]
fn a_connection_that_is_cut_anywhere_costs_a_retry_or_a_run() {
    let database = Stack::shared().fresh_database();
    for seed in seeds(soak(3, 25)) {
        let mut random = Random(seed);
        let bytes = random.below(USUAL);
        let proxy = Proxy::start(Stack::shared().server.port(), bytes, Trouble::Cut);
        let out = scratch("cut").join("bundle.zip");
        let what = format!("seed {seed}: cut after {bytes} bytes");
        let mut command = backup(&database, &proxy, &out);
        // Half of them are mended while the run still waits.
        let patient = random.below(2) == 0;
        command.args(["--retry-for", if patient { "60s" } else { "1s" }]);
        let mut running = Running::start(&mut command);
        while !proxy.is_troubled() && !running.has_ended() {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(1500));
        if patient {
            proxy.mend();
        }
        let ended = running.end(Duration::from_secs(120));
        proxy.mend();
        match ended.code {
            Some(0) => {}
            // What was not reached from the start is not retried.
            Some(7) => assert!(ended.stderr.contains("help: "), "{what}: {ended:?}"),
            _ => panic!("{what}: {ended:?}"),
        }
        if !out.exists() {
            finish(&database, &proxy, &out, &what);
        }
        println!("{what}: exit {:?}", ended.code);
    }
}

#[test]
fn a_connection_that_stalls_can_be_interrupted_and_the_next_run_goes_on() {
    let database = Stack::shared().fresh_database();
    for seed in seeds(soak(2, 25)) {
        let bytes = Random(1000 + seed).below(USUAL);
        let proxy = Proxy::start(Stack::shared().server.port(), bytes, Trouble::Stall);
        let out = scratch("stall").join("bundle.zip");
        let what = format!("seed {seed}: stalled after {bytes} bytes");
        let mut running = Running::start(&mut backup(&database, &proxy, &out));
        while !proxy.is_troubled() && !running.has_ended() {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(500));
        if !running.has_ended() {
            running.signal("INT");
            let ended = running.end(Duration::from_secs(30));
            assert_eq!(ended.code, Some(130), "{what}: {ended:?}");
        }
        proxy.mend();
        if !out.exists() {
            finish(&database, &proxy, &out, &what);
        }
        println!("{what}");
    }
}
