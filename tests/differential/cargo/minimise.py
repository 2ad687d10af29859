"""A recorded set cut down to what keeps it a question: the locked versions and their nearest neighbours, without what no
feature reaches. cargo answers it anew, and the answer is kept beside it for the tests, which need no host and no cargo.
"""

import json

import judge
import registry
import versions

# Versions kept on each side of a locked one.
NEIGHBOURS = 2


def write(comparison, one, directory):
    side = comparison.sides[0]
    comparison.registry.yanked.clear()
    project = comparison.project(one, side)
    before = (project / "Cargo.lock").read_text() if "before" in one else None
    comparison.withdraw(one)
    lock, words, _ = comparison.cargo(project)
    if lock is None:
        raise SystemExit(f"{one['name']}: {words}")
    roots = judge.members(project, side.environment)
    locked = [package for package in judge.read_lock(lock) + judge.read_lock(before or "") if package.get("source")]
    asked = {feature for root in roots for need in judge.of_member(root)[0] for feature in need["features"]}
    asked |= {value.split("/")[-1] for root in roots for values in root["features"].values() for value in values}
    universe = cut(comparison.recordings, locked, comparison.registry.yanked, asked)
    comparison.registry.universe = universe
    (project / "Cargo.lock").unlink()
    if before:
        (project / "Cargo.lock").write_text(before)
    answer, words, _ = comparison.cargo(project)
    comparison.registry.universe = None
    if answer is None:
        raise SystemExit(f"{one['name']}, cut: {words}")
    plain = lambda text: [
        {key: package[key] for key in ("name", "version", "dependencies") if key in package} | {"crate": "source" in package}
        for package in judge.read_lock(text)
    ]
    fixture = {
        "name": one["name"],
        "roots": [member(root) for root in roots],
        "rust_versions": one.get("rust_versions", []),
        "before": [[package["name"], package["version"]] for package in plain(before or "") if package["crate"]],
        "index": {name: [short(line) for line in lines] for name, lines in sorted(universe.items())},
        "lock": plain(answer),
    }
    directory.mkdir(parents=True, exist_ok=True)
    place = directory / f"{one['name']}.json"
    place.write_text(json.dumps(fixture, separators=(",", ":"), sort_keys=True).replace('},{"name"', '},\n{"name"') + "\n")
    print(f"{place}: {len(fixture['lock'])} packages, {place.stat().st_size} bytes")


def member(package):
    needs, features = judge.of_member(package)
    local = sorted({need["name"] for need in needs if need["path"]})
    kinds = [one.get("kind") or "normal" for one in package["dependencies"]]
    needs = [
        {key: need[key] for key in ("alias", "name", "req", "features", "default", "optional")} | {"kind": kind}
        for need, kind in zip(needs, kinds)
        if not need["path"]
    ]
    return {"name": package["name"], "version": package["version"], "needs": needs, "local": local, "features": features}


def cut(place, locked, yanked, wanted):
    universe = {}
    for name in sorted({package["name"] for package in locked}):
        lines = [json.loads(line) for line in (place / registry.path_of(name)).read_text().splitlines() if line.strip()]
        lines.sort(key=lambda line: versions.key(line["vers"]))
        kept = set()
        for at, line in enumerate(lines):
            if any(package["name"] == name and package["version"] == line["vers"] for package in locked):
                kept.update(range(max(0, at - NEIGHBOURS), min(len(lines), at + NEIGHBOURS + 1)))
        kept.add(len(lines) - 1)
        universe[name] = [
            {**lines[at], "yanked": lines[at]["yanked"] or (name, lines[at]["vers"]) in yanked} for at in sorted(kept)
        ]
    asked = {
        feature.split("/")[-1]
        for lines in universe.values()
        for line in lines
        for need in line["deps"]
        for feature in need.get("features", [])
    }
    for lines in universe.values():
        for line in lines:
            thin(line, asked | wanted | {"default"}, universe)
    return universe


def thin(line, asked, universe):
    """Takes out what no feature that anybody asks for reaches."""
    features = {**line["features"]}
    for name, values in (line.get("features2") or {}).items():
        features.setdefault(name, [])
        features[name] = features[name] + values
    optional = {need["name"] for need in line["deps"] if need.get("optional")}
    # A dependency that has the name of a feature must be mentioned with `dep:` somewhere.
    twins = {f"dep:{name}" for name in optional if name in features}
    start = [name for name, values in features.items() if name in asked | inner_of(universe) | optional or twins & set(values)]
    reached, stack = set(), start
    while stack:
        name = stack.pop()
        if name in reached or name not in features:
            continue
        reached.add(name)
        stack += [value.split("/")[0].rstrip("?") for value in features[name] if not value.startswith("dep:")]
    for table in ("features", "features2"):
        if line.get(table):
            line[table] = {name: values for name, values in line[table].items() if name in reached}


def inner_of(universe):
    """Features that features of other crates ask of their dependencies."""
    if not hasattr(inner_of, "known") or inner_of.known[0] is not universe:
        found = {
            value.split("/")[1]
            for lines in universe.values()
            for line in lines
            for table in (line["features"], line.get("features2") or {})
            for values in table.values()
            for value in values
            if "/" in value
        }
        inner_of.known = (universe, found)
    return inner_of.known[1]


def short(line):
    """Without what a resolution does not need. The checksum is the same for all, so that the file is small."""
    kept = {"vers": line["vers"]}
    features = {**line["features"]}
    for name, values in (line.get("features2") or {}).items():
        features[name] = features.get(name, []) + values
    line = {**line, "features": features}
    needs = []
    for need in line["deps"]:
        if need.get("kind") == "dev":
            continue
        one = {"name": need["name"], "req": need["req"]}
        for key in ("features", "optional", "package", "target"):
            if need.get(key):
                one[key] = need[key]
        if need.get("kind") == "build":
            one["kind"] = "build"
        if need.get("default_features") is False:
            one["default_features"] = False
        needs.append(one)
    if needs:
        kept["deps"] = needs
    for key in ("features", "links", "rust_version", "yanked"):
        if line.get(key):
            kept[key] = line[key]
    return kept
