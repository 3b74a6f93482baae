//! Sums over the members of a bundle.

use std::collections::BTreeMap;

use crate::{BaseBundle, Component, ComponentSummary, Manifest, Member};

/// What a bundle holds, without its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Sums per component.
    pub components: BTreeMap<Component, ComponentSummary>,
    /// [`Manifest::checksum_of`] the members.
    pub checksum: String,
    /// The older bundles, with what was copied out of them.
    pub bases: Vec<BaseBundle>,
}

impl Contents {
    /// Of members in the order of the file, some of which may have been copied out of `bases`.
    #[must_use]
    pub fn of(members: &[&Member], bases: &[BaseBundle]) -> Self {
        let all = || members.iter().copied();
        let mut components: BTreeMap<Component, ComponentSummary> = BTreeMap::new();
        for member in all() {
            let sum = components.entry(member.component).or_default();
            sum.members += 1;
            sum.rows += member.rows.unwrap_or(0);
            sum.raw_bytes += member.raw_len;
            sum.stored_bytes += member.stored_len;
        }
        let copied = bases.iter().map(|base| BaseBundle {
            copied: base.copied_in(all()),
            ..base.clone()
        });
        Self {
            components,
            checksum: Manifest::checksum_of(all()),
            bases: copied.collect(),
        }
    }

    /// Whether it holds any member of the component.
    #[must_use]
    pub fn has(&self, component: Component) -> bool {
        self.components.contains_key(&component)
    }
}
