//! The commands of the documentation, run as they are written: on a machine that has the paths which
//! they name, as seen from a mount namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failures::namespace::in_namespace;
use crate::support::{Stack, StackOptions, arkstream, run, scratch};

/// A root folder of one's own: everything of the system's, and beside it what the documents name.
const ROOT: &str = r#"
set -e
new=$1 stack=$2 work=$3; shift 3
mount -t tmpfs none "$new"
for entry in /*; do
  name=${entry#/}
  case $name in
    etc) cp -a /etc "$new/etc" ;;
    backup | srv | mnt) ;;
    *)
      if [ -L "$entry" ]; then cp -a "$entry" "$new/$name"
      elif [ -d "$entry" ]; then mkdir "$new/$name"; mount --rbind "$entry" "$new/$name"
      fi ;;
  esac
done
mkdir -p "$new/etc/odoo" "$new/backup" "$new/mnt/usb" "$new/srv/odoo"
cp "$work/odoo.conf" "$new/etc/odoo/odoo.conf"
cp -a "$stack/chroma_data" "$new/srv/odoo/chroma_data"
cp "$work/bundle.zip" "$new/backup/sam_ai_complete_backup_20260101_020000.zip"
cp "$work/bundle.zip" "$new/backup/monday.zip"
cp "$work/bundle.zip" "$new/mnt/usb/latest.zip"
exec chroot "$new" "$@"
"#;

/// What stands in the working folder before a document is followed.
const FILES: &str = "
cp bundle.zip backup.zip
cp bundle.zip tuesday.zip
mkdir demo
cp bundle.zip demo/bundle.zip
head -c $(($(stat -c %s bundle.zip) * 2 / 3)) bundle.zip >backup.zip.partial
";

/// Commands of `arkstream` in the shell blocks of a document, with their continued lines.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in text.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut command = String::new();
        for line in block.lines() {
            command.push_str(line);
            match line.ends_with('\\') {
                true => command.push('\n'),
                false => found.push(std::mem::take(&mut command)),
            }
        }
    }
    found.retain(|command| command.starts_with("arkstream "));
    found
}

/// Names of restores are drawn, and what is left out is up to the reader.
fn can_be_run(command: &str) -> bool {
    !command.contains("5d1c0f4c2b1e4a77") && !command.contains('…')
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "docs/guide"] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|end| end == "md"));
    found.sort();
    found
}

#[test]
fn each_command_of_the_documentation_runs_as_written() {
    let stack = Stack::new(StackOptions::default());
    let bundle = scratch("documented").join("bundle.zip");
    run(&mut stack.backup_command(&bundle)).ok();
    let mut seen = 0;
    for document in documents() {
        let commands = commands(&fs::read_to_string(&document).unwrap());
        let (run_now, left): (Vec<_>, Vec<_>) = commands.iter().partition(|c| can_be_run(c));
        assert!(left.len() <= 3, "{left:?}");
        if run_now.is_empty() {
            continue;
        }
        seen += run_now.len();
        follow(&stack, &bundle, &document, &run_now);
    }
    assert!(seen > 25, "only {seen} commands were found");
}

fn follow(stack: &Stack, bundle: &Path, document: &Path, commands: &[&String]) {
    let work = scratch("documented-work");
    fs::create_dir_all(work.join("root")).unwrap();
    fs::hard_link(bundle, work.join("bundle.zip")).unwrap();
    fs::write(work.join("odoo.conf"), odoo_conf(stack)).unwrap();
    let mut script = format!("cd {}\n{FILES}", work.display());
    for command in commands {
        let shown = command.replace('\'', "'\\''");
        script.push_str(&format!(
            "echo '>>> {shown}'\n{command}\ncode=$?\n\
             [ $code = 0 ] || [ $code = {} ] || {{ echo \"it ended with $code\"; exit 1; }}\n",
            // What a torn file does not hold is told by the exit code.
            if command.contains("rescued") { 3 } else { 0 }
        ));
    }
    let program = arkstream();
    let folder = Path::new(program.get_program()).parent().unwrap();
    let mut shell = Command::new(work.join("root"));
    shell.arg(stack.chroma.parent().unwrap()).arg(&work);
    shell.args(["sh", "-c", &script]);
    let mut outer = in_namespace(ROOT, &shell);
    let path = std::env::var("PATH").unwrap_or_default();
    outer
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("HOME", &work)
        // Where Odoo is started: the sample's settings name a folder beside it.
        .env("ARKSTREAM_CHROMA_BASE", "/srv/odoo")
        .env("ARKSTREAM_STATE_DIR", work.join("state"))
        .env("PGPORT", stack.server.port().to_string())
        .env("PGPASSWORD", stack.server.password())
        .env("ARKSTREAM_PROGRESS", "none");
    let ended = run(&mut outer);
    assert_eq!(
        ended.code,
        Some(0),
        "{}:\n{}\n{}",
        document.display(),
        ended.stdout,
        ended.stderr
    );
}

fn odoo_conf(stack: &Stack) -> String {
    format!(
        "[options]\ndb_host = 127.0.0.1\ndb_port = {}\ndb_user = postgres\ndb_password = {}\n\
         db_name = {}\ndata_dir = {}\n",
        stack.server.port(),
        stack.server.password(),
        stack.odoo,
        stack.data_dir().display()
    )
}
