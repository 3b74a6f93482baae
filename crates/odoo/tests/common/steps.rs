//! The steps of a backup of rows and files, in the archiver's order.

use std::path::Path;

use arkstream_odoo::selection::Selection;
use arkstream_odoo::{FilestoreOptions, Odoo, OdooOptions};
use arkstream_pipeline::{Failure, Run, Source, SourceReport};

use super::{MemorySink, Stack, select};

pub(crate) struct Backup {
    pub(crate) sink: MemorySink,
    pub(crate) run: Run,
    pub(crate) odoo: Odoo,
    pub(crate) report: SourceReport,
}

/// The steps of a backup, in the archiver's order.
pub(crate) async fn backup(
    stack: &Stack,
    selection: Selection,
    filestore: &Path,
) -> Result<Backup, Failure> {
    let odoo = Odoo::new(
        stack.spec(),
        OdooOptions {
            selection,
            ..OdooOptions::default()
        },
    );
    let (sink, run) = runs();
    let mut files = odoo.filestore(options(filestore));
    let mut models = odoo.models();
    files.plan().await?;
    models.plan().await?;
    models.lock(&run).await?;
    files.lock(&run).await?;
    models.snapshot(&run).await?;
    files.stream(&run).await?;
    let report = models.stream(&run).await?;
    models.release().await;
    Ok(Backup {
        sink,
        run,
        odoo,
        report,
    })
}

pub(crate) fn runs() -> (MemorySink, Run) {
    let sink = MemorySink::default().with_pieces_up_to(4 << 20);
    let run = sink.run(2);
    (sink, run)
}

pub(crate) fn options(filestore: &Path) -> FilestoreOptions {
    FilestoreOptions {
        dir: filestore.to_owned(),
        include_orphans: false,
    }
}

pub(crate) async fn whole(stack: &Stack) -> Backup {
    backup(stack, select("sam_ai", &[], &[]), stack.filestore.path())
        .await
        .unwrap()
}
