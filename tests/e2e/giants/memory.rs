//! The budget is a promise.

use super::{GIANT, LARGE, MIB, PROGRAM, fingerprint, large, new_out, put, verified, weighed};
use crate::{
    restore::stage::Place,
    support::{arkstream, soak},
};

/// One bundle at each budget: written, verified, restored, every value equal.
#[test]
fn values_larger_than_the_memory_travel_and_come_back_within_it() {
    let place = Place::copy();
    put(&place, soak(LARGE, GIANT));
    let expected = fingerprint(&place);
    for mib in soak(vec![32], vec![32, 64, 256]) {
        let memory = format!("{mib}MiB");
        let limit = mib * MIB + PROGRAM;
        let out = new_out();
        let (ended, peak) = weighed(&mut super::backup(&place, &out, &memory));
        assert!(peak <= limit, "backup within {memory}: {peak}");
        let (_, peak) = weighed(arkstream().args(["verify", "--progress", "none"]).arg(&out));
        // It has no option of its own; it takes no more than the smallest budget.
        assert!(peak <= 32 * MIB + PROGRAM, "verify: {peak}");

        let target = Place::copy();
        let mut restore = target.rows(&out);
        restore.args(["--mode", "replace", "--memory", &memory, "--jobs", "2"]);
        let (_, peak) = weighed(&mut restore);
        assert!(peak <= limit, "restore within {memory}: {peak}");
        assert_eq!(fingerprint(&target), expected, "{memory}");

        let report = serde_json::from_str(&ended.stdout).expect("a report");
        let bundle = verified(&out, report);
        assert!(large(&bundle).len() >= 4, "{:?}", large(&bundle));
        std::fs::remove_file(&out).expect("the bundle");
    }
}
