//! Bundles in the hands of others: unpackers, `arkstream` itself, people who read the instructions.

mod archives;
mod commands;
mod flips;
mod instructions;
mod page;
mod report;
mod salvage;
mod terminal;
mod trace;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use crate::support::{Bundle, Stack, arkstream, run, scratch, sh};

/// Bytes of the large file in [`large_bundle`]: three whole chunks and five bytes.
const LARGE: usize = 3 * (4 << 20) + 5;

/// Numbers without order, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A bundle of one small model, below 300 KB, that a test may damage a copy of.
fn small_bundle() -> &'static Path {
    static SMALL: OnceLock<PathBuf> = OnceLock::new();
    SMALL.get_or_init(|| {
        let stack = Stack::shared();
        let path = scratch("small").join("bundle.zip");
        let mut command = rows_alone(&stack.url(&stack.odoo), &path);
        run(command.args(["--models", "ai.conversation.tag,n8n.menu.debug"])).ok();
        let bytes = std::fs::metadata(&path).expect("the bundle").len();
        assert!(bytes < 300_000, "{bytes}");
        path
    })
}

/// A backup of the Odoo database's rows to `out`, without its other systems.
fn rows_alone(url: &str, out: &Path) -> Command {
    let mut command = arkstream();
    command.args(["backup", "--json", "--progress", "none", "--odoo-db", url]);
    command.args(["--no-filestore", "--no-graph", "--no-chroma"]);
    command.arg("--out").arg(out);
    command
}

/// A bundle with a file of [`LARGE`] bytes that do not compress: chunks of equal length.
fn large_bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let stack = Stack::shared();
        let database = stack.fresh_database();
        let folder = scratch("large");
        let filestore = folder.join("filestore");
        let mut random = Random(0x5EED);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(LARGE).collect();
        std::fs::write(folder.join("file"), &bytes).expect("a file");
        let sum = sh(&folder, "sha1sum file").stdout;
        let name = sum.split(' ').next().expect("a sum").to_owned();
        sh(&folder, &format!("mkdir -p filestore/{0} && mv file filestore/{0}/{name}", &name[..2]));
        let sql = format!(
            "INSERT INTO ir_attachment (id, name, res_model, res_id, type, store_fname, file_size, checksum) \
             VALUES (800000, 'large', 'ai.conversation.tag', 1, 'binary', '{}/{name}', {LARGE}, '{name}')",
            &name[..2]
        );
        stack.server.psql(&database, &sql).expect("an attachment");
        let path = folder.join("bundle.zip");
        let mut command = arkstream();
        command.args(["backup", "--json", "--progress", "none", "--no-graph", "--no-chroma"]);
        command.args(["--models", "ai.conversation.tag", "--odoo-db", &stack.url(&database)]);
        let run = run(command.arg("--filestore").arg(&filestore).arg("--out").arg(&path)).ok();
        Bundle::open(path, run.json(), run.stderr)
    })
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn members(manifest: &Value) -> &Vec<Value> {
    manifest["members"].as_array().expect("a list")
}
