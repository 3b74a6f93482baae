//! What a restore would do, and what it did: for people, for programs, and as a page beside the
//! bundle.

use std::{fmt::Write as _, path::PathBuf};

use serde_json::{Value, json};

use arkstream_format::Component;
use arkstream_pipeline::{Failure, FailureKind, Lost, Proof, TargetPlan};
use arkstream_restorer::{Restored, unmapped};

use crate::{
    args::RestoreArgs,
    exit::{self, Code},
    output, units,
};

type Plans = [(Component, TargetPlan)];

/// Sums over all tables.
struct Sums {
    inserted: u64,
    updated: u64,
    deleted: u64,
    unchanged: u64,
}

fn sums(plans: &Plans) -> Sums {
    let tables = || plans.iter().flat_map(|(_, plan)| &plan.tables);
    Sums {
        inserted: tables().map(|table| table.inserted).sum(),
        updated: tables().map(|table| table.updated).sum(),
        deleted: tables().map(|table| table.deleted).sum(),
        unchanged: tables().map(|table| table.unchanged).sum(),
    }
}

/// Ends a dry run.
pub(super) fn dry_run(
    args: &RestoreArgs,
    plans: &Plans,
    warnings: &[String],
) -> Result<Code, Failure> {
    if args.json {
        let mut plan = counts(plans);
        plan["components"] = components_json(plans);
        plan["warnings"] = json!(warnings);
        plan["refused"] = json!(refused(plans).map(ToString::to_string));
        output::print_json(&json!({ "plan": plan }))?;
    } else {
        output::print(&format!("{}\nnothing was changed\n", plan_text(plans)))?;
    }
    if let Some(failure) = refused(plans) {
        exit::report(failure);
        return Ok(Code::of(failure));
    }
    Ok(code_of(plans))
}

/// Why the restore itself would be refused.
pub(super) fn refused(plans: &Plans) -> Option<&Failure> {
    plans.iter().find_map(|(_, plan)| plan.refused.as_ref())
}

fn code_of(plans: &Plans) -> Code {
    let dropped = plans
        .iter()
        .flat_map(|(_, plan)| &plan.tables)
        .any(|table| !table.columns_dropped.is_empty());
    if unmapped(plans) > 0 || dropped {
        Code::LeftOut
    } else {
        Code::Complete
    }
}

/// A plan for people.
pub(super) fn plan_text(plans: &Plans) -> String {
    let mut text = String::new();
    for (component, plan) in plans {
        let _ = writeln!(text, "{component}:");
        let changing: Vec<Vec<String>> = plan
            .tables
            .iter()
            .filter(|t| t.inserted + t.updated + t.deleted + t.renumbered > 0)
            .map(|t| {
                vec![
                    t.model.clone().unwrap_or_else(|| t.table.clone()),
                    t.inserted.to_string(),
                    t.updated.to_string(),
                    t.deleted.to_string(),
                    t.unchanged.to_string(),
                    t.renumbered.to_string(),
                ]
            })
            .collect();
        if !changing.is_empty() {
            text.push_str(&output::table(
                &[
                    "model or table",
                    ">insert",
                    ">update",
                    ">delete",
                    ">unchanged",
                    ">new ids",
                ],
                &changing,
            ));
        }
        let still = plan.tables.len() - changing.len();
        if still > 0 {
            let _ = writeln!(text, "{still} tables do not change");
        }
        if plan.files_added + plan.files_present > 0 {
            let _ = writeln!(
                text,
                "{} files to write ({}), {} are there",
                plan.files_added,
                units::size(plan.file_bytes),
                plan.files_present
            );
        }
        for table in &plan.tables {
            if !table.columns_dropped.is_empty() {
                let _ = writeln!(
                    text,
                    "left out: {} has no column {}",
                    table.table,
                    table.columns_dropped.join(", ")
                );
            }
            if !table.columns_missing.is_empty() {
                let _ = writeln!(
                    text,
                    "{}: the bundle has no column {}; it keeps its value or takes its default",
                    table.table,
                    table.columns_missing.join(", ")
                );
            }
        }
        for reference in plan.references.iter().filter(|r| r.unmapped > 0) {
            let fate = match reference.lost {
                Lost::Emptied => "are emptied",
                Lost::RowLeftOut => "are lost, and their rows are left out",
                Lost::Kept => "lead to other records or nowhere, and stay as they are",
            };
            let _ = writeln!(
                text,
                "{} references from {} to {} {fate}, such as {}",
                reference.unmapped,
                reference.from,
                reference.to,
                reference.examples.join("; ")
            );
        }
        for reach in &plan.reach {
            let _ = writeln!(
                text,
                "deletions reach {} rows of {} by {} ({})",
                reach.rows, reach.table, reach.key, reach.rule
            );
        }
        for line in plan.switch.iter().chain(&plan.notes) {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    text
}

/// Ends a restore.
pub(super) fn finished(
    args: &RestoreArgs,
    components: &[Component],
    restored: &Restored,
    resumed: Option<u64>,
) -> Result<Code, Failure> {
    let report = args.report.clone().unwrap_or_else(|| {
        let mut name = args.bundle.as_os_str().to_owned();
        name.push(format!(".restore-{}.md", restored.id));
        PathBuf::from(name)
    });
    let page = page(args, restored);
    // The restore is live; a report that cannot be written must not make it look failed.
    let written = arkstream_bundle::durable::write_atomically(&report, page.as_bytes());
    let sums = sums(&restored.plans);
    if args.json {
        let mut object = counts(&restored.plans);
        object["restore_id"] = json!(restored.id);
        object["components"] = components_json(&restored.plans);
        object["proof"] = json!({
            "holds": restored.is_proven(),
            "compared": restored.proofs.iter().map(proof_json).collect::<Vec<_>>(),
        });
        object["duration_seconds"] = json!(restored.elapsed.as_secs_f64());
        object["resumed"] = match resumed {
            Some(kept) => json!({ "kept_members": kept }),
            None => Value::Null,
        };
        object["report"] = json!(report);
        output::print_json(&object)?;
    } else {
        let names: Vec<&str> = components.iter().map(|c| c.name()).collect();
        let mut text = format!(
            "restored {} in {}: {} rows inserted, {} updated, {} deleted, {} unchanged\n",
            names.join(", "),
            units::duration(restored.elapsed),
            sums.inserted,
            sums.updated,
            sums.deleted,
            sums.unchanged
        );
        if let Some(kept) = resumed {
            let _ = writeln!(
                text,
                "{kept} members had been loaded before the interruption and were not loaded again"
            );
        }
        let unmapped = restored.unmapped();
        if unmapped > 0 {
            let _ = writeln!(
                text,
                "{unmapped} references did not find their records; the report lists them"
            );
        }
        for (component, proof) in restored.proofs.iter().filter(|(_, proof)| !proof.holds()) {
            let _ = writeln!(
                text,
                "DIFFERS: {component}: {}: expected {}, found {}",
                proof.what, proof.expected, proof.found
            );
        }
        if restored.is_proven() {
            let _ = writeln!(
                text,
                "proven: {} comparisons of live data with the bundle, all equal",
                restored.proofs.len()
            );
        }
        let _ = writeln!(
            text,
            "the former state is kept: `arkstream undo {0}` brings it back, `arkstream forget {0}` drops it",
            restored.id
        );
        if written.is_ok() {
            let _ = writeln!(text, "report: {}", report.display());
        }
        output::print(&text)?;
    }
    if let Err(error) = written {
        crate::say::say(format!(
            "warning: the restore is complete, but its report {} could not be written: {error}",
            report.display()
        ));
    }
    if !restored.is_proven() {
        return Err(Failure::new(
            FailureKind::Damaged,
            "prove the restored data",
            "what is live differs from the bundle; somebody may have written to it meanwhile",
        )
        .help(format!(
            "the report lists the differences; `arkstream undo {}` brings the former state back",
            restored.id
        )));
    }
    Ok(code_of(&restored.plans))
}

fn counts(plans: &Plans) -> Value {
    let sums = sums(plans);
    json!({
        "inserted": sums.inserted,
        "updated": sums.updated,
        "deleted": sums.deleted,
        "unchanged": sums.unchanged,
        "unmapped": unmapped(plans),
    })
}

fn components_json(plans: &Plans) -> Value {
    let components: serde_json::Map<String, Value> = plans
        .iter()
        .map(|(component, plan)| {
            let tables: Vec<Value> = plan
                .tables
                .iter()
                .map(|t| {
                    json!({
                        "table": t.table, "model": t.model, "inserted": t.inserted,
                        "updated": t.updated, "deleted": t.deleted, "unchanged": t.unchanged,
                        "renumbered": t.renumbered, "columns_dropped": t.columns_dropped,
                        "columns_missing": t.columns_missing,
                    })
                })
                .collect();
            let references: Vec<Value> = plan
                .references
                .iter()
                .map(|r| {
                    json!({
                        "from": r.from, "to": r.to, "mapped": r.mapped, "unmapped": r.unmapped,
                        "examples": r.examples,
                        "lost": match r.lost {
                            Lost::Emptied => "emptied",
                            Lost::RowLeftOut => "row left out",
                            Lost::Kept => "kept",
                        },
                    })
                })
                .collect();
            let reach: Vec<Value> = plan
                .reach
                .iter()
                .map(|r| json!({"table": r.table, "key": r.key, "rule": r.rule, "rows": r.rows}))
                .collect();
            (
                component.name().to_owned(),
                json!({
                    "tables": tables, "references": references, "reach": reach,
                    "files_added": plan.files_added, "files_present": plan.files_present,
                    "file_bytes": plan.file_bytes, "switch": plan.switch, "notes": plan.notes,
                }),
            )
        })
        .collect();
    Value::Object(components)
}

fn proof_json((component, proof): &(Component, Proof)) -> Value {
    json!({
        "component": component, "what": proof.what, "expected": proof.expected,
        "found": proof.found, "holds": proof.holds(),
    })
}

/// The report as Markdown.
fn page(args: &RestoreArgs, restored: &Restored) -> String {
    let mut text = format!(
        "# Restore {}\n\n- bundle: `{}`\n- ended: {}\n- duration: {}\n- verdict: {}\n\n",
        restored.id,
        args.bundle.display(),
        chrono::Utc::now().format("%Y-%m-%d %H:%M:%S UTC"),
        units::duration(restored.elapsed),
        if restored.is_proven() {
            "live data equals the bundle"
        } else {
            "**live data differs from the bundle**"
        }
    );
    text.push_str("## What was done\n\n```\n");
    text.push_str(&plan_text(&restored.plans));
    text.push_str("```\n\n## What was compared\n\n| component | what | bundle | live | |\n|---|---|---|---|---|\n");
    for (component, proof) in &restored.proofs {
        let _ = writeln!(
            text,
            "| {component} | {} | {} | {} | {} |",
            proof.what,
            proof.expected,
            proof.found,
            if proof.holds() {
                "equal"
            } else {
                "**differs**"
            }
        );
    }
    let _ = writeln!(
        text,
        "\n## Afterwards\n\n`arkstream undo {0}` brings the former state back, `arkstream forget {0}` drops it.",
        restored.id
    );
    text
}
