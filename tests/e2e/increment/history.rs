//! The server between the older bundle and the new one: restarted, or set back.

use std::path::Path;

use serde_json::Value;

use super::{NEWEST, add_messages, copied, kept, messages, new_out, verified};
use crate::{
    support::{Bundle, Stack, StackOptions, run, scratch, sh},
    values::compare_on,
};
use arkstream_sample::StopMode;

struct World {
    stack: Stack,
    saved: std::path::PathBuf,
}

impl World {
    fn new() -> Self {
        let stack = Stack::new(StackOptions {
            graph: false,
            chroma: false,
            ..Default::default()
        });
        add_messages(&stack, &stack.odoo);
        Self {
            stack,
            saved: scratch("saved").join("data"),
        }
    }

    fn sql(&self, sql: &str) {
        self.stack.server.psql(&self.stack.odoo, sql).expect(sql);
    }

    fn backup(&self, base: Option<&Path>) -> Bundle {
        let out = new_out();
        let mut command = self.stack.backup_of(&self.stack.odoo, &out);
        command.args(["--memory", "32MiB", "--jobs", "2", "--json"]);
        if let Some(base) = base {
            command.arg("--base").arg(base);
        }
        let bundle = verified(&out, &run(&mut command).ok());
        let found = compare_on(&self.stack, &bundle, &self.stack.odoo);
        assert_eq!(found["difference_count"], 0, "{found:#}");
        bundle
    }

    fn data(&self) -> String {
        self.stack.server.data_dir().display().to_string()
    }

    fn save(&self) {
        let (data, saved) = (self.data(), self.saved.display().to_string());
        self.stack.server.stop(StopMode::Fast).expect("it stops");
        sh(Path::new("/"), &format!("cp -a '{data}' '{saved}'"));
        self.stack.server.start_again().expect("it starts");
    }

    fn revert(&self) {
        let (data, saved) = (self.data(), self.saved.display().to_string());
        self.stack.server.stop(StopMode::Fast).expect("it stops");
        let line = format!("rm -r '{data}' && cp -a '{saved}' '{data}'");
        sh(Path::new("/"), &line);
        self.stack.server.start_again().expect("it starts");
    }
}

#[test]
fn after_a_restart_rows_are_compared_and_after_a_revert_no_row_is_wrong() {
    let world = World::new();
    let first = world.backup(None);
    let restart = world.stack.server.restart(StopMode::Fast);
    restart.expect("it starts again");
    world.sql(NEWEST);
    let second = world.backup(Some(&first.path));
    let parts = messages(&second);
    let again = parts.iter().filter(|part| part["generation"] == 2).count();
    assert!((1..=2).contains(&again), "{again} of {}", parts.len());
    assert_eq!(kept(&parts, "content"), parts.len() - again);
    let (whole, all) = copied(&second, "models");
    assert!(whole + again as u64 >= all, "{whole} of {all}");

    // Proven anew by their content, they are trusted again in the server's new history.
    let third = world.backup(Some(&second.path));
    let parts = messages(&third);
    assert_eq!(kept(&parts, "row_versions"), parts.len(), "{parts:#?}");

    // Two histories of one directory: equal counts, hashes, files and transaction ids, other rows.
    world.save();
    world.sql("UPDATE ai_message SET content = 'first history' WHERE id % 10 = 3");
    let of_the_first = world.backup(Some(&third.path));
    world.revert();
    world.sql("UPDATE ai_message SET content = 'second histor' WHERE id % 10 = 3");
    let of_the_second = world.backup(Some(&of_the_first.path));
    let parts: Vec<Value> = messages(&of_the_second);
    assert_eq!(kept(&parts, "row_versions"), 0, "{parts:#?}");
    assert!(kept(&parts, "content") < parts.len(), "{parts:#?}");
}
