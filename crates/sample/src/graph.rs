//! A graph in the shape of Apache AGE, for the sample server's own `age` extension.

use tokio_postgres::Client;

use crate::error::SampleError;

const SQL: &str = include_str!("../sql/graph.sql");

/// Vertex labels, in the order that `sql/graph.sql` numbers them.
const VERTEX_LABELS: [&str; 3] = ["Conversation", "Concept", "Person With Space"];
const EDGE_LABELS: [&str; 2] = ["MENTIONS", "RELATED_TO"];

/// The sample graph.
#[derive(Clone, Copy, Debug)]
pub struct GraphSample;

/// What was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphSampleReport {
    /// Vertices, over all labels.
    pub vertices: u64,
    /// Edges, over all labels.
    pub edges: u64,
    /// Labels beside the two parents.
    pub labels: u64,
}

impl GraphSample {
    /// Creates the extension if need be, and the graph `graph_name` with this many vertices and
    /// edges. `client` is a superuser, connected to the database that is to hold the graph.
    pub async fn build(
        client: &Client,
        graph_name: &str,
        vertices: u32,
        edges: u32,
    ) -> Result<GraphSampleReport, SampleError> {
        if graph_name.is_empty() || graph_name.len() > 50 || graph_name.contains(['\0', '\'']) {
            return Err(SampleError::Options(format!(
                "{graph_name:?} is not a name for a graph: 1 to 50 bytes, no quotes"
            )));
        }
        if vertices == 0 && edges > 0 {
            return Err(SampleError::Options("edges need vertices".to_owned()));
        }
        let action = || format!("build the graph {graph_name}");
        let mut sql = String::from("BEGIN; CREATE EXTENSION IF NOT EXISTS age;\n");
        sql.push_str(&format!(
            "SELECT ag_catalog.create_graph('{graph_name}');\n"
        ));
        for (function, labels) in [
            ("create_vlabel", &VERTEX_LABELS[..]),
            ("create_elabel", &EDGE_LABELS[..]),
        ] {
            for label in labels {
                sql.push_str(&format!(
                    "SELECT ag_catalog.{function}('{graph_name}', '{label}');\n"
                ));
            }
        }
        let filled = SQL
            .replace(
                "{{graph}}",
                &format!("\"{}\"", graph_name.replace('"', "\"\"")),
            )
            .replace("{{vertices}}", &vertices.to_string())
            .replace("{{edges}}", &edges.to_string());
        sql.push_str(&filled);
        sql.push_str("COMMIT;");
        if let Err(error) = client.batch_execute(&sql).await {
            // The error that counts is the first; the transaction goes either way.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(SampleError::sql(action())(error));
        }
        Ok(GraphSampleReport {
            vertices: u64::from(vertices),
            edges: u64::from(edges),
            labels: (VERTEX_LABELS.len() + EDGE_LABELS.len()) as u64,
        })
    }
}
