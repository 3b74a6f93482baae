//! What a restore of an Apache AGE database needs besides its dump.

/// Rebuilds the two catalogs of AGE after a dump was loaded, in the same transaction.
///
/// `ag_graph.graphid` and `ag_label.graph` are bare OIDs of the server that was dumped; what survives
/// are the names of schemas and tables. So both are read by name, deleted, and inserted again, labels
/// after graphs (apache/age issue 2503).
pub const FIX_UP: &str = "\
CREATE TEMP TABLE fixed_graph ON COMMIT DROP AS
  SELECT n.oid AS graphid, g.name, g.namespace
    FROM ag_catalog.ag_graph g JOIN pg_catalog.pg_namespace n ON n.oid = g.namespace;
CREATE TEMP TABLE fixed_label ON COMMIT DROP AS
  SELECT l.name, c.relnamespace AS graph, l.id, l.kind, l.relation, l.seq_name
    FROM ag_catalog.ag_label l JOIN pg_catalog.pg_class c ON c.oid = l.relation;
DELETE FROM ag_catalog.ag_label;
DELETE FROM ag_catalog.ag_graph;
INSERT INTO ag_catalog.ag_graph (graphid, name, namespace) SELECT graphid, name, namespace FROM fixed_graph;
INSERT INTO ag_catalog.ag_label (name, graph, id, kind, relation, seq_name)
  SELECT name, graph, id, kind, relation, seq_name FROM fixed_label;
";
