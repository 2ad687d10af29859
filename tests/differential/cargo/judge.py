"""Whether a Cargo.lock satisfies every constraint of its workspace and of the index: written apart from the solver.

It reads the members through `cargo metadata --no-deps`, follows cargo's rules for features over the locked versions, and
says everything that is wrong: an edge that its requirement does not allow, two versions in one range of compatible ones, a
feature that is not there, a native library that two versions link, a yanked version that was not locked before, a package
that nothing needs, a checksum that is not the index's.
"""

import collections
import json
import subprocess
import tomllib

import registry
import versions


def read_lock(text):
    return tomllib.loads(text).get("package", [])


def members(directory, environment):
    """The workspace's packages as cargo reads them, and with `is_near` those that lie near it and are only depended on."""
    found = described(directory, environment)
    known = {(one["name"], one["version"]) for one in found}
    pending = list(found)
    while pending:
        for need in pending.pop()["dependencies"]:
            if not need.get("path"):
                continue
            for one in described(need["path"], environment):
                if one["name"] == need["name"] and (one["name"], one["version"]) not in known:
                    known.add((one["name"], one["version"]))
                    found.append({**one, "is_near": True})
                    pending.append(one)
    return found


def described(directory, environment):
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)["packages"]


class Judge:
    def __init__(self, place):
        self.place = place
        self.known = {}

    def release(self, name, version):
        """The index's line of one version."""
        if name not in self.known:
            lines = (self.place / registry.path_of(name)).read_text().splitlines()
            self.known[name] = {line["vers"]: line for line in map(json.loads, filter(None, lines))}
        return self.known[name].get(version)

    def problems(self, lock, roots, locked_before=()):
        return Walk(self, lock, roots, set(locked_before)).run()


def of_index(line):
    """An index line as dependencies and features in one form with the members'."""
    needs = []
    for one in line["deps"]:
        if one.get("kind") == "dev":
            continue
        needs.append(
            {
                "alias": one["name"],
                "name": one.get("package") or one["name"],
                "req": one["req"],
                "features": one.get("features", []),
                "default": one.get("default_features", True),
                "optional": one.get("optional", False),
                "path": None,
            }
        )
    features = {key: list(values) for key, values in line["features"].items()}
    for key, values in (line.get("features2") or {}).items():
        features.setdefault(key, []).extend(values)
    return needs, features


def of_member(package):
    needs = [
        {
            "alias": one.get("rename") or one["name"],
            "name": one["name"],
            "req": one["req"],
            "features": one["features"],
            "default": one["uses_default_features"],
            "optional": one["optional"],
            "path": one.get("path"),
        }
        for one in package["dependencies"]
        if not (package.get("is_near") and one.get("kind") == "dev")
    ]
    return needs, package["features"]


class Walk:
    def __init__(self, judge, lock, roots, locked_before):
        self.judge = judge
        self.wrong = []
        self.packages = {(one["name"], one["version"]): one for one in lock}
        self.by_name = collections.defaultdict(list)
        for one in lock:
            self.by_name[one["name"]].append(one["version"])
        self.roots = {(one["name"], one["version"]): one for one in roots}
        self.locked_before = locked_before
        self.features = collections.defaultdict(set)
        self.edges = collections.defaultdict(set)
        self.queue = []

    def say(self, text):
        if text not in self.wrong:
            self.wrong.append(text)

    def run(self):
        for node, package in self.roots.items():
            if not package.get("is_near"):
                _, features = of_member(package)
                self.reach(node, set(features))
        while self.queue:
            self.expand(self.queue.pop())
        self.check_packages()
        return self.wrong

    def reach(self, node, features):
        new = node not in self.features
        before = len(self.features[node])
        self.features[node] |= features
        if new or len(self.features[node]) > before:
            self.queue.append(node)

    def parts(self, node):
        if node in self.roots:
            return of_member(self.roots[node])
        line = self.judge.release(*node)
        if line is None:
            self.say(f"{node}: the index does not have it")
            return [], {}
        return of_index(line)

    def expand(self, node):
        needs, features = self.parts(node)
        optional = {one["alias"] for one in needs if one["optional"]}
        mentioned = {value[4:] for values in features.values() for value in values if value.startswith("dep:")}
        implicit = optional - mentioned - set(features)
        on, asked = set(), collections.defaultdict(set)
        stack = list(self.features[node])
        while stack:
            feature = stack.pop()
            if feature in on:
                continue
            on.add(feature)
            if feature in features:
                values = features[feature]
            elif feature in implicit:
                values = [f"dep:{feature}"]
            else:
                if feature != "default":
                    self.say(f"{node}: no feature `{feature}`")
                continue
            for value in values:
                if value.startswith("dep:"):
                    asked[value[4:]]
                elif "/" in value:
                    alias, inner = value.split("/", 1)
                    asked[alias.rstrip("?")].add(inner)
                    if not alias.endswith("?") and alias in optional and (alias in features or alias in implicit):
                        stack.append(alias)
                else:
                    stack.append(value)
        for need in needs:
            if need["optional"] and need["alias"] not in asked:
                continue
            wanted = set(need["features"]) | asked.get(need["alias"], set())
            if need["default"]:
                wanted.add("default")
            self.follow(node, need, wanted)

    def follow(self, node, need, wanted):
        name = need["name"]
        named = self.packages[node].get("dependencies", []) if node in self.packages else []
        fitting = []
        for text in named:
            words = text.split()
            if words[0] != name:
                continue
            found = words[1:2] or self.by_name[name]
            fitting += [(name, one) for one in found if need["path"] or versions.matches(need["req"], one)]
        if not fitting:
            self.say(f"{node[0]} {node[1]}: nothing for `{name} {need['req']}`")
            return
        # Where two locked versions would do, the lock does not say which dependency meant which; the newest is taken.
        target = max(fitting, key=lambda one: versions.key(one[1]))
        self.edges[node] |= set(fitting)
        self.reach(target, wanted)

    def check_packages(self):
        held, linked = {}, {}
        for node, package in self.packages.items():
            name, version = node
            if node not in self.features and not any(node in targets for targets in self.edges.values()):
                self.say(f"{name} {version}: nothing needs it")
            if node in self.roots:
                continue
            other = held.setdefault((name, versions.bucket(version)), version)
            if other != version:
                self.say(f"{name}: {other} beside {version} in one range of compatible versions")
            line = self.judge.release(name, version)
            if line is None:
                continue
            if line.get("yanked") and node not in self.locked_before:
                self.say(f"{name} {version}: yanked")
            if line["cksum"] != package.get("checksum"):
                self.say(f"{name} {version}: its checksum is not the index's")
            if line.get("links"):
                other = linked.setdefault(line["links"], node)
                if other != node:
                    self.say(f"{other} and {node} both link `{line['links']}`")
            targets = {one for one in self.edges[node]}
            for text in package.get("dependencies", []):
                words = text.split()
                candidates = words[1:2] or self.by_name[words[0]]
                if not any((words[0], one) in targets for one in candidates):
                    self.say(f"{name} {version}: `{text}` is an edge that nothing wants")
        for node in self.features:
            if node not in self.packages:
                self.say(f"{node}: it is needed and not locked")
