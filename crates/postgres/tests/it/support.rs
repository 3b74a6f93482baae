//! A shared server, databases of one's own, and runs into memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub(crate) use arkstream_conformance::MemorySink;
use arkstream_format::{Component, TableRole};
use arkstream_pipeline::{Budget, Cancel, Event, Observer, Run, Sink};
use arkstream_postgres::{Catalog, CatalogTable, ConnectSpec, Session, TableTask, read_catalog};
use arkstream_sample::{Server, ServerOptions};
use arrow_array::{Array, Int32Array, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(ServerOptions::default()).unwrap())
}

/// A new database with that content, and how to reach it.
pub(crate) fn database(sql: &str) -> (String, ConnectSpec) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("it \"{}\"", COUNT.fetch_add(1, Ordering::Relaxed));
    server().create_database(&name).unwrap();
    server().psql(&name, sql).unwrap();
    let spec = ConnectSpec::parse(&server().conninfo(&name)).unwrap();
    (name, spec)
}

pub(crate) async fn catalog(spec: &ConnectSpec) -> Catalog {
    let session = Session::connect(spec, "test").await.unwrap();
    read_catalog(session.client()).await.unwrap()
}

pub(crate) fn table(catalog: &Catalog, name: &str) -> CatalogTable {
    catalog.in_public(name).unwrap().clone()
}

pub(crate) fn task(table: CatalogTable) -> TableTask {
    let folder = format!("odoo_data/models/{}/", table.table.name);
    TableTask::of_table(table, TableRole::Model, folder)
}

#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<Event>>);

impl Observer for Events {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(crate) struct Setting {
    pub(crate) run: Run,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) events: Arc<Events>,
    pub(crate) cancel: Cancel,
}

pub(crate) fn setting(jobs: usize) -> Setting {
    setting_of(MemorySink::default(), jobs)
}

pub(crate) fn setting_of(sink: MemorySink, jobs: usize) -> Setting {
    let sink = Arc::new(sink);
    let events = Arc::new(Events::default());
    let cancel = Cancel::default();
    let budget = Budget::new(64 << 20);
    let run = Run::new(
        Arc::clone(&sink) as Arc<dyn Sink>,
        Arc::clone(&events) as Arc<dyn Observer>,
        cancel.clone(),
        budget,
        jobs,
    );
    Setting {
        run,
        sink,
        events,
        cancel,
    }
}

impl Setting {
    pub(crate) fn read_bytes(&self, of: Component) -> u64 {
        let events = self.events.0.lock().unwrap();
        events
            .iter()
            .map(|event| match event {
                Event::Read { component, bytes } if *component == of => *bytes,
                _ => 0,
            })
            .sum()
    }

    /// The batches of all members below a folder, in the order of their names.
    pub(crate) fn batches(&self, folder: &str) -> Vec<RecordBatch> {
        let members = self.sink.contents();
        let parts = members.iter().filter(|(name, _)| name.starts_with(folder));
        parts
            .flat_map(|(_, (bytes, rows))| {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
                let batches: Vec<RecordBatch> =
                    reader.build().unwrap().map(Result::unwrap).collect();
                let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
                assert_eq!(*rows, Some(found as u64));
                batches
            })
            .collect()
    }

    /// `id|text` of all rows below a folder: an int4 column and a text column.
    pub(crate) fn lines(&self, folder: &str, id: &str, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for batch in self.batches(folder) {
            let ids = batch
                .column_by_name(id)
                .unwrap()
                .as_any()
                .downcast_ref::<Int32Array>();
            let texts = batch
                .column_by_name(text)
                .unwrap()
                .as_any()
                .downcast_ref::<StringArray>();
            let (ids, texts) = (ids.unwrap(), texts.unwrap());
            for row in 0..batch.num_rows() {
                let text = if texts.is_null(row) {
                    ""
                } else {
                    texts.value(row)
                };
                lines.push(format!("{}|{text}", ids.value(row)));
            }
        }
        lines
    }
}

pub(crate) fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

pub(crate) fn psql_lines(database: &str, sql: &str) -> Vec<String> {
    server()
        .psql(database, sql)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}
