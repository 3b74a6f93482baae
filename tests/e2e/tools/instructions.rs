//! `restore_instructions.md`: what it says works, without Arkstream.

use std::path::{Path, PathBuf};

use crate::support::{Bundle, GRAPH_NAME, Profile, Stack, python, run, scratch, sh, support_file};

/// The page of a bundle, and a folder in which its commands are followed.
struct Reader {
    page: String,
    folder: PathBuf,
}

impl Reader {
    /// Unpacks the bundle as the page says.
    fn new(bundle: &Bundle) -> Self {
        let page =
            std::fs::read_to_string(bundle.dir.join("restore_instructions.md")).expect("the page");
        let reader = Self {
            page,
            folder: scratch("reader"),
        };
        let unzip = reader.block("Unpack it", "sh", 0);
        let unzip = unzip
            .lines()
            .find(|line| line.starts_with("unzip"))
            .expect("unzip is named");
        reader.follow(&unzip.replace("BUNDLE", &format!("-q '{}'", bundle.path.display())));
        reader
    }

    /// The text below a heading, up to the next one.
    fn section(&self, heading: &str) -> &str {
        let (_, rest) = self
            .page
            .split_once(&format!("## {heading}"))
            .unwrap_or_else(|| panic!("no section {heading}"));
        rest.split("\n## ").next().unwrap_or(rest)
    }

    /// The n-th block of code of a language below a heading.
    fn block(&self, heading: &str, language: &str, n: usize) -> String {
        let fence = format!("```{language}\n");
        let block = self.section(heading).split(&fence).nth(n + 1);
        let block = block.unwrap_or_else(|| panic!("no block {n} of {language} below {heading}"));
        block.split("```").next().expect("a block").to_owned()
    }

    /// Runs commands as a person at the server would: PATH and PG… lead to it.
    fn follow(&self, commands: &str) -> String {
        let server = &Stack::shared().server;
        let line = format!(
            "set -e; export PATH='{}':$PATH PGHOST='{}' PGPORT={} PGUSER=postgres; {commands}",
            server.bin_dir().display(),
            server.socket_dir().display(),
            server.port()
        );
        sh(&self.folder, &line).stdout
    }
}

fn cypher(database: &str, pattern: &str) -> Result<String, String> {
    let sql = format!(
        "LOAD 'age'; SELECT * FROM ag_catalog.cypher('{GRAPH_NAME}', $$MATCH {pattern}$$) AS (n ag_catalog.agtype)"
    );
    Stack::shared()
        .server
        .psql(database, &sql)
        .map_err(|error| error.to_string())
}

#[test]
fn the_page_names_this_bundles_databases_and_versions() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let page =
        std::fs::read_to_string(bundle.dir.join("restore_instructions.md")).expect("the page");
    let version = bundle.json("metadata.json")["database_info"]["postgres_version"].clone();
    for words in [
        "Odoo 18.0",
        &format!("`{}`", stack.odoo),
        &format!("PostgreSQL {}", version.as_str().expect("a text")),
        &format!("-d {}_restored", stack.graph),
        GRAPH_NAME,
        "arkstream verify",
        "sha256sum -c",
        &format!("DATA_DIR/filestore/{}/", stack.odoo),
        "`./chroma_data`",
        "model_list.json",
    ] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    assert!(
        !page.contains("odoo_dump.sql"),
        "there is none in this bundle"
    );
    assert!(
        !page.contains("## What is not in this bundle"),
        "nothing was left out"
    );
}

/// A restored AGE dump has stale OIDs: rows are there, queries fail. The page's SQL repairs it.
#[test]
fn the_graph_is_restored_by_the_pages_commands_and_queries_answer() {
    let stack = Stack::shared();
    let reader = Reader::new(Bundle::shared(Profile::SamAi));
    let heading = "Graph database (Apache AGE)";
    let fix_up = reader.block(heading, "sql", 0);
    std::fs::write(reader.folder.join("age_fix_up.sql"), fix_up).expect("a file");
    let commands = reader.block(heading, "sh", 0);
    let restored = format!("{}_restored", stack.graph);
    assert!(
        commands.contains(&format!("createdb {restored}\n")),
        "{commands}"
    );
    // Other databases take OIDs meanwhile, as on any real server.
    stack
        .server
        .psql(
            "postgres",
            "SELECT lo_create(0) FROM generate_series(1, 50)",
        )
        .expect("OIDs");
    reader.follow(&commands);
    assert_eq!(
        cypher(&restored, "(n) RETURN count(n)"),
        Ok(stack.graph_report.vertices.to_string())
    );
    assert_eq!(
        cypher(&restored, "()-[r]->() RETURN count(r)"),
        Ok(stack.graph_report.edges.to_string())
    );

    // Owners and grants, which the dump lacks.
    std::fs::write(
        reader.folder.join("settings.sql"),
        reader.block(heading, "sql", 1),
    )
    .expect("a file");
    reader.follow(&format!(
        "psql -X -q -v ON_ERROR_STOP=1 -1 -d {restored} -f settings.sql"
    ));

    // Without the fix-up the same dump answers nothing: the page is needed.
    let stale = "graph_without_fix_up";
    reader.follow(&format!(
        "createdb {stale}; psql -X -q -v ON_ERROR_STOP=1 -1 -d {stale} -f restored/databases/postgres_graph_dump.sql"
    ));
    let error = cypher(stale, "(n) RETURN count(n)").expect_err("the OIDs are stale");
    assert!(error.contains("graph with oid"), "{error}");
}

#[test]
fn rows_filestore_and_chroma_are_there_as_the_page_says() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let reader = Reader::new(bundle);
    let query = reader.block("Rows", "sql", 0);
    let script = "import duckdb, sys; print(duckdb.execute(sys.argv[1]).fetchone()[0])";
    let mut duckdb = python();
    let count = run(duckdb
        .args(["-c", script, &query])
        .current_dir(&reader.folder))
    .ok()
    .stdout;
    assert_eq!(count.trim(), stack.ask("SELECT count(*) FROM ai_message"));

    let filestore = reader.folder.join("data_dir/filestore").join(&stack.odoo);
    std::fs::create_dir_all(&filestore).expect("a folder");
    reader.follow(
        &reader
            .block("Filestore", "sh", 0)
            .replace("DATA_DIR", "data_dir"),
    );
    let files = crate::support::files_below(&filestore);
    assert_eq!(
        files,
        crate::support::files_below(&bundle.dir.join("odoo_data/filestore"))
    );

    std::fs::create_dir(reader.folder.join("chroma")).expect("a folder");
    reader.follow(
        &reader
            .block("ChromaDB", "sh", 0)
            .replace("CHROMA_DIR", "chroma"),
    );
    assert!(reader.folder.join("chroma_backup").is_dir());
    check_chroma(&reader.folder.join("chroma"));
}

/// The real ChromaDB opens the directory and finds everything in it.
fn check_chroma(directory: &Path) {
    let mut check = python();
    check.arg(support_file("chroma/check.py")).arg(directory);
    run(check.arg("--truth").arg(&Stack::shared().chroma_truth)).ok();
}

#[test]
fn the_whole_odoo_database_is_restored_by_the_pages_commands() {
    let stack = Stack::shared();
    let path = scratch("odoo-dump").join("bundle.zip");
    let mut command = super::rows_alone(&stack.url(&stack.odoo), &path);
    let run = run(command.args(["--odoo-dump", "--models", "ai.message"])).ok();
    let reader = Reader::new(&Bundle::open(path, run.json(), run.stderr));
    reader.follow(
        &reader
            .block("The whole Odoo database", "sh", 0)
            .replace("psql -X", "psql -X -q"),
    );
    let counts = "SELECT string_agg(format('%s %s', c.relname, (xpath('/row/n/text()', query_to_xml(format(\
        'SELECT count(*) AS n FROM ONLY %I', c.relname), false, true, '')))[1]), ',' ORDER BY c.relname) \
        FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace";
    let restored = stack.server.psql("restored_odoo", counts).expect("psql");
    assert_eq!(restored, stack.ask(counts));
}
