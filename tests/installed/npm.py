"""npm's judgement of a `node_modules`: `npm ls --all`, `npm ci` of the same plan, node loading packages, commands run."""

import json
import re
import tomllib
import urllib.parse
import urllib.request

import trees
from judges import Refused, sort_out

# Commands of one set that are run; the direct dependencies' come first.
COMMANDS_MAX = 40
# Longest line of a program's last words that is read.
LINE_MAX = 500

EXCEPTIONS = [
    (
        lambda _, what: re.fullmatch(r"mode 755, theirs 7[0-7]4|mode 755, theirs 7[0-7]0|mode 755, theirs 745", what),
        "a mode that lets some people execute: Bolide's store knows whether a file can be executed, and not by whom",
    ),
    (
        lambda path, what: path == ".package-lock.json" and what == "only theirs",
        "npm's hidden lock: npm trusts it more than the tree, so a tree that npm did not make has none",
    ),
]

# Loads every package by its name, as a module of either kind, in a process of its own.
LOAD = """
const name = process.argv[1]
import(name).then((module) => { console.log(JSON.stringify(Object.keys(module).sort())); process.exit(0) },
  (error) => { console.log(error.code ?? error.name); process.exit(1) })
"""

def run(scratch, wanted):
    project = scratch.project
    manifest = {"name": "installed", "version": "1.0.0", "private": True, "dependencies": wanted}
    (project / "package.json").write_text(json.dumps(manifest, indent=2))
    scratch.install("--registry", f"npm={scratch.url}")
    packages = locked(project)
    ours = Tree(scratch, wanted)
    (project / "node_modules").rename(scratch.place / "ours")
    write_lock(scratch, manifest, packages)
    code, out, errors = scratch.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", seconds_max=600)
    if code != 0:
        told = " ".join(line.removeprefix("npm error").strip() for line in errors.splitlines() if line.startswith("npm error"))
        raise Refused(f"`npm ci` refuses the plan: {told[:600]}")
    scratch.keep_project(*(project / name for name in ("package.json", "package-lock.json", "bolide.lock")))
    theirs = Tree(scratch, wanted, ours.failed)
    findings = ours.findings(theirs)
    left, right = trees.snapshot(scratch.place / "ours"), trees.snapshot(project / "node_modules")
    different, excepted = sort_out(trees.differences(left, right), EXCEPTIONS)
    counts = {"packages": len(packages), "files": len(left), "loaded": ours.loaded, "commands": ours.ran}
    return {"counts": counts, "findings": findings + different, "excepted": excepted}


class Tree:
    """What stands in the project now, and what npm and node make of it; `only` limits programs to some."""

    def __init__(self, scratch, wanted, only=None):
        self.scratch = scratch
        code, out, _ = scratch.run("npm", "ls", "--all", "--json", seconds_max=300)
        self.listed = code, edges(json.loads(out or "{}"))
        self.problems = json.loads(out or "{}").get("problems", [])
        self.failed, self.results, self.loaded, self.ran = set(), {}, 0, 0
        for name in wanted:
            self.program(("load", name), only, "node", "--input-type=module", "-e", LOAD, name)
        for name in commands(scratch.project, wanted):
            for flag in ("--version", "--help"):
                self.program((flag, name), only, scratch.project / "node_modules" / ".bin" / name, flag)

    def program(self, key, only, *command):
        if only is not None and key not in only:
            return
        code, out, errors = self.scratch.run(*command)
        self.results[key] = code, out.strip() if key[0] == "load" else ""
        if code != 0:
            self.failed.add(key)
            self.results[key] = code, reason(out, errors)
        elif key[0] == "load":
            self.loaded += 1
        else:
            self.ran += 1

    def findings(self, theirs):
        found = []
        if self.listed != theirs.listed:
            only = sorted(self.listed[1] ^ theirs.listed[1])[:5]
            found.append(f"`npm ls --all` ended with {self.listed[0]}, for npm's own tree with {theirs.listed[0]}: {only}")
        if self.problems and self.problems != theirs.problems:
            found.append(f"`npm ls --all`: {self.problems[:3]}")
        for key in sorted(self.failed):
            if self.results[key] != theirs.results[key]:
                found.append(f"{' '.join(key)}: {self.results[key]}, with npm's own tree {theirs.results[key]}")
        return found


def reason(out, errors):
    """The line that says what is wrong, without paths that change. A long one is the program's source, cut somewhere."""
    told = [line for line in (out + "\n" + errors).splitlines() if len(line) < LINE_MAX]
    lines = [line for line in told if "Error" in line or "ERR_" in line]
    return lines[0].strip() if lines else ""


def edges(tree, at=""):
    """The tree that `npm ls` prints as a set of lines."""
    found = set()
    for name, package in tree.get("dependencies", {}).items():
        # An optional package that is not there, as on another platform; whether npm mentions it depends on its hidden lock.
        if not package:
            continue
        place = f"{at}/{name}"
        marks = [mark for mark in ("missing", "invalid", "extraneous") if package.get(mark)]
        found.add(" ".join([place, package.get("version", "-"), *marks]))
        found |= edges(package, place)
    return found


def commands(project, wanted):
    """Commands of the direct dependencies, then others."""
    place = project / "node_modules" / ".bin"
    here = [path.name for path in place.iterdir()] if place.is_dir() else []
    direct = set()
    for name in wanted:
        about = json.loads((project / "node_modules" / name / "package.json").read_text())
        bins = about.get("bin", {})
        direct |= {name.rsplit("/", 1)[-1]} if isinstance(bins, str) else set(bins)
    return sorted(here, key=lambda name: (name not in direct, name))[:COMMANDS_MAX]


def locked(project):
    lock = tomllib.loads((project / "bolide.lock").read_text())
    return lock["package"]


def name_and_version(purl):
    name, version = purl.removeprefix("pkg:npm/").split("?")[0].rsplit("@", 1)
    return urllib.parse.unquote(name), urllib.parse.unquote(version)


def write_lock(scratch, manifest, packages):
    """Bolide's plan as npm's lock, so that `npm ci` installs the same and says whether it is whole."""
    entries = {"": {field: manifest[field] for field in ("name", "version", "dependencies")}}
    places = {package["place"] for package in packages}
    for package in sorted(packages, key=lambda package: package["place"]):
        name, version = name_and_version(package["purl"])
        about = document(scratch, name)["versions"][version]
        entry = {key: about[key] for key in about if key not in ("name", "dist", "_hasShrinkwrap")}
        entry.update(version=version, resolved=about["dist"]["tarball"], integrity=about["dist"].get("integrity"))
        # npm's lock lists packages of other platforms too, and Bolide's does not: what none of these could be is not asked for.
        optional = entry.get("optionalDependencies", {})
        for other in [other for other in optional if not is_found(other, package["place"], places)]:
            del optional[other]
            entry.get("dependencies", {}).pop(other, None)
        if isinstance(entry.get("bin"), str):
            entry["bin"] = {name.rsplit("/", 1)[-1]: entry["bin"]}
        if package["place"].rsplit("node_modules/", 1)[-1] != name:
            entry["name"] = name
        entries[package["place"]] = {key: value for key, value in entry.items() if value is not None}
    lock = {"name": manifest["name"], "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": entries}
    (scratch.project / "package-lock.json").write_text(json.dumps(lock))


def is_found(name, place, places):
    """Whether node would find the package from that place."""
    while True:
        if f"{place}/node_modules/{name}".lstrip("/") in places:
            return True
        if not place:
            return False
        place = place.rpartition("node_modules/")[0].rstrip("/")


def document(scratch, name):
    with urllib.request.urlopen(scratch.url + urllib.parse.quote(name, safe="@/")) as reply:
        return json.loads(reply.read())
