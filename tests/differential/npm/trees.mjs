// Trees of packages as the clients answer them, read into one form, and judged without any of their resolvers: who finds
// whom is looked up as node does, and whether that fits is asked of npm's own `semver`.

import { ofNpm } from './registry.mjs'

const semver = ofNpm('semver')
const checks = ofNpm('npm-install-checks')
const LOOSE = { loose: true }

/** What a dependency's text asks for: the package's name, and a range or a tag. */
export function wanted(name, text) {
  const alias = /^npm:(@?[^@]+)(?:@(.*))?$/i.exec(text)
  return alias ? { name: alias[1], want: alias[2] ?? '*' } : { name, want: text }
}

/** The tree of a package-lock.json: place to `{ name, version }`. */
export function ofPackageLock(lock) {
  const tree = new Map()
  for (const [place, entry] of Object.entries(lock.packages)) {
    // Links and the project's own packages are known without it.
    if (place === '' || entry.inBundle || entry.link || !place.includes('node_modules/')) continue
    const folder = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
    tree.set(place, { name: entry.name ?? folder, version: entry.version, entry })
  }
  return tree
}

/** The tree of `bolide plan --json`. */
export function ofPlan(plan) {
  const tree = new Map()
  for (const { purl, place } of plan.packages) {
    const [, name, version] = /^pkg:npm\/(.+)@([^@]+)$/.exec(purl)
    tree.set(place, { name: decodeURIComponent(name), version: decodeURIComponent(version) })
  }
  return tree
}

/** The dependencies of a package by name, as npm reads them: `{ text, kind }`. */
function dependencies(manifest, isRoot) {
  const found = new Map()
  const bundled = new Set(bundles(manifest))
  const optionalPeer = (name) => manifest.peerDependenciesMeta?.[name]?.optional === true
  const add = (table, kind) => {
    for (const [name, text] of Object.entries(manifest[table] ?? {})) {
      if (isRoot || !bundled.has(name)) found.set(name, { text, kind: kind(name) })
    }
  }
  add('peerDependencies', (name) => (optionalPeer(name) ? 'optional peer' : 'peer'))
  add('dependencies', () => 'required')
  add('optionalDependencies', () => 'optional')
  if (isRoot) add('devDependencies', () => 'required')
  return found
}

function bundles(manifest) {
  const list = manifest.bundleDependencies ?? manifest.bundledDependencies
  return list === true ? Object.keys(manifest.dependencies ?? {}) : (list || [])
}

/** Where node looks after a directory. */
function above(place) {
  const cut = place.lastIndexOf('/node_modules/')
  if (cut >= 0) return place.slice(0, cut)
  return place.startsWith('node_modules/') ? '' : place.slice(0, Math.max(place.lastIndexOf('/'), 0))
}

/** A tree of folders, with what every package finds. `members` are the project's own packages by their directories. */
export class Tree {
  constructor(places, root, recording, members = {}) {
    Object.assign(this, { places: new Map(places), root, recording, members })
    for (const [place, { name, version }] of Object.entries(members)) {
      this.places.set(place, { name, version })
      this.places.set(`node_modules/${name}`, { name, version, link: place })
    }
  }

  manifest(place) {
    if (place === '') return this.root
    if (this.members[place]) return this.members[place]
    const { name, version, link } = this.places.get(place)
    if (link) return {}
    return this.recording.read(name)?.versions?.[version] ?? {}
  }

  describe(place) {
    if (place === '') return 'the project'
    const one = this.places.get(place)
    return one ? `${one.name}@${one.version}` : 'nothing'
  }

  /** The place that node finds for a name from inside a package. */
  find(place, name) {
    for (let at = place; ; at = above(at)) {
      const candidate = `${at}${at && '/'}node_modules/${name}`
      if (this.places.has(candidate)) return candidate
      if (this.places.has(at) && bundles(this.manifest(at)).includes(name)) return undefined
      if (at === '') return undefined
    }
  }

  *edges() {
    for (const place of ['', ...this.places.keys()]) {
      const isOwn = place === '' || this.members[place] !== undefined
      for (const [name, { text, kind }] of dependencies(this.manifest(place), isOwn)) {
        yield { place, name, text, kind, to: this.find(place, name) }
      }
    }
    for (const [place, { name, version }] of Object.entries(this.members)) {
      const link = `node_modules/${name}`
      yield { place: '', name, text: version, kind: 'required', to: link }
      yield { place: link, name, text: version, kind: 'required', to: place }
    }
  }

  /** From package to version, without places. */
  edgeSet() {
    const set = new Set()
    for (const { place, name, kind, to } of this.edges()) {
      if (to || !kind.includes('optional')) set.add(`${this.describe(place)} > ${name}: ${this.describe(to)}`)
    }
    return set
  }

  /** Edges that are not as their package declares them. */
  faults() {
    const found = []
    for (const edge of this.edges()) {
      const { place, name, text, kind, to } = edge
      const inside = to === `${place}${place && '/'}node_modules/${name}` && place !== ''
      if (to === undefined ? kind.includes('optional') : this.fits(name, text, to) && !(kind.includes('peer') && inside)) continue
      found.push({ kind, text: `${this.describe(place)} > ${name}@${text}: ${this.describe(to)}` })
    }
    return found
  }

  fits(name, text, to) {
    const texts = [text, ...overriding(this.root.overrides, name, this.root)]
    return texts.some((text) => {
      const one = wanted(name, text)
      const { name: real, version } = this.places.get(to)
      if (one.name !== real) return false
      if (one.want === '' || one.want === '*') return true
      if (semver.validRange(one.want, LOOSE) === null) {
        return this.recording.read(real)?.['dist-tags']?.[one.want] !== undefined
      }
      return semver.satisfies(version, one.want, LOOSE)
    })
  }

  /** Without optional packages that do not run here, and without what only those need. */
  usable() {
    const edges = [...this.edges()].filter((edge) => edge.to)
    const bySource = group(edges)
    const walk = (follow) => {
      const found = new Set([''])
      for (const place of found) {
        for (const edge of bySource.get(place) ?? []) if (follow(edge)) found.add(edge.to)
      }
      return found
    }
    const required = walk((edge) => !edge.kind.includes('optional'))
    const gone = new Set()
    for (const place of this.places.keys()) {
      if (!required.has(place) && !runs(this.manifest(place))) gone.add(place)
    }
    for (let before = -1; before !== gone.size; ) {
      before = gone.size
      for (const edge of edges) {
        if (gone.has(edge.to) && !edge.kind.includes('optional') && !required.has(edge.place)) gone.add(edge.place)
      }
    }
    const kept = walk((edge) => !gone.has(edge.to))
    const around = new Set()
    for (const place of kept) {
      for (let at = place; at !== ''; at = above(at)) around.add(at)
    }
    return new Tree(new Map([...this.places].filter(([place]) => around.has(place))), this.root, this.recording, this.members)
  }
}

function group(edges) {
  const groups = new Map()
  for (const edge of edges) {
    if (!groups.has(edge.place)) groups.set(edge.place, [])
    groups.get(edge.place).push(edge)
  }
  return groups
}

/** Whether a version runs on this machine. */
export function runs(manifest) {
  try {
    checks.checkEngine(manifest, '11.0.0', process.version, false)
    checks.checkPlatform(manifest, false)
    return true
  } catch {
    return false
  }
}

/** Everything that some override might put in the place of a name. */
function overriding(rules, name, root) {
  const texts = []
  for (const [key, value] of Object.entries(rules ?? {})) {
    const of = key.slice(0, key.indexOf('@', 1) === -1 ? undefined : key.indexOf('@', 1))
    const text = typeof value === 'string' ? value : value['.']
    if (of === name && text) {
      const refers = text.startsWith('$') ? text.slice(1) : undefined
      texts.push(refers ? (root.dependencies?.[refers] ?? root.devDependencies?.[refers]) : text)
    }
    if (typeof value === 'object') texts.push(...overriding(value, name, root))
  }
  return texts
}

/** `name@version` and edges of a pnpm-lock.yaml; only what this needs of YAML, as pnpm writes it. */
export function ofPnpmLock(text) {
  const packages = new Set()
  const edges = new Set()
  const plain = (text) => text.trim().replace(/^'(.*)'$/, '$1')
  const base = (id) => id.replace(/\(.*$/, '')
  let part = ''
  let from
  let table = ''
  let rootName
  for (const line of text.split('\n')) {
    const indent = line.search(/\S/)
    if (indent === 0) part = line.replace(':', '').trim()
    if (part === 'snapshots') {
      if (indent === 2) {
        from = base(plain(line.trim().replace(/:( \{\})?$/, '')))
        packages.add(from)
      } else if (indent === 4) table = plain(line.replace(':', ''))
      else if (indent === 6 && (table === 'dependencies' || table === 'optionalDependencies')) {
        const [name, value] = split(line)
        edges.add(`${from} > ${name}: ${target(name, base(value))}`)
      }
    } else if (part === 'importers') {
      if (indent === 6) rootName = plain(line.trim().replace(/:$/, ''))
      if (indent === 8 && line.trim().startsWith('version:')) {
        const value = base(plain(line.trim().slice('version:'.length)))
        edges.add(`the project > ${rootName}: ${target(rootName, value)}`)
      }
    }
  }
  return { packages, edges }

  function split(line) {
    const [, name, value] = /^\s*('[^']+'|[^:\s]+): (.*)$/.exec(line)
    return [plain(name), plain(value)]
  }
  function target(name, value) {
    return /^(@[^/]+\/)?[^@/]+@\d/.test(value) ? value : `${name}@${value}`
  }
}
