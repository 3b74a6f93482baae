// The sample graph, and opening PGlite with AGE in it.
//
// The names are those of a real SAM AI installation: one graph, `sam_ai_knowledge`, with several
// vertex and edge labels. The properties hold what a dump can get wrong: a double that needs 17
// digits, the largest integer, unicode beyond the BMP, quotes, backslashes, null, nesting.

import { PGlite } from '@electric-sql/pglite'
import { age } from '@electric-sql/pglite-age'

export const GRAPH = 'sam_ai_knowledge'

export async function open(loadDataDir) {
  const db = await PGlite.create({ extensions: { age }, loadDataDir })
  await db.exec("LOAD 'age'; SET search_path = ag_catalog, \"$user\", public;")
  return db
}

export async function createSampleGraph(db, documents) {
  await db.exec(`SELECT ag_catalog.create_graph('${GRAPH}')`)
  const cypher = (query) =>
    db.exec(`SELECT * FROM ag_catalog.cypher('${GRAPH}', $cypher$ ${query} $cypher$) AS (result agtype)`)

  await cypher(`CREATE (:Person {name: 'Ada 🚀', score: 0.30000000000000004, big: 9223372036854775807,
    tiny: 5e-324, zero: -0.0, active: true, note: "it's \\\\ \\"quoted\\"", tags: ['α', '𝔘', ''],
    nested: {a: [1, {b: false}], c: {}}})`)
  await cypher(`CREATE (:Person {name: 'Zoë', score: 1.0, note: 'line one\\nline two\\ttab'})`)
  await cypher(`CREATE (:Topic {name: 'graphs', weight: 0.1}), (:Topic {name: 'שלום עולם', weight: 2.5e300})`)
  await cypher('CREATE (:Empty)')
  await cypher(`UNWIND range(1, ${documents}) AS n
    CREATE (:Document {number: n, title: 'Document ' + toString(n) + ' é☃', ratio: n / 7.0, even: n % 2 = 0})`)
  await cypher(`MATCH (a:Person {name: 'Ada 🚀'}), (b:Person {name: 'Zoë'})
    CREATE (a)-[:KNOWS {since: 2019, trust: 0.30000000000000004}]->(b), (b)-[:KNOWS {since: 2020}]->(a),
           (a)-[:KNOWS {self: true}]->(a)`)
  await cypher(`MATCH (d:Document), (t:Topic {name: 'graphs'}) CREATE (d)-[:ABOUT {rank: d.number}]->(t)`)
  await cypher(`MATCH (p:Person {name: 'Zoë'}), (d:Document) WHERE d.number % 3 = 0
    CREATE (p)-[:WROTE {at: '2024-02-29T12:00:00Z'}]->(d)`)
  // Deleted entities leave gaps in the ids, as in any graph that lives. Edges go first, by hand:
  // DETACH DELETE of AGE 1.7 leaves edges behind whose start is gone.
  await cypher('MATCH (d:Document)-[e]-() WHERE d.number % 50 = 1 DELETE e')
  await cypher('MATCH (d:Document) WHERE d.number % 50 = 1 DELETE d')
}

// Rows per label, so that a test knows what the dump must hold.
export async function countLabels(db) {
  const { rows } = await db.query(
    `SELECT l.name, l.kind, l.relation::text AS relation FROM ag_catalog.ag_label l
     JOIN ag_catalog.ag_graph g ON g.graphid = l.graph WHERE g.name = $1 ORDER BY l.id`,
    [GRAPH],
  )
  const labels = []
  for (const { name, kind, relation } of rows) {
    const count = await db.query(`SELECT count(*)::int AS count FROM ONLY ${relation}`)
    labels.push({ name, kind: kind === 'v' ? 'vertex' : 'edge', count: count.rows[0].count })
  }
  return labels
}
