// A recording loopback registry: the first question about a package goes to the registry that npm is configured for,
// every later one is answered from the recording, so that all clients read the same bytes and a run repeats.
//
// What is kept is what a resolver reads of a packument. Archives are kept too, because npm looks into those that bring
// packages along. Nothing here knows an address: the registry is asked of the installed npm, with its own client.

import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'

const text = (program, ...args) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()

/** Modules that npm itself is made of. */
export const ofNpm = createRequire(join(text('npm', 'root', '-g'), 'npm', 'package.json'))

/** Fields of a version that some client reads to resolve. */
const FIELDS = [
  'name', 'version', 'dependencies', 'optionalDependencies', 'peerDependencies', 'peerDependenciesMeta',
  'bundleDependencies', 'bundledDependencies', 'bin', 'engines', 'os', 'cpu', 'libc', 'deprecated',
  'hasInstallScript', '_hasShrinkwrap', 'dist',
]
/** Fields of an archive's description. */
const DIST_FIELDS = ['integrity', 'shasum', 'tarball']

/** Recorded addresses stand for this one, which is put in when an answer is sent. */
const HERE = 'http://recording.invalid/'

const pick = (object, fields) =>
  Object.fromEntries(fields.filter((field) => object?.[field] !== undefined).map((field) => [field, object[field]]))

/** A package's recording: its packument, or `null` where the registry has none; `undefined` where nobody asked yet. */
export class Recording {
  constructor(directory) {
    this.directory = directory
    this.known = new Map()
    mkdirSync(join(directory, 'packuments'), { recursive: true })
    mkdirSync(join(directory, 'archives'), { recursive: true })
  }

  place(name) {
    return join(this.directory, 'packuments', `${encodeURIComponent(name)}.json.gz`)
  }

  read(name) {
    if (!this.known.has(name)) {
      if (!existsSync(this.place(name))) return undefined
      this.known.set(name, JSON.parse(gunzipSync(readFileSync(this.place(name)))))
    }
    return this.known.get(name)
  }

  write(name, packument) {
    this.known.set(name, packument)
    store(this.place(name), gzipSync(JSON.stringify(packument)))
  }
}

function store(place, bytes) {
  writeFileSync(`${place}.new`, bytes)
  renameSync(`${place}.new`, place)
}

/** Serves a recording; `offline` answers 404 to what is not in it. */
export async function serve(recording, offline) {
  const fetch = ofNpm('npm-registry-fetch')
  const options = { registry: text('npm', 'config', 'get', 'registry'), preferOnline: true }
  const asked = new Map()
  const base = (server) => `http://127.0.0.1:${server.address().port}/`

  const packument = async (name) => {
    const kept = recording.read(name)
    if (kept !== undefined || offline) return kept ?? null
    if (!asked.has(name)) asked.set(name, record(name).finally(() => asked.delete(name)))
    return asked.get(name)
  }

  const record = async (name) => {
    let whole = null
    try {
      whole = await fetch.json(`/${name.replace('/', '%2f')}`, options)
    } catch (error) {
      if (error.statusCode !== 404) throw error
    }
    if (whole) {
      for (const [text, version] of Object.entries(whole.versions ?? {})) {
        const file = version.dist?.tarball?.split('/').pop() ?? ''
        const dist = { ...pick(version.dist, DIST_FIELDS), tarball: `${HERE}${name}/-/${file}` }
        const installs = ['preinstall', 'install', 'postinstall'].some((script) => version.scripts?.[script])
        whole.versions[text] = { ...pick(version, FIELDS), dist, ...(installs && { hasInstallScript: true }) }
      }
      whole = pick(whole, ['name', 'dist-tags', 'versions', 'time', 'modified'])
    }
    recording.write(name, whole)
    return whole
  }

  const archive = async (name, file) => {
    const place = join(recording.directory, 'archives', encodeURIComponent(`${name}/${file}`))
    if (!existsSync(place)) {
      if (offline) return null
      const answer = await fetch(`/${name}/-/${file}`, options)
      store(place, await answer.buffer())
    }
    return readFileSync(place)
  }

  const server = createServer(async (request, response) => {
    try {
      const path = decodeURIComponent(request.url.split('?')[0].slice(1))
      const [name, file] = path.split('/-/')
      const bytes = file ? await archive(name, file) : await packument(name)
      if (bytes === null) {
        response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"not found"}')
      } else if (file) {
        response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(bytes)
      } else {
        const body = JSON.stringify(bytes).replaceAll(HERE, base(server))
        response.writeHead(200, { 'content-type': 'application/json' }).end(body)
      }
    } catch (error) {
      response.writeHead(502, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ error: String(error.message) }))
    }
  })
  server.keepAliveTimeout = 60_000
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: base(server), close: () => server.closeAllConnections() ?? server.close() }
}
