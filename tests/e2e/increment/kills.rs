//! Killed while it copies out of an older bundle, and continued with it, without it, upon another.

use std::collections::BTreeMap;

use super::{NEWEST, backup, database, full, hold_the_same, let_files_settle, new_out, verified};
use crate::{
    support::{Random, Stack, faults, run, seeds, soak},
    values::compare,
};

#[test]
fn killed_upon_an_older_bundle_it_goes_on_with_it_and_without_it() {
    let stack = Stack::shared();
    let database = database();
    let_files_settle();
    let first = full(&database);
    stack.server.psql(&database, NEWEST).expect(NEWEST);
    let second = full(&database);
    let sql = "DELETE FROM ai_message WHERE id % 3000 = 0";
    stack.server.psql(&database, sql).expect(sql);
    let at_once = full(&database);
    let found = compare(&at_once, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    // How many points a run reaches.
    let bases = [None, Some(&first.path), Some(&second.path)];
    let steps = soak(vec![1], vec![0, 1, 2])
        .into_iter()
        .map(|number: usize| {
            let base = bases[number];
            let mut command = backup(&database, &new_out());
            if let Some(base) = base {
                command.arg("--base").arg(base);
            }
            let trace = faults::traced(&mut command);
            run(&mut command).ok();
            (number, faults::reached(&trace).values().sum::<u64>())
        });
    let steps: BTreeMap<usize, u64> = steps.collect();
    // How the run begins and how it is continued: without, upon the first, upon the second.
    let chosen = soak(vec![(1, 1), (1, 0)], {
        (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect()
    });
    for seed in seeds(soak(1, 10)) {
        let mut random = Random(seed);
        for (begun, continued) in &chosen {
            let out = new_out();
            let command = |base: usize| {
                let mut command = backup(&database, &out);
                if let Some(base) = bases[base] {
                    command.arg("--base").arg(base);
                }
                command
            };
            let steps = steps[begun];
            let mut killed = command(*begun);
            let hit = steps / 10 + random.below(steps * 7 / 10);
            faults::at(&mut killed, "*", hit, "kill");
            run(&mut killed);
            assert!(!out.exists(), "it was not killed");
            let ended = run(&mut command(*continued)).ok();
            assert!(!ended.json()["resumed"].is_null());
            let bundle = verified(&out, &ended);
            let what = format!("seed {seed}: {begun} then {continued}");
            hold_the_same(&bundle, &at_once);
            let named = bundle.json("manifest.json")["bases"]
                .as_array()
                .map_or(0, Vec::len);
            let mut used = vec![*begun, *continued];
            used.retain(|base| *base > 0);
            used.dedup();
            assert_eq!(named, used.len(), "{what}");
            println!("{what}: whole");
        }
    }
}
