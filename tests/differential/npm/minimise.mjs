// Makes of recorded projects the small universes that `make test` resolves: only the packages and versions that an answer is
// made of or that were looked at on the way, without addresses, and what npm answers when it has nothing else.
//
// usage: minimise.mjs PROJECT...; after a run of `run.mjs`.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { projects } from './projects.mjs'
import { Recording, ofNpm, serve } from './registry.mjs'
import { Tree, ofPackageLock, wanted } from './trees.mjs'

const top = resolve(dirname(fileURLToPath(import.meta.url)), '../../..')
const kept = process.env.RECORDINGS ?? join(top, '.recordings/npm')
const fixtures = join(top, 'agents/packager/src/resolve/npm/tests/recorded')
const pickManifest = ofNpm('npm-pick-manifest')
const recording = new Recording(kept)

const TABLES = ['peerDependencies', 'dependencies', 'optionalDependencies']

/** The part of a recording that a project can see: everything that any of its wants leads to. */
function visible(manifest) {
  const seen = new Map()
  const open = []
  const ask = (table, meta = {}) => {
    for (const [name, text] of Object.entries(table ?? {})) {
      // An optional peer is only looked for among what others brought.
      if (!meta?.[name]?.optional) open.push(wanted(name, text))
    }
  }
  for (const table of [...TABLES, 'devDependencies']) ask(manifest[table])
  const rules = (object) => {
    for (const [key, value] of Object.entries(object ?? {})) {
      const name = key.slice(0, key.indexOf('@', 1) === -1 ? undefined : key.indexOf('@', 1))
      if (typeof value === 'string' && !value.startsWith('$')) open.push(wanted(name, value))
      else if (typeof value === 'object') rules(value)
    }
  }
  rules(manifest.overrides)
  while (open.length > 0) {
    const { name, want } = open.pop()
    const packument = recording.read(name)
    if (!packument) continue
    let picked
    try {
      picked = pickManifest(packument, want || '*', { nodeVersion: process.version })
    } catch {
      continue
    }
    if (!seen.has(name)) seen.set(name, new Set())
    if (seen.get(name).has(picked.version)) continue
    seen.get(name).add(picked.version)
    for (const table of TABLES) ask(picked[table], table === 'peerDependencies' ? picked.peerDependenciesMeta : {})
  }
  return seen
}

/** The same as a recording by itself, so that npm can be asked about exactly that. */
class Part {
  constructor(seen) {
    this.directory = kept
    this.packuments = new Map()
    for (const [name, texts] of seen) {
      const whole = recording.read(name)
      const latest = whole['dist-tags'].latest
      const versions = {}
      for (const text of texts) versions[text] = whole.versions[text]
      // Never taken, or it would have been seen; what it needs does not matter.
      if (latest && !versions[latest] && whole.versions[latest]) {
        const { name, version, dist, deprecated, engines } = whole.versions[latest]
        versions[latest] = { name, version, dist, ...(deprecated && { deprecated }), ...(engines && { engines }) }
      }
      const tags = Object.entries(whole['dist-tags']).filter(([, text]) => versions[text])
      this.packuments.set(name, { name, 'dist-tags': Object.fromEntries(tags), versions })
    }
  }

  read(name) {
    return this.packuments.get(name) ?? null
  }
}

const escape = (text) => text.replaceAll('%', '%25').replaceAll(' ', '%20')

/** A packument in the tests' own spelling. */
function* lines(packument) {
  for (const version of Object.values(packument.versions)) {
    const words = []
    if (version.deprecated) words.push('deprecated')
    for (const key of ['os', 'cpu', 'libc']) {
      const list = [version[key] ?? []].flat()
      if (list.length > 0) words.push(`${key}=${list.join(',')}`)
    }
    if (version.engines?.node) words.push(`node=${escape(version.engines.node)}`)
    const bundled = version.bundleDependencies ?? version.bundledDependencies
    const names = bundled === true ? Object.keys(version.dependencies ?? {}) : (bundled || [])
    if (names.length > 0) words.push(`bundle=${names.join(',')}`)
    const wishes = []
    for (const [table, prefix] of [['dependencies', ''], ['optionalDependencies', 'opt '], ['peerDependencies', 'peer ']]) {
      for (const [name, text] of Object.entries(version[table] ?? {})) {
        const optional = table === 'peerDependencies' && version.peerDependenciesMeta?.[name]?.optional
        wishes.push(`${optional ? 'optpeer ' : prefix}${name}@${escape(text)}`)
      }
    }
    yield `${packument.name}@${version.version}${words.length ? ` ${words.join(' ')}` : ''}:${wishes.map((wish) => ` ${wish}`).join('')}`
  }
  for (const [tag, text] of Object.entries(packument['dist-tags'])) yield `tag ${packument.name} ${tag} ${text}`
}

mkdirSync(fixtures, { recursive: true })
for (const name of process.argv.slice(2)) {
  const manifest = { name: 'differential', version: '1.0.0', private: true, ...projects[name] }
  const part = new Part(visible(manifest))
  const registry = await serve(part, true)
  const directory = mkdtempSync(join(tmpdir(), 'bolide-minimise-'))
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest))
  let expected = ['conflict']
  try {
    const args = ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', `--registry=${registry.url}`]
    await new Promise((done, failed) => {
      const env = { ...process.env, npm_config_cache: join(directory, '.cache') }
      const child = spawn('npm', args, { cwd: directory, stdio: 'ignore', env })
      child.on('close', (code) => (code === 0 ? done() : failed(new Error(`npm: exit ${code}`))))
    })
    const lock = JSON.parse(readFileSync(join(directory, 'package-lock.json'), 'utf8'))
    expected = [...new Tree(ofPackageLock(lock), manifest, part).usable().edgeSet()].sort()
  } catch (error) {
    if (existsSync(join(directory, 'package-lock.json'))) throw error
  }
  registry.close()
  const whole = JSON.parse(readFileSync(join(kept, 'answers', `${name}.npm.json`), 'utf8'))
  if ((whole.code === 0) !== (expected[0] !== 'conflict')) {
    console.log(`${name}: what is left is another problem; it is left out`)
    rmSync(directory, { recursive: true, force: true })
    continue
  }
  rmSync(directory, { recursive: true, force: true })
  const universe = [...part.packuments.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).flatMap((one) => [...lines(one)])
  const text = [JSON.stringify(manifest, null, 2), '---', process.version.slice(1), '---', ...universe, '---', ...expected, ''].join('\n')
  writeFileSync(join(fixtures, `${name}.txt`), text)
  console.log(`${name}: ${part.packuments.size} packages, ${expected.length} edges, ${text.length} bytes`)
}
