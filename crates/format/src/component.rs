//! The systems a bundle is made of.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One system inside a bundle.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Rows of the Odoo models, of their many2many tables and of what travels with them.
    Models,
    /// Files of the Odoo filestore that the snapshot references.
    Filestore,
    /// The Apache AGE graph database.
    Graph,
    /// The ChromaDB directory.
    Chroma,
    /// A dump of the whole Odoo database.
    OdooDump,
    /// The spreadsheet.
    Xlsx,
    /// The bundle's own descriptions: manifest, metadata, instructions, log.
    Description,
}

impl Component {
    /// All components, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::Models,
        Self::Filestore,
        Self::Graph,
        Self::Chroma,
        Self::OdooDump,
        Self::Xlsx,
        Self::Description,
    ];

    /// The component of the member of that name, for readers who have lost everything but names.
    #[must_use]
    pub fn of_member(name: &str) -> Self {
        use crate::member_names as names;
        match name {
            names::GRAPH_DUMP => Self::Graph,
            names::ODOO_DUMP => Self::OdooDump,
            names::XLSX => Self::Xlsx,
            _ if name.starts_with(names::LARGE_FIELDS_DIR) => Self::Xlsx,
            _ if name.starts_with(names::FILESTORE_DIR) => Self::Filestore,
            _ if name.starts_with(names::CHROMA_DIR) => Self::Chroma,
            _ if [names::MODELS_DIR, names::RELATIONS_DIR, names::SUPPORT_DIR]
                .iter()
                .any(|folder| name.starts_with(folder)) =>
            {
                Self::Models
            }
            _ => Self::Description,
        }
    }

    /// The name used in the manifest and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Filestore => "filestore",
            Self::Graph => "graph",
            Self::Chroma => "chroma",
            Self::OdooDump => "odoo-dump",
            Self::Xlsx => "xlsx",
            Self::Description => "description",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no component.
#[derive(Debug, Error)]
#[error(
    "`{0}` is not a component; the components are models, filestore, graph, chroma, odoo-dump and xlsx"
)]
pub struct UnknownComponent(String);

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == word)
            .ok_or_else(|| UnknownComponent(word.to_owned()))
    }
}
