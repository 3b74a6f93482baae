//! `arkstream salvage`

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use chrono::Utc;
use serde_json::{Value, json};

use arkstream_bundle::{
    OutputPaths, SpaceWait,
    salvage::{SalvageOptions, Salvaged, salvage},
};
use arkstream_format::{LostMember, LostRange, RunId};
use arkstream_pipeline::{Cancel, Failure};
use arkstream_restorer::salvaged_metadata;

use crate::{args::SalvageArgs, exit::Code, interrupt::watch_signals, output, progress, units};

/// Most lines of a list that are printed; `--json` has all.
const SHOWN: usize = 50;

pub(crate) async fn run(args: SalvageArgs) -> Result<Code, Failure> {
    let cancel = Cancel::default();
    watch_signals(&cancel);
    let observer = progress::observer(args.progress);
    let options = SalvageOptions {
        source: args.bundle.clone(),
        out: OutputPaths::new(&args.out),
        run_id: RunId(uuid::Uuid::new_v4().simple().to_string()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: Utc::now(),
        fresh: args.fresh,
        unproven: args.unproven.clone(),
        wait: SpaceWait {
            limit: Duration::ZERO,
            cancel: cancel.clone(),
            observer: Arc::clone(&observer),
        },
        observer,
        cancel,
    };
    let salvaged = salvage(options, &salvaged_metadata).await?;
    if args.json {
        output::print_json(&report_json(&args, &salvaged))?;
    } else {
        output::print(&describe(&args, &salvaged))?;
    }
    Ok(match salvaged.salvage.lost.is_empty() {
        true => Code::Complete,
        false => Code::LeftOut,
    })
}

fn describe(args: &SalvageArgs, salvaged: &Salvaged) -> String {
    let mut text = String::new();
    if let Some(cause) = &salvaged.cause {
        let _ = writeln!(text, "{} cannot be opened: {cause}", args.bundle.display());
    }
    let _ = writeln!(
        text,
        "what it held is known from its {}",
        salvaged.truth.name()
    );
    let mut sums: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
    for saved in &salvaged.saved {
        let sum = sums.entry((saved.component, saved.proof)).or_default();
        sum.0 += 1;
        sum.1 += saved.rows.unwrap_or(0);
        sum.2 += saved.raw_len;
    }
    let rows: Vec<Vec<String>> = sums
        .into_iter()
        .map(|((component, proof), (members, rows, bytes))| {
            vec![
                component.to_string(),
                members.to_string(),
                rows.to_string(),
                units::size(bytes),
                proof.to_owned(),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&output::table(
        &["came back", ">members", ">rows", ">size", "proven by"],
        &rows,
    ));
    if salvaged.pieces_bytes > 0 {
        let _ = writeln!(
            text,
            "and {} of damaged members, below salvaged/",
            units::size(salvaged.pieces_bytes)
        );
    }
    describe_lost(&mut text, salvaged);
    let _ = writeln!(text, "\n{}", salvaged.published.path.display());
    text
}

fn describe_lost(text: &mut String, salvaged: &Salvaged) {
    let lost = &salvaged.salvage.lost;
    if lost.is_empty() {
        text.push_str("\nnothing is lost\n");
    } else {
        let ranges = lost
            .iter()
            .flat_map(|lost| lost.ranges.iter().map(move |range| (lost, range)));
        let rows: Vec<Vec<String>> = ranges.clone().take(SHOWN).map(lost_row).collect();
        text.push('\n');
        text.push_str(&output::table(
            &["lost", ">rows", "its bytes", "bytes of the file", "because"],
            &rows,
        ));
        let all = ranges.count();
        if all > SHOWN {
            let _ = writeln!(text, "… and {} more (--json has all)", all - SHOWN);
        }
    }
    if salvaged.unproven.is_empty() {
        return;
    }
    text.push_str("\nreadable, but proven by nothing, so not in the new bundle:\n");
    for bytes in salvaged.unproven.iter().take(SHOWN) {
        let place = match &bytes.file {
            Some(file) => format!(", extracted to {}", file.display()),
            None => " (--unproven DIR extracts them)".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {}: {} in {} chunks{place}",
            bytes.name,
            units::size(bytes.raw_len),
            bytes.chunks
        );
    }
}

fn lost_row((lost, range): (&LostMember, &LostRange)) -> Vec<String> {
    vec![
        lost.member
            .clone()
            .unwrap_or_else(|| "not known".to_owned()),
        lost.rows.map(|rows| rows.to_string()).unwrap_or_default(),
        range_text(range.raw_start, range.raw_end),
        range_text(range.file_start, range.file_end),
        range.reason.clone(),
    ]
}

fn range_text(start: Option<u64>, end: Option<u64>) -> String {
    let text = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    match (start, end) {
        (None, None) => String::new(),
        (start, end) => format!("{}..{}", text(start), text(end)),
    }
}

fn report_json(args: &SalvageArgs, salvaged: &Salvaged) -> Value {
    let saved = salvaged.saved.iter().map(|saved| {
        json!({
            "name": saved.name,
            "component": saved.component,
            "rows": saved.rows,
            "raw_bytes": saved.raw_len,
            "proven_by": saved.proof,
        })
    });
    let unproven = salvaged.unproven.iter().map(|bytes| {
        json!({
            "name": bytes.name,
            "raw_bytes": bytes.raw_len,
            "chunks": bytes.chunks,
            "file": bytes.file,
        })
    });
    json!({
        "damaged": args.bundle,
        "cause": salvaged.cause,
        "known_from": salvaged.truth.name(),
        "bundle": salvaged.published.path,
        "bytes": salvaged.published.bytes,
        "sha256": salvaged.published.sha256,
        "came_back": saved.collect::<Vec<_>>(),
        "bytes_in_pieces": salvaged.pieces_bytes,
        "described": salvaged.salvage.described,
        "lost": salvaged.salvage.lost,
        "unproven": unproven.collect::<Vec<_>>(),
    })
}
