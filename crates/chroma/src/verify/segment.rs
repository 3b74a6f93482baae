//! One collection: its VECTOR segment's files, and both of its sides against each other.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use super::{
    ChromaFiles, Problem,
    hnsw::{Header, HnswError},
    pickle::{self, IndexMetadata},
    records::{self, Side},
    some,
    sqlite::{Collection, Database, unreadable},
};

const HEADER: &str = "header.bin";
const LEVEL0: &str = "data_level0.bin";
const LENGTHS: &str = "length.bin";
const LINK_LISTS: &str = "link_lists.bin";
const PICKLE: &str = "index_metadata.pickle";

/// Checks everything of a collection that is not a matter of SQLite alone.
pub(super) fn check(
    database: &Database,
    files: &dyn ChromaFiles,
    listed: &BTreeMap<String, u64>,
    collection: &Collection,
    problems: &mut Vec<Problem>,
) {
    let mut segment = Segment {
        database,
        files,
        listed,
        collection,
        problems,
    };
    let Some((vector_seq, metadata_seq)) = segment.sequence_numbers() else {
        return;
    };
    if !listed.contains_key(&segment.path(PICKLE)) {
        match vector_seq {
            None => segment.compare(Side::default(), metadata_seq),
            Some(seq) => segment.pickle_missing(seq),
        }
        return;
    }
    let header = segment.check_files();
    let Some(index) = segment.read_pickle() else {
        return;
    };
    let labels = segment.check_pickle(&index);
    if let Some(header) = header {
        segment.check_level0(&header, labels);
    }
    let ids = index.id_to_label.into_iter().map(|(id, _)| id);
    match vector_seq {
        Some(seq) => segment.compare(Side::new(ids, seq), metadata_seq),
        None => segment.check_first_persist(metadata_seq),
    }
}

struct Segment<'a> {
    database: &'a Database,
    files: &'a dyn ChromaFiles,
    listed: &'a BTreeMap<String, u64>,
    collection: &'a Collection,
    problems: &'a mut Vec<Problem>,
}

impl Segment<'_> {
    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.collection.vector)
    }

    fn report(&mut self, check: &'static str, file: &str, what: impl std::fmt::Display) {
        let message = format!("collection {}: {what}", self.collection.name);
        self.problems
            .push(Problem::new(check, self.path(file), message));
    }

    fn report_row(&mut self, check: &'static str, what: impl std::fmt::Display) {
        let message = format!("collection {}: {what}", self.collection.name);
        self.problems.push(Problem::in_database(check, message));
    }

    /// `max_seq_id` of the VECTOR segment, if it has one, and of the METADATA segment.
    fn sequence_numbers(&mut self) -> Option<(Option<i64>, i64)> {
        let collection = self.collection;
        let mut read = |segment: &str| match self.database.max_seq_id(segment) {
            Ok(found) => Some(found),
            Err(why) => {
                self.report_row(
                    "max-seq-id",
                    format!("max_seq_id of segment {segment}: {why}"),
                );
                None
            }
        };
        let vector = read(&collection.vector)?;
        let metadata = read(&collection.metadata)?;
        Some((vector, metadata.unwrap_or(0)))
    }

    fn pickle_missing(&mut self, seq: i64) {
        let folder = format!("{}/", self.collection.vector);
        let what = if self.listed.keys().any(|path| path.starts_with(&folder)) {
            "the file is missing"
        } else {
            "the folder is missing"
        };
        let message = format!(
            "{what}, though segment {} was persisted up to operation {seq}: vectors are lost",
            self.collection.vector
        );
        self.report("max-seq-id", PICKLE, message);
    }

    /// A pickle whose `max_seq_id` row is not there (yet).
    fn check_first_persist(&mut self, metadata_seq: i64) {
        let mut vector = Side::default();
        let Some(metadata) = self.both_sides(&mut vector, metadata_seq) else {
            return;
        };
        let lost = metadata.without(&vector).len();
        if lost > 0 {
            self.report_row(
                "max-seq-id",
                format!(
                    "segment {} has a pickle but no max_seq_id row, and the queue no longer holds \
                     {lost} of {} records",
                    self.collection.vector,
                    metadata.len()
                ),
            );
        }
    }

    /// Holds the VECTOR side against the METADATA side.
    fn compare(&mut self, mut vector: Side, metadata_seq: i64) {
        let Some(metadata) = self.both_sides(&mut vector, metadata_seq) else {
            return;
        };
        for (missing, of, what) in [
            (
                metadata.without(&vector),
                metadata.len(),
                "records have metadata but no vector",
            ),
            (
                vector.without(&metadata),
                vector.len(),
                "records have a vector but no metadata",
            ),
        ] {
            if !missing.is_empty() {
                let what = format!(
                    "{} of {of} {what} (segments {} and {}): {}",
                    missing.len(),
                    self.collection.vector,
                    self.collection.metadata,
                    some(missing)
                );
                self.report_row("records", what);
            }
        }
    }

    /// Applies the queue to `vector` and to the METADATA side, which is returned.
    fn both_sides(&mut self, vector: &mut Side, metadata_seq: i64) -> Option<Side> {
        let sides = records::metadata_side(self.database, self.collection, metadata_seq).and_then(
            |mut metadata| {
                let both = &mut [vector, &mut metadata];
                let unknown = records::apply_queue(self.database, self.collection, both)?;
                Ok((metadata, unknown))
            },
        );
        match sides {
            Ok((metadata, 0)) => Some(metadata),
            Ok((metadata, unknown)) => {
                let what = format!("{unknown} operations of the queue are of an unknown kind");
                self.report_row("records", what);
                Some(metadata)
            }
            Err(error) => {
                self.problems.push(unreadable("records", &error));
                None
            }
        }
    }

    fn read_pickle(&mut self) -> Option<IndexMetadata> {
        let path = self.path(PICKLE);
        let read = match self.files.open(&path) {
            Ok(input) => pickle::read(input),
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(index) => Some(index),
            Err(error) => {
                self.report("pickle", PICKLE, error);
                None
            }
        }
    }

    /// The files beside the pickle, without their labels. Returns the header if it is good.
    fn check_files(&mut self) -> Option<Header> {
        let absent: Vec<_> = [HEADER, LEVEL0, LENGTHS, LINK_LISTS]
            .into_iter()
            .filter(|file| !self.listed.contains_key(&self.path(file)))
            .collect();
        for file in absent {
            self.report(
                "hnsw",
                file,
                "the file is missing, though its segment has a pickle",
            );
        }
        let header = self.header()?;
        if let Some(dimension) = self.collection.dimension
            && i128::from(dimension) != i128::from(header.dimension())
        {
            let what = format!(
                "its vectors have {} dimensions, the collection has {dimension}",
                header.dimension()
            );
            self.report("hnsw", HEADER, what);
        }
        if let Some(size) = self.size(LENGTHS)
            && let Err(error) = header.check_lengths(size)
        {
            self.report("hnsw", LENGTHS, error);
        }
        if let Some(size) = self.size(LINK_LISTS) {
            let lists = self
                .files
                .open(&self.path(LINK_LISTS))
                .map_err(HnswError::from);
            if let Err(error) = lists.and_then(|input| header.read_link_lists(size, input)) {
                self.report("hnsw", LINK_LISTS, error);
            }
        }
        Some(header)
    }

    fn header(&mut self) -> Option<Header> {
        self.size(HEADER)?;
        let opened = self.files.open(&self.path(HEADER)).map_err(HnswError::from);
        match opened.and_then(Header::read) {
            Ok(header) => Some(header),
            Err(error) => {
                self.report("hnsw", HEADER, error);
                None
            }
        }
    }

    fn size(&self, file: &str) -> Option<u64> {
        self.listed.get(&self.path(file)).copied()
    }

    /// Ids and labels of the pickle against each other. Returns the labels.
    fn check_pickle(&mut self, index: &IndexMetadata) -> HashMap<u64, bool> {
        let by_label: HashMap<i64, &Rc<str>> = index
            .label_to_id
            .iter()
            .map(|(label, id)| (*label, id))
            .collect();
        let astray: Vec<_> = index
            .id_to_label
            .iter()
            .filter(|(id, label)| by_label.get(label) != Some(&id))
            .map(|(id, _)| id)
            .collect();
        if !astray.is_empty() || index.id_to_label.len() != index.label_to_id.len() {
            let what = format!(
                "{} ids and {} labels do not map onto each other; {} ids are astray: {}",
                index.id_to_label.len(),
                index.label_to_id.len(),
                astray.len(),
                some(astray)
            );
            self.report("pickle", PICKLE, what);
        }
        by_label
            .into_keys()
            .map(|label| (label.cast_unsigned(), false))
            .collect()
    }

    /// Level 0 against the labels of the pickle, each with whether it was met.
    fn check_level0(&mut self, header: &Header, mut expected: HashMap<u64, bool>) {
        let Some(size) = self.size(LEVEL0) else {
            return;
        };
        let (mut twice, mut unknown) = (Vec::new(), Vec::new());
        let opened = self.files.open(&self.path(LEVEL0)).map_err(HnswError::from);
        let read = opened.and_then(|input| {
            header.read_level0(size, input, |label, deleted| {
                if deleted {
                    return;
                }
                match expected.get_mut(&label) {
                    Some(met @ false) => *met = true,
                    Some(true) => twice.push(label),
                    None => unknown.push(label),
                }
            })
        });
        if let Err(error) = read {
            self.report("hnsw", LEVEL0, error);
            return;
        }
        let all = expected.len();
        let mut missing: Vec<_> = expected
            .into_iter()
            .filter(|(_, met)| !met)
            .map(|(label, _)| label)
            .collect();
        missing.sort_unstable();
        for (labels, what) in [
            (missing, "labels of the pickle have no live vector"),
            (
                unknown,
                "live vectors have a label that the pickle does not know",
            ),
            (twice, "labels stand at more than one live vector"),
        ] {
            if !labels.is_empty() {
                let count = labels.len();
                let what = format!("{count} {what} (the pickle has {all}): {}", some(labels));
                self.report("labels", LEVEL0, what);
            }
        }
    }
}
