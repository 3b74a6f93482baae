// make-data.mjs TAR [--documents N]: the data directory with the sample graph, for server.mjs --load.
//
// Written under another name and renamed, so that a reader never sees half a file. It is a cache:
// delete it after changing graph.mjs or the package versions.

import { rename, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { createSampleGraph, open } from './graph.mjs'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { documents: { type: 'string', default: '200' } },
})
if (positionals.length !== 1) {
  console.error('usage: make-data.mjs TAR [--documents N]')
  process.exit(2)
}
const [target] = positionals
const db = await open()
await db.exec('CREATE EXTENSION IF NOT EXISTS age')
await createSampleGraph(db, Number(options.documents))
const tar = await db.dumpDataDir('none')
await writeFile(`${target}.new`, Buffer.from(await tar.arrayBuffer()))
await rename(`${target}.new`, target)
await db.close()
