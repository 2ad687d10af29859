"""cargo's judgement of its own cache as Bolide filled it: offline builds and runs, and what `cargo fetch` would have put there."""

import hashlib
import json
import pathlib
import re

from judges import INSTALL_SECONDS_MAX, Refused

CONFIG = '[source.crates-io]\nreplace-with = "recorded"\n[source.recorded]\nregistry = "sparse+{url}"\n[net]\noffline = {offline}\n'


def run(scratch, wanted):
    project = scratch.project
    is_built = wanted.pop("build", True)
    write_crate(project, wanted)
    configure(scratch, "cargo", offline="false")
    scratch.install()
    findings = []
    lock = (project / "Cargo.lock").read_text()
    configure(scratch, "cargo", offline="true")
    # Cargo unpacks what it uses into `registry/src` and marks its cache; only what was there before counts below.
    ours = Cache(scratch.place / "cargo")
    offline = ("--offline", "--locked")
    about = json.loads(scratch.need("cargo", "metadata", "--format-version", "1", *offline))
    counts = {"packages": len(about["packages"]) - 1, "crates": len(ours.crates), "index entries": len(ours.entries)}
    if is_built:
        environment = {**scratch.environment, "CARGO_TARGET_DIR": str(scratch.place / "target")}
        out = scratch.need("cargo", "run", "--quiet", "-j", "2", *offline, env=environment)
        if out.strip() != f"built with {len(wanted)}":
            findings.append(f"the program says {out.strip()!r}")
        counts["built and run"] = 1
    else:
        # Everything is unpacked, as a build would; compiling is left out.
        scratch.need("cargo", "fetch", *offline)
    findings += judge(scratch, lock, ours)
    return {"counts": counts, "findings": findings, "excepted": {}}


def judge(scratch, lock, ours):
    """Compares with a cargo that starts from nothing, with the same lock and online."""
    configure(scratch, "cargo-theirs", offline="false")
    environment = {**scratch.environment, "CARGO_HOME": str(scratch.place / "cargo-theirs")}
    code, _, errors = scratch.run("cargo", "fetch", "--locked", seconds_max=INSTALL_SECONDS_MAX, env=environment)
    if code != 0:
        raise Refused(f"`cargo fetch --locked` refuses the lock: {errors[-1_000:]}")
    findings = []
    if (scratch.project / "Cargo.lock").read_text() != lock:
        findings.append("cargo changed Cargo.lock")
    theirs = Cache(scratch.place / "cargo-theirs")
    findings += differences("crate", ours.crates, theirs.crates)
    findings += differences("index entry", ours.entries, theirs.entries)
    if ours.configuration != theirs.configuration:
        findings.append(f"config.json: {ours.configuration}, theirs {theirs.configuration}")
    return findings


def differences(what, ours, theirs):
    found = [f"{what} {name}: only theirs" for name in sorted(theirs.keys() - ours.keys())]
    found += [f"{what} {name}: only ours" for name in sorted(ours.keys() - theirs.keys())]
    return found + [f"{what} {name}: differs" for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]


class Cache:
    """What lies in a cargo home: crates by digest, index entries by the versions they know, and modes."""

    def __init__(self, home):
        registry = home / "registry"
        self.crates, self.entries, self.configuration = {}, {}, None
        for path in registry.glob("cache/*/*.crate"):
            name = f"{path.parent.name}/{path.name}"
            self.crates[name] = hashlib.sha256(path.read_bytes()).hexdigest(), oct(path.stat().st_mode)
        for path in registry.glob("index/*/.cache/**/*"):
            if path.is_file():
                self.entries[str(path.relative_to(registry / "index"))] = entry(path)
        for path in registry.glob("index/*/config.json"):
            self.configuration = path.parent.name, json.loads(path.read_text())["dl"]


def entry(path):
    """The formats of the file and of the index, then what every line says that cargo would read.

    The revision in between is an etag, or the like where there is none, and no two registries agree about it.
    """
    content = path.read_bytes()
    _, *rest = content[5:].split(b"\0")
    lines = [json.loads(line) for line in rest[1::2]]
    return content[:5], tuple(sorted((line["vers"], line["cksum"], line["yanked"]) for line in lines))


def configure(scratch, name, offline):
    home = pathlib.Path(scratch.place, name)
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CONFIG.format(url=scratch.url, offline=offline))


def write_crate(project, wanted):
    lines = [f"{name} = {value(about)}" for name, about in wanted.items()]
    manifest = '[package]\nname = "installed"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n' + "\n".join(lines)
    (project / "Cargo.toml").write_text(manifest + "\n")
    (project / "src").mkdir()
    # Every crate is linked, so that none is left out of the build.
    uses = [f"extern crate {re.sub('-', '_', name)} as used_{index};" for index, name in enumerate(wanted)]
    program = ["#![allow(unused_extern_crates)]", *uses, f'fn main() {{ println!("built with {len(wanted)}"); }}']
    (project / "src" / "main.rs").write_text("\n".join(program) + "\n")


def value(about):
    """TOML of what `tomllib` read."""
    if isinstance(about, dict):
        return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in about.items()) + " }"
    return json.dumps(about)
