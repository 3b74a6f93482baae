//! The order in which tables are filled, from their foreign keys.
//!
//! Foreign keys form cycles (the largest of a stock Odoo spans 105 tables), so there is no order
//! in which every key finds its target. There is one between the strongly connected components:
//! [`import_order`] gives them, each as a group. A group of several tables, or a table that
//! refers to itself, needs its nullable keys in a second step.
//!
//! Equal input gives equal output: names are sorted before anything else. Memory: one node a
//! table and one edge a foreign key.

use std::collections::BTreeMap;

use arkstream_format::TableEntry;
use petgraph::{algo::tarjan_scc, graph::DiGraph};

/// Groups of tables in an order in which every foreign key leads into an earlier group or into
/// its own. Names within a group are sorted.
///
/// The input is a table's name with the names it refers to; names that are referred to and are no
/// table of the input do not count.
pub fn import_order<'a, R>(tables: impl IntoIterator<Item = (&'a str, R)>) -> Vec<Vec<String>>
where
    R: IntoIterator<Item = &'a str>,
{
    let tables: BTreeMap<&str, R> = tables.into_iter().collect();
    let mut graph = DiGraph::<&str, ()>::new();
    let nodes: BTreeMap<&str, _> = tables
        .keys()
        .map(|name| (*name, graph.add_node(*name)))
        .collect();
    for (name, references) in tables {
        for target in references {
            if let (Some(from), Some(to)) = (nodes.get(name), nodes.get(target)) {
                graph.update_edge(*from, *to, ());
            }
        }
    }
    // Tarjan's algorithm gives a component after all components it has edges into, which is the
    // order of loading.
    tarjan_scc(&graph)
        .into_iter()
        .map(|component| {
            let mut names: Vec<_> = component
                .into_iter()
                .filter_map(|node| graph.node_weight(node))
                .map(|name| (*name).to_owned())
                .collect();
            names.sort();
            names
        })
        .collect()
}

/// The same for exported tables.
#[must_use]
pub fn import_order_of(tables: &[TableEntry]) -> Vec<Vec<String>> {
    import_order(tables.iter().map(|entry| {
        let references = entry.foreign_keys.iter().map(|key| key.references.as_str());
        (entry.table.as_str(), references)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(tables: &[(&'static str, &[&'static str])]) -> Vec<Vec<String>> {
        import_order(tables.iter().map(|(name, to)| (*name, to.iter().copied())))
    }

    #[test]
    fn what_is_referred_to_comes_first() {
        let groups = order(&[
            ("message", &["conversation"]),
            ("conversation", &["agent"]),
            ("agent", &[]),
        ]);
        assert_eq!(groups, [["agent"], ["conversation"], ["message"]]);
    }

    #[test]
    fn a_cycle_is_one_group_and_a_self_reference_is_none() {
        let groups = order(&[
            ("user", &["partner", "company"]),
            ("partner", &["user", "partner"]),
            ("company", &["partner"]),
            ("message", &["user", "message", "not exported"]),
        ]);
        assert_eq!(
            groups,
            [vec!["company", "partner", "user"], vec!["message"]]
        );
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_the_input() {
        let mut tables: Vec<(&str, &[&str])> = vec![
            ("d", &["a", "b"]),
            ("a", &["c"]),
            ("b", &["c"]),
            ("c", &["e"]),
            ("e", &["c"]),
            ("f", &[]),
        ];
        let first = order(&tables);
        for _ in 0..tables.len() {
            tables.rotate_left(1);
            assert_eq!(order(&tables), first);
        }
    }
}
