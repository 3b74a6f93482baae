//! What a backup is about to do, as plain data.

use std::collections::BTreeMap;

use arkstream_format::{Component, Digest};
use arkstream_pipeline::SourcePlan;

/// The plan of a whole backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupPlan {
    /// One entry a source, in the order in which they are streamed.
    pub components: Vec<PlannedComponent>,
}

/// The plan of one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlannedComponent {
    /// The component it fills.
    pub component: Component,
    /// What it found.
    pub plan: SourcePlan,
}

impl BackupPlan {
    /// Bytes to read; an estimate for tables and dumps.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.components.iter().map(|c| c.plan.bytes()).sum()
    }

    /// What is backed up and how: a run continues an interrupted one only if this is equal. Tables,
    /// files and sizes do not count: they come and go while a system lives.
    #[must_use]
    pub fn identity(&self) -> BTreeMap<String, String> {
        let mut identity = BTreeMap::new();
        for PlannedComponent { component, plan } in &self.components {
            identity.insert(component.name().to_owned(), "included".to_owned());
            for (key, value) in &plan.identity {
                identity.insert(format!("{component}.{key}"), value.clone());
            }
        }
        identity
    }

    /// A word that is equal for plans of equal identity.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Digest::of(format!("{:?}", self.identity()).as_bytes()).to_string()
    }
}
