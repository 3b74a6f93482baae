//! A shared server, databases of one's own, and a sink that keeps members in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arkstream_format::{Chunk, Component, Compression, Crc32, Digest, Member, Proof, TableRole};
use arkstream_pipeline::{
    Budget, Cancel, Event, Failure, MemberFacts, MemberSpec, MemberWriter, Observer,
    PendingReceipt, Receipt, Run, Sink,
};
use arkstream_postgres::{Catalog, CatalogTable, ConnectSpec, Session, TableTask, read_catalog};
use arkstream_sample::{Server, ServerOptions};
use arrow_array::{Array, Int32Array, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::oneshot;

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
pub(crate) struct MemorySink {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<String, (Bytes, Option<u64>)>,
    listed: BTreeMap<String, Member>,
    earlier: BTreeMap<String, (Member, Bytes)>,
    abandoned: Vec<String>,
    waiting: Vec<(oneshot::Sender<Receipt>, Member)>,
}

impl State {
    fn add(&mut self, spec: &MemberSpec, bytes: Bytes, facts: MemberFacts) -> PendingReceipt {
        let (sender, receipt) = PendingReceipt::new();
        let rows = facts.rows;
        let listed = member(spec, &bytes, facts);
        self.earlier.remove(&spec.name);
        self.listed.insert(spec.name.clone(), listed.clone());
        self.waiting.push((sender, listed));
        assert!(
            self.members
                .insert(spec.name.clone(), (bytes, rows))
                .is_none(),
            "{}",
            spec.name
        );
        receipt
    }
}

fn member(spec: &MemberSpec, bytes: &[u8], facts: MemberFacts) -> Member {
    Member {
        name: spec.name.clone(),
        component: spec.component,
        compression: Compression::Stored,
        header_offset: 0,
        data_offset: 0,
        raw_len: bytes.len() as u64,
        stored_len: bytes.len() as u64,
        crc32: Crc32::of(bytes),
        digest: Digest::of(bytes),
        descriptor: false,
        modified_at: spec.modified_at,
        mode: spec.mode,
        rows: facts.rows,
        proof: facts.proof,
        copied: None,
        chunks: Vec::<Chunk>::new(),
    }
}

impl MemorySink {
    pub(crate) fn members(&self) -> BTreeMap<String, (Bytes, Option<u64>)> {
        self.state.lock().unwrap().members.clone()
    }

    /// What a run that continues this one finds.
    pub(crate) fn interrupted(&self) -> Self {
        let state = self.state.lock().unwrap();
        let earlier = state.listed.iter().map(|(name, member)| {
            let bytes = state.members[name].0.clone();
            (name.clone(), (member.clone(), bytes))
        });
        let next = State {
            earlier: earlier.collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(next)),
        }
    }

    pub(crate) fn abandoned(&self) -> Vec<String> {
        self.state.lock().unwrap().abandoned.clone()
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        Ok(self.state.lock().unwrap().add(&spec, bytes, facts))
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        Ok(Box::new(MemoryMember {
            spec,
            bytes: Vec::new(),
            state: Arc::clone(&self.state),
        }))
    }

    async fn retract(&self, name: &str, _reason: &str) -> Result<(), Failure> {
        self.state.lock().unwrap().members.remove(name);
        Ok(())
    }

    async fn earlier(&self, component: Component) -> Result<Vec<Member>, Failure> {
        let state = self.state.lock().unwrap();
        let members = state.earlier.values().map(|(member, _)| member);
        Ok(members
            .filter(|member| member.component == component)
            .cloned()
            .collect())
    }

    async fn keep(&self, name: &str, proof: Option<Proof>) -> Result<Option<Member>, Failure> {
        let mut state = self.state.lock().unwrap();
        let (mut member, bytes) = state.earlier.remove(name).unwrap();
        member.proof = proof.or(member.proof);
        state.members.insert(name.to_owned(), (bytes, member.rows));
        state.listed.insert(name.to_owned(), member.clone());
        Ok(Some(member))
    }

    /// Receipts come with it and not before, as with a real group sync.
    async fn sync(&self) -> Result<(), Failure> {
        for (sender, member) in self.state.lock().unwrap().waiting.drain(..) {
            let _ = sender.send(Receipt { member });
        }
        Ok(())
    }
}

struct MemoryMember {
    spec: MemberSpec,
    bytes: Vec<u8>,
    state: Arc<Mutex<State>>,
}

#[async_trait]
impl MemberWriter for MemoryMember {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        Ok(self
            .state
            .lock()
            .unwrap()
            .add(&self.spec, self.bytes.into(), facts))
    }

    async fn abandon(self: Box<Self>, _reason: &str) -> Result<(), Failure> {
        self.state.lock().unwrap().abandoned.push(self.spec.name);
        Ok(())
    }
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
        let members = self.sink.members();
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
