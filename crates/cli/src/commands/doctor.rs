//! `arkstream doctor`: everything that would stop a backup, all at once.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use arkstream_pipeline::Failure;
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
    lines: Vec<(Verdict, String, String)>,
    first_bad: Option<Code>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Bad,
}

impl Findings {
    fn good(&mut self, what: &str, how: impl Into<String>) {
        self.lines
            .push((Verdict::Good, what.to_owned(), how.into()));
    }

    fn note(&mut self, what: &str, how: impl Into<String>) {
        self.lines
            .push((Verdict::Note, what.to_owned(), how.into()));
    }

    fn bad(&mut self, what: &str, failure: &Failure) {
        self.first_bad.get_or_insert(Code::of(failure));
        let help = failure.advice().map(|help| format!(" ({help})"));
        let how = format!("{failure}{}", help.unwrap_or_default());
        self.lines.push((Verdict::Bad, what.to_owned(), how));
    }

    /// The exit code: that of the first thing that is wrong.
    fn code(&self) -> Code {
        self.first_bad.unwrap_or(Code::Complete)
    }

    fn is_bad(&self) -> bool {
        self.lines
            .iter()
            .any(|(verdict, ..)| *verdict == Verdict::Bad)
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
                        findings.good(
                            &name,
                            format!("{} items, {}", plan.items.len(), units::size(plan.bytes())),
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
    #[cfg(unix)]
    {
        if let Err(error) = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK) {
            let failure = Failure::io(
                arkstream_pipeline::FailureKind::Refused,
                format!("write to {shown}"),
                error.into(),
            );
            return findings.bad(name, &failure);
        }
        if let Ok(space) = rustix::fs::statvfs(folder) {
            let free = space.f_bavail * space.f_frsize;
            return findings.good(name, format!("{shown}, {} free", units::size(free)));
        }
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
            .lines
            .iter()
            .map(|(verdict, what, how)| json!({"verdict": word(*verdict).to_lowercase(), "what": what, "how": how}))
            .collect();
        return output::print_json(&json!({ "ready": !findings.is_bad(), "findings": list }));
    }
    let rows: Vec<Vec<String>> = findings
        .lines
        .iter()
        .map(|(verdict, what, how)| vec![word(*verdict).to_owned(), what.clone(), how.clone()])
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
