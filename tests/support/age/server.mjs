// server.mjs --port P [--host H] [--load TAR] [--documents N] [--no-graph]
//
// A real Apache AGE (PostgreSQL 18 compiled to WebAssembly, in memory) on a TCP port, with the
// sample graph in it. Port 0 lets the system choose. When it accepts connections it prints one line:
//
//   {"ready":true,"host":"127.0.0.1","port":…,"user":"postgres","database":"postgres",
//    "version":"…","age":"…","graph":"sam_ai_knowledge","labels":[{"name":…,"kind":…,"count":…}]}
//
// It ends when standard input ends, or on SIGTERM or SIGINT, so that it never outlives its parent.
// --load starts from a tar that make-data.mjs wrote, which is faster than initdb.

import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import { GRAPH, countLabels, createSampleGraph, open } from './graph.mjs'

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' },
    load: { type: 'string' },
    documents: { type: 'string', default: '200' },
    'no-graph': { type: 'boolean', default: false },
  },
})

// pglite-socket uses a global that Node 18, Debian 12's, does not have yet.
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor(type, { detail } = {}) {
    super(type)
    this.detail = detail
  }
}

let end
const ended = new Promise((resolve) => (end = resolve))
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, end)
process.stdin.on('end', end).on('close', end).on('error', end).resume()
// Starting takes seconds of uninterruptible WebAssembly; there is nothing to save.
ended.then(() => process.exit(0))

const db = await open(options.load && new Blob([await readFile(options.load)]))
if (!options['no-graph'] && !options.load) {
  await db.exec('CREATE EXTENSION IF NOT EXISTS age')
  await createSampleGraph(db, Number(options.documents))
}
const { rows } = await db.query(
  `SELECT current_setting('server_version') AS version,
          (SELECT extversion FROM pg_extension WHERE extname = 'age') AS age`,
)
const labels = rows[0].age ? await countLabels(db) : []

const server = new PGLiteSocketServer({ db, host: options.host, port: Number(options.port), maxConnections: 8 })
server.addEventListener('error', (event) => console.error('server:', event.detail))
await server.start()
// All connections share one backend, whose prepared statements and settings outlive them. A client
// that comes alone finds a fresh session, as it would elsewhere. PGlite runs this before the
// client's first message, because it was asked first.
let connected = 0
server.server.prependListener('connection', (socket) => {
  connected += 1
  socket.on('close', () => (connected -= 1))
  if (connected === 1 && !db.isInTransaction()) {
    db.exec('DEALLOCATE ALL; RESET ALL').catch((error) => console.error('server: reset:', error))
  }
})
const port = Number(server.getServerConn().split(':').pop())
console.log(
  JSON.stringify({
    ready: true,
    host: options.host,
    port,
    user: 'postgres',
    database: 'postgres',
    ...rows[0],
    graph: options['no-graph'] ? null : GRAPH,
    labels,
  }),
)
