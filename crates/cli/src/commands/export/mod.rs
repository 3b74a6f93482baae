//! `arkstream export`

mod chosen;
mod files;
mod workbook;

use arkstream_pipeline::{Cancel, Failure, FailureKind};
use arkstream_query::Format;

use crate::{args::ExportFormat, exit::Code, interrupt::watch_signals};

pub(crate) async fn run(format: ExportFormat) -> Result<Code, Failure> {
    let cancel = Cancel::default();
    watch_signals(&cancel);
    tokio::task::spawn_blocking(move || match &format {
        ExportFormat::Csv(args) => files::run(args, Format::Csv, &cancel),
        ExportFormat::Jsonl(args) => files::run(args, Format::Jsonl, &cancel),
        ExportFormat::Xlsx(args) => workbook::run(args, &cancel),
        ExportFormat::Parquet(args) => files::run(args, Format::Parquet, &cancel),
    })
    .await
    .map_err(|error| Failure::new(FailureKind::Internal, "export", error))?
}
