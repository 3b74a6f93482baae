//! What the fuzz targets need of this crate and nobody else does: the readers of single files.

use super::{
    hnsw::Header,
    pickle::{self, IndexMetadata},
};

/// What a pickle says: ids with their labels, and labels with their ids.
pub type Labels = (Vec<(String, i64)>, Vec<(i64, String)>);

/// Reads a pickle.
///
/// # Errors
/// Why it is not one that Chroma wrote.
pub fn read_pickle(bytes: &[u8]) -> Result<Labels, String> {
    let IndexMetadata {
        id_to_label,
        label_to_id,
    } = pickle::read(bytes).map_err(|error| error.to_string())?;
    Ok((
        id_to_label
            .into_iter()
            .map(|(id, label)| (id.to_string(), label))
            .collect(),
        label_to_id
            .into_iter()
            .map(|(label, id)| (label, id.to_string()))
            .collect(),
    ))
}

/// An index whose header was accepted.
#[derive(Clone, Debug)]
pub struct Index {
    /// Elements, deleted ones included.
    pub elements: u64,
    /// Floats in a vector.
    pub dimension: u64,
    /// Labels, each with whether it is deleted.
    pub labels: Result<Vec<(u64, bool)>, String>,
    /// Whether the links above level 0 are whole.
    pub link_lists: Result<(), String>,
}

/// Reads the files of an index.
///
/// # Errors
/// Why the header was not accepted.
pub fn read_index(header: &[u8], level0: &[u8], link_lists: &[u8]) -> Result<Index, String> {
    let header = Header::read(header).map_err(|error| error.to_string())?;
    let mut labels = Vec::new();
    let read = header.read_level0(level0.len() as u64, level0, |label, deleted| {
        labels.push((label, deleted));
    });
    let lists = header.read_link_lists(link_lists.len() as u64, link_lists);
    Ok(Index {
        elements: header.elements,
        dimension: header.dimension(),
        labels: read.map(|()| labels).map_err(|error| error.to_string()),
        link_lists: lists.map_err(|error| error.to_string()),
    })
}
