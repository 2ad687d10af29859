// `make differential ECOSYSTEM=npm`: every project of `projects.mjs` resolved by npm, by pnpm and by Bolide from one recording.
//
// For npm the edges from package to version have to be the same, wherever they stand in the tree. Where they are not, the
// difference stands in `differences.mjs` with its reason, and the judge of `trees.mjs` finds no more amiss in Bolide's tree
// than in npm's. pnpm has another order of choice; its column counts in how many edges it differs.
//
// usage: run.mjs [--offline] [--fresh] [PROJECT...]; BOLIDE and PNPM name the programs.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { differences } from './differences.mjs'
import { projects } from './projects.mjs'
import { Recording, serve } from './registry.mjs'
import { Tree, ofPackageLock, ofPlan, ofPnpmLock, runs } from './trees.mjs'

const top = resolve(dirname(fileURLToPath(import.meta.url)), '../../..')
const flags = new Set(process.argv.slice(2).filter((one) => one.startsWith('--')))
const chosen = process.argv.slice(2).filter((one) => !one.startsWith('--'))
const bolide = process.env.BOLIDE ?? join(top, 'target/release/bolide')
const pnpm = process.env.PNPM ?? join(top, '.peers/bin/pnpm')
const kept = process.env.RECORDINGS ?? join(top, '.recordings/npm')
const SECONDS_MAX = 300
/** A dependency that Bolide's copy of a project has and is asked to remove, so that it resolves what the project has. */
const MARKER = 'differential-marker'

/** Runs a program to its end; `{ code, out, seconds }`. */
function run(program, args, directory, variables) {
  return new Promise((done) => {
    const began = process.hrtime.bigint()
    const child = spawn(program, args, { cwd: directory, env: { ...process.env, ...variables }, stdio: ['ignore', 'pipe', 'pipe'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), SECONDS_MAX * 1000)
    let out = ''
    let errors = ''
    child.stdout.on('data', (bytes) => (out += bytes))
    child.stderr.on('data', (bytes) => (errors += bytes))
    child.on('error', (error) => (errors += error.message))
    child.on('close', (code) => {
      clearTimeout(timer)
      done({ code, out, errors, seconds: Number(process.hrtime.bigint() - began) / 1e9 })
    })
  })
}

/** A peer's answer for a project, from the recordings where it was asked before. */
async function answer(tool, name, manifest, ask) {
  const place = join(kept, 'answers', `${name}.${tool}.json`)
  const digest = createHash('sha256').update(JSON.stringify(manifest)).digest('hex')
  if (!flags.has('--fresh') && existsSync(place)) {
    const known = JSON.parse(readFileSync(place, 'utf8'))
    if (known.digest === digest) return known
  }
  const directory = mkdtempSync(join(tmpdir(), 'bolide-differential-'))
  try {
    const found = { digest, ...(await ask(directory)) }
    mkdirSync(dirname(place), { recursive: true })
    writeFileSync(place, JSON.stringify(found))
    return found
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const put = (directory, file, content) =>
  writeFileSync(join(directory, file), typeof content === 'string' ? content : JSON.stringify(content, null, 2))
const read = (directory, file) =>
  existsSync(join(directory, file)) ? readFileSync(join(directory, file), 'utf8') : undefined

/** A project with the packages that it has itself. */
function lay(directory, manifest, members) {
  put(directory, 'package.json', manifest)
  for (const [place, own] of Object.entries(members)) {
    mkdirSync(join(directory, place), { recursive: true })
    put(join(directory, place), 'package.json', own)
  }
}

async function askNpm(directory, manifest, members, url) {
  lay(directory, manifest, members)
  const args = ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', `--registry=${url}`]
  const done = await run('npm', args, directory, { npm_config_cache: join(directory, '.cache') })
  return { code: done.code, seconds: done.seconds, errors: done.errors.slice(-4000), lock: read(directory, 'package-lock.json') }
}

async function askPnpm(directory, manifest, url) {
  put(directory, 'package.json', manifest)
  put(directory, '.npmrc', `registry=${url}\n`)
  const rules = Object.entries(flatOverrides(manifest)).map(([key, value]) => `  '${key}': '${value}'\n`)
  put(directory, 'pnpm-workspace.yaml', `minimumReleaseAge: 0\n${rules.length ? `overrides:\n${rules.join('')}` : ''}`)
  const variables = { XDG_CACHE_HOME: join(directory, '.cache'), XDG_DATA_HOME: join(directory, '.data') }
  const done = await run(pnpm, ['install', '--lockfile-only', '--ignore-scripts'], directory, variables)
  return { code: done.code, seconds: done.seconds, errors: (done.out + done.errors).slice(-4000), lock: read(directory, 'pnpm-lock.yaml') }
}

/** Nested overrides in pnpm's spelling, `a>b`. */
function flatOverrides(manifest) {
  const flat = {}
  for (const [key, value] of Object.entries(manifest.overrides ?? {})) {
    if (typeof value === 'string') flat[key] = value
    else for (const [inner, text] of Object.entries(value)) flat[inner === '.' ? key : `${key}>${inner}`] = text
  }
  return flat
}

async function askBolide(manifest, members, url) {
  const directory = mkdtempSync(join(tmpdir(), 'bolide-differential-'))
  try {
    lay(directory, { ...manifest, dependencies: { ...manifest.dependencies, [MARKER]: '*' } }, members)
    const variables = { XDG_CACHE_HOME: join(directory, '.cache'), XDG_STATE_HOME: join(directory, '.state') }
    const args = ['plan', '--remove', `npm:${MARKER}`, '--standalone', '--json', '--registry', `npm=${url}`,
      '--state-dir', join(directory, '.state'), '--runtime-dir', join(directory, '.runtime')]
    return await run(bolide, args, directory, variables)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const only = (left, right) => [...left].filter((one) => !right.has(one)).sort()

/**
 * How pnpm's edges differ. It takes the highest version of each range, where npm takes what is there already: `choices` are
 * edges of the same dependency to another version, `follows` belong to packages that only one of them has for that reason,
 * `elsewhere` are optional packages of other platforms, which its lock lists; `optional` are optional peers, which may be
 * there or not (pnpm also knows those that are only named in `peerDependenciesMeta`); `others` are none of these: what
 * pnpm adds to published packages from a table of its own (`debug` gets `supports-color`).
 */
function beside(pnpm, edges, recording) {
  const read = (edge) => {
    const [, from, name, to] = /^(.+) > (.+): (.+)$/.exec(edge)
    return { from, key: `${from} > ${name}`, name, to }
  }
  const keys = (all) => new Set([...all].map((edge) => read(edge).key))
  const sources = (all) => new Set([...all].map((edge) => read(edge).from))
  const found = { choices: 0, follows: 0, elsewhere: 0, optional: 0, others: [] }
  const sort = (mine, theirs) => {
    const [theirKeys, theirSources] = [keys(theirs), sources(theirs)]
    const theirPackages = new Set([...theirs].map((edge) => read(edge).to))
    for (const edge of only(mine, theirs)) {
      const { from, key, name, to } = read(edge)
      if (theirKeys.has(key)) found.choices += 1
      else if (!theirSources.has(from) && !theirPackages.has(from)) found.follows += 1
      else if (!runs(manifestOf(to, recording))) found.elsewhere += 1
      else if (manifestOf(from, recording).peerDependenciesMeta?.[name]?.optional) found.optional += 1
      else found.others.push(edge)
    }
  }
  sort(pnpm.edges, edges)
  sort(edges, pnpm.edges)
  return found
}

function manifestOf(id, recording) {
  const at = id.lastIndexOf('@')
  return recording.read(id.slice(0, at))?.versions?.[id.slice(at + 1)] ?? {}
}

/** What came out of one project. */
async function compare(name, { members = {}, ...manifest }, recording, url) {
  const isAlone = Object.keys(members).length === 0
  const npm = await answer('npm', name, isAlone ? manifest : { ...manifest, members }, (directory) => askNpm(directory, manifest, members, url))
  // pnpm gives each member a tree of its own, which is no peer of one tree.
  const theirs = isAlone ? await answer('pnpm', name, manifest, (directory) => askPnpm(directory, manifest, url)) : { seconds: 0 }
  const ours = await askBolide(manifest, members, url)
  const row = { name, npm: npm.code, pnpm: theirs.code, bolide: ours.code, problems: [] }
  row.seconds = { npm: npm.seconds, pnpm: theirs.seconds, bolide: ours.seconds }
  if (npm.code !== 0 || ours.code !== 0) {
    row.errors = { npm: npm.errors, bolide: ours.errors || ours.out.slice(0, 4000) }
    if (npm.code === 0) row.problems.push('npm has an answer')
    if (ours.code === 0) {
      // npm gives up where versions that it takes first do not agree; an answer has to be right by itself then.
      const tree = new Tree(ofPlan(JSON.parse(ours.out)), manifest, recording, members)
      row.differs = true
      row.faultsOfBolide = tree.faults()
      // Peers of other people's packages that cannot be had are overruled with a warning, as npm does.
      const hard = row.faultsOfBolide.filter((fault) => !fault.kind.includes('peer'))
      row.problems.push(...hard.map((fault) => `unsatisfied: ${fault.text}`))
    }
    return row
  }
  const left = new Tree(ofPackageLock(JSON.parse(npm.lock)), manifest, recording, members).usable()
  const right = new Tree(ofPlan(JSON.parse(ours.out)), manifest, recording, members)
  const [edgesLeft, edgesRight] = [left.edgeSet(), right.edgeSet()]
  row.packages = { npm: left.places.size, bolide: right.places.size }
  row.edges = { npm: edgesLeft.size, bolide: edgesRight.size }
  row.onlyNpm = only(edgesLeft, edgesRight)
  row.onlyBolide = only(edgesRight, edgesLeft)
  const [faultsLeft, faultsRight] = [left.faults(), right.faults()]
  const known = new Set(faultsLeft.map((fault) => fault.text))
  row.faults = { npm: faultsLeft.length, bolide: faultsRight.length }
  row.faultsOfNpm = faultsLeft
  row.faultsOfBolide = faultsRight
  const hard = faultsRight.filter((fault) => !fault.kind.includes('peer') && !known.has(fault.text))
  row.problems.push(...hard.map((fault) => `unsatisfied: ${fault.text}`))
  if (faultsRight.length > faultsLeft.length) row.problems.push('more peers amiss than with npm')
  if (row.packages.bolide > row.packages.npm) row.larger = row.packages.bolide - row.packages.npm
  if (row.onlyNpm.length + row.onlyBolide.length > 0) row.differs = true
  if (theirs.code === 0) {
    const other = ofPnpmLock(theirs.lock)
    row.pnpmEdges = beside(other, edgesRight, recording)
  }
  return row
}

function say(row) {
  const explained = differences[row.name]
  const verdict = row.problems.length > 0 ? 'WRONG' : row.differs || row.larger ? (explained ? 'explained' : 'DIFFERS') : row.npm === 0 ? 'same' : 'none has'
  const count = (key) => (row[key] ? `${row[key].npm}/${row[key].bolide}` : '-')
  const cells = [row.name.padEnd(26), verdict.padEnd(10), `packages ${count('packages')}`.padEnd(20), `edges ${count('edges')}`.padEnd(17),
    `-${row.onlyNpm?.length ?? 0} +${row.onlyBolide?.length ?? 0}`.padEnd(10), `faults ${count('faults')}`.padEnd(14),
    row.pnpmEdges ? `pnpm ${row.pnpmEdges.choices} choices, ${row.pnpmEdges.follows} follow, ${row.pnpmEdges.elsewhere} elsewhere, ${row.pnpmEdges.optional} optional, ${row.pnpmEdges.others.length} others` : row.pnpm === undefined ? 'pnpm not asked' : `pnpm exit ${row.pnpm}`]
  const seconds = ['npm', 'pnpm', 'bolide'].map((tool) => row.seconds[tool].toFixed(1)).join('/')
  console.log(`${cells.join(' ')}  ${seconds} s`)
  if (verdict === 'WRONG') for (const problem of row.problems.slice(0, 5)) console.log(`    ${problem}`)
  return { ...row, verdict }
}

const recording = new Recording(kept)
const registry = await serve(recording, flags.has('--offline'))
const rows = []
for (const [name, manifest] of Object.entries(projects)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  const whole = { name: 'differential', version: '1.0.0', private: true, ...manifest }
  rows.push(say(await compare(name, whole, recording, registry.url)))
}
registry.close()
writeFileSync(join(kept, 'report.json'), JSON.stringify(rows, null, 1))
const count = (verdict) => rows.filter((row) => row.verdict === verdict).length
console.log(`${rows.length} projects: ${count('same')} same, ${count('explained')} explained, ${count('none has')} without an answer, ${count('DIFFERS')} differ, ${count('WRONG')} wrong`)
process.exitCode = count('DIFFERS') + count('WRONG') > 0 ? 1 : 0
