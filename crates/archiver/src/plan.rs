//! What a backup is about to do, as plain data.

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

    /// A word that is equal for plans that put the same things into a bundle. Sizes do not count:
    /// they grow while a system lives.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for planned in &self.components {
            text.push_str(planned.component.name());
            text.push('\n');
            if planned.component == Component::Models {
                for item in &planned.plan.items {
                    text.push_str(&item.name);
                    text.push('\n');
                }
            }
        }
        Digest::of(text.as_bytes()).to_string()
    }
}
