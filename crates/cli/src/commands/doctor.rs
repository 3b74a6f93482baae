//! `arkstream doctor`: everything that would stop a backup, all at once.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use arkstream_pipeline::{Failure, FailureKind, os};
use arkstream_postgres::{ConnectSpec, Session, all_pg_dumps, find_pg_dump, server_info};

use crate::{
    args::DoctorArgs,
    commands::backup::output_folder,
    exit::Code,
    logging::LogBuffer,
    output,
    settings::Settings,
    sources::{self, Places},
    units,
};

/// What was looked at, and how it is.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    first_bad: Option<Code>,
}

struct Finding {
    verdict: Verdict,
    what: String,
    how: String,
    /// What `how` says rounded, for programs.
    exact: Vec<(&'static str, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Bad,
}

impl Findings {
    fn add(
        &mut self,
        verdict: Verdict,
        what: &str,
        how: impl Into<String>,
        exact: &[(&'static str, u64)],
    ) {
        self.list.push(Finding {
            verdict,
            what: what.to_owned(),
            how: how.into(),
            exact: exact.to_vec(),
        });
    }

    fn good(&mut self, what: &str, how: impl Into<String>) {
        self.add(Verdict::Good, what, how, &[]);
    }

    fn good_exactly(&mut self, what: &str, how: String, exact: &[(&'static str, u64)]) {
        self.add(Verdict::Good, what, how, exact);
    }

    fn note(&mut self, what: &str, how: impl Into<String>) {
        self.add(Verdict::Note, what, how, &[]);
    }

    fn bad(&mut self, what: &str, failure: &Failure) {
        self.first_bad.get_or_insert(Code::of(failure));
        let help = failure.advice().map(|help| format!(" ({help})"));
        let how = format!("{failure}{}", help.unwrap_or_default());
        self.add(Verdict::Bad, what, how, &[]);
    }

    /// The exit code: that of the first thing that is wrong.
    fn code(&self) -> Code {
        self.first_bad.unwrap_or(Code::Complete)
    }

    fn is_bad(&self) -> bool {
        self.list.iter().any(|found| found.verdict == Verdict::Bad)
    }
}

pub(crate) async fn run(mut args: DoctorArgs) -> Result<Code, Failure> {
    let settings = Settings::read(args.sources.config.as_deref())?;
    settings.fill(&mut args.sources)?;
    args.out = args.out.or(settings.out.clone());
    let mut findings = Findings::default();
    match sources::discover(&args.sources).await {
        Ok(places) => look_at(&args, &places, &mut findings).await,
        Err(failure) => findings.bad("sources", &failure),
    }
    look_at_tools(&args, &mut findings);
    look_at_output(&output_folder(args.out.as_deref()), &mut findings);
    print(&args, &findings)?;
    Ok(findings.code())
}

async fn look_at(args: &DoctorArgs, places: &Places, findings: &mut Findings) {
    look_at_server("odoo database", &places.odoo, args, places, findings).await;
    match &places.graph {
        Some(graph) => look_at_server("graph database", graph, args, places, findings).await,
        None => findings.note("graph database", "none"),
    }
    match &places.filestore {
        Some(dir) => findings.good("filestore", dir.display().to_string()),
        None => findings.note("filestore", "left out"),
    }
    match &places.chroma {
        Some(dir) => findings.good("chroma", dir.display().to_string()),
        None => findings.note("chroma", "none"),
    }
    for note in &places.notes {
        findings.note("discovery", note);
    }
    // Planning looks at every table, file and directory, as a backup would.
    match sources::open(&args.sources, LogBuffer::default()).await {
        Err(failure) => findings.bad("plan", &failure),
        Ok(mut stack) => {
            for source in &mut stack.sources {
                let name = format!("plan of {}", source.component());
                match source.plan().await {
                    Ok(plan) => {
                        let (items, bytes) = (plan.items.len(), plan.bytes());
                        findings.good_exactly(
                            &name,
                            format!("{items} items, {}", units::size(bytes)),
                            &[("items", items as u64), ("bytes", bytes)],
                        );
                        for note in &plan.notes {
                            findings.note(&name, note);
                        }
                    }
                    Err(failure) => findings.bad(&name, &failure),
                }
            }
        }
    }
}

async fn look_at_server(
    name: &str,
    spec: &ConnectSpec,
    args: &DoctorArgs,
    places: &Places,
    findings: &mut Findings,
) {
    let session = match Session::connect(spec, "arkstream doctor").await {
        Ok(session) => session,
        Err(failure) => return findings.bad(name, &failure),
    };
    let info = match server_info(session.client()).await {
        Ok(info) => info,
        Err(failure) => return findings.bad(name, &failure),
    };
    findings.good(
        name,
        format!("{}, PostgreSQL {}", spec.describe(), info.version),
    );
    let dumped = name == "graph database" || args.sources.odoo_dump;
    if dumped {
        let tool_name = format!("pg_dump for the {name}");
        match find_pg_dump(info.version_num, places.pg_path.as_deref()) {
            Ok(tool) => findings.good(
                &tool_name,
                format!("{} ({})", tool.path.display(), tool.version_text),
            ),
            Err(failure) => findings.bad(&tool_name, &failure),
        }
    }
}

fn look_at_tools(args: &DoctorArgs, findings: &mut Findings) {
    for tool in all_pg_dumps(args.sources.pg_path.as_deref()) {
        findings.note(
            "pg_dump found",
            format!("{} ({})", tool.path.display(), tool.version_text),
        );
    }
}

fn look_at_output(folder: &Path, findings: &mut Findings) {
    let name = "output folder";
    let shown = folder.display();
    if let Err(error) = os::check_folder_writable(folder) {
        let attempted = format!("write to {shown}");
        let failure = Failure::io(FailureKind::Refused, attempted, error);
        return findings.bad(name, &failure);
    }
    if os::user().is_none() {
        let how =
            "this system has no owner and mode: bundles may be read by whoever may read the folder";
        findings.note(name, how);
    }
    if let Ok(Some(os::Space { free, .. })) = os::free_space(folder) {
        let how = format!("{shown}, {} free", units::size(free));
        return findings.good_exactly(name, how, &[("free_bytes", free)]);
    }
    findings.good(name, shown.to_string());
}

fn print(args: &DoctorArgs, findings: &Findings) -> Result<(), Failure> {
    let word = |verdict| match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "BAD",
    };
    if args.json {
        let list: Vec<Value> = findings
            .list
            .iter()
            .map(|found| {
                let verdict = word(found.verdict).to_lowercase();
                let mut told = json!({ "verdict": verdict, "what": found.what, "how": found.how });
                for (key, number) in &found.exact {
                    told[*key] = json!(number);
                }
                told
            })
            .collect();
        return output::print_json(&json!({ "ready": !findings.is_bad(), "findings": list }));
    }
    let rows: Vec<Vec<String>> = findings
        .list
        .iter()
        .map(|found| {
            vec![
                word(found.verdict).to_owned(),
                found.what.clone(),
                found.how.clone(),
            ]
        })
        .collect();
    let mut text = output::table(&["", "what", "how"], &rows);
    let _ = writeln!(
        text,
        "\n{}",
        if findings.is_bad() {
            "a backup would fail or be incomplete"
        } else {
            "ready for a backup"
        }
    );
    output::print(&text)
}
