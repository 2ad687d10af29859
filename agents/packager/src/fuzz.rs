//! The harness of the fuzz targets of this crate, which are the modules named `fuzz` beside the tests of what they try, and the targets of what
//! strangers write: manifests, locks, and what registries answer. `make fuzz SECONDS=600` runs all of them for so long.

#[path = "../../../ipc/src/fuzz.rs"]
#[allow(dead_code, reason = "a harness for several crates, of which this needs some")]
mod harness;

pub(crate) use harness::{Chance, fuzz};

use std::str::FromStr as _;

use pep508_rs::PackageName;
use pep508_rs::pep440_rs::Version;

use crate::lock::{Lock, import};
use crate::manifest::{cargo_toml, package_json, pyproject, requirements};
use crate::transaction::Project;

const PACKAGE_JSON: &str = r#"{"name":"x","version":"1.0.0","workspaces":["packages/*","!packages/old"],
"dependencies":{"a":"^1.2.3 || ~2","b":"npm:@s/c@>=1 <2","d":"file:../d.tgz","e":"https://h.example.invalid/e.tgz","f":"latest"},
"devDependencies":{"g":"*"},"optionalDependencies":{"h":"1.x"},"peerDependencies":{"i":">=1.0.0-rc.1"},
"peerDependenciesMeta":{"i":{"optional":true}},"overrides":{"a":{".":"1.2.4","b":"$b"},"k@^2":"3"},"bundleDependencies":["a"],
"engines":{"node":">=18"},"bin":{"x":"./x.js"},"scripts":{"postinstall":"true"}}"#;

const PYPROJECT: &str = r#"[project]
name = "x"
version = "1.0"
requires-python = ">=3.9,<4"
dependencies = ["a[b,c]>=1.2,!=1.3; python_version < '3.12' and (extra == 'd' or os_name != 'nt')", "e @ git+https://h.example.invalid/e@v1#subdirectory=s"]
optional-dependencies = { d = ["f~=2.0", "x[g]"], g = [] }
[dependency-groups]
dev = ["h===1.0+local", { include-group = "more" }]
more = ["i @ https://h.example.invalid/i-1-py3-none-any.whl#sha256=00"]
[tool.uv]
constraint-dependencies = ["a<2"]
index = [{ name = "n", url = "https://h.example.invalid/simple", explicit = true }]
[tool.uv.sources]
a = { index = "n" }
e = { git = "https://h.example.invalid/e", rev = "abc", subdirectory = "s" }
f = [{ path = "../f", editable = true, marker = "os_name == 'nt'" }]
"#;

const REQUIREMENTS: &str = "--index-url https://h.example.invalid/simple\n--find-links wheels # here\n-c constraints.txt\n\
a[b]>=1.0 ; python_version >= '3.8' \\\n    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
-e ./here\n./wheels/b-1.0-py3-none-any.whl\ngit+https://h.example.invalid/c@main#egg=c\n${SECRET}==1\n--no-binary :all:\n";

const CARGO_TOML: &str = r#"[package]
name = "x"
version = "0.1.0"
edition = "2024"
rust-version = "1.70"
[features]
default = ["a", "dep:b", "c?/d", "c/e"]
a = []
[dependencies]
b = { version = ">=1, <2", optional = true, default-features = false, features = ["x"] }
c = { version = "0.3", registry = "n", package = "c-other" }
[target.'cfg(all(unix, not(target_os = "macos")))'.dependencies]
f = { path = "f", version = "1" }
[workspace]
members = ["f", "crates/*"]
[workspace.dependencies]
g = "=1.0.0"
[patch.crates-io]
h = { path = "h" }
"#;

const NPM_LOCK: &str = r#"{"name":"x","lockfileVersion":3,"packages":{"":{"name":"x","dependencies":{"a":"^1"}},
"node_modules/a":{"version":"1.0.0","resolved":"https://h.example.invalid/a-1.0.0.tgz","integrity":"sha512-AA==","dependencies":{"b":"2"}},
"node_modules/a/node_modules/b":{"version":"2.0.0","optional":true,"peer":true},"node_modules/c":{"resolved":"c","link":true}}}"#;

const PNPM_LOCK: &str = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        specifier: ^1\n        version: 1.0.0(b@2.0.0)\n\
packages:\n  a@1.0.0:\n    resolution: {integrity: sha512-AA==}\n    peerDependencies: {b: '2'}\n  '@s/b@2.0.0':\n    resolution: {integrity: sha512-AA==}\n\
snapshots:\n  a@1.0.0(b@2.0.0):\n    dependencies:\n      b: 2.0.0\n";

const UV_LOCK: &str = r#"version = 1
requires-python = ">=3.9"
[[package]]
name = "a"
version = "1.0"
source = { registry = "https://h.example.invalid/simple" }
dependencies = [{ name = "b", marker = "os_name == 'nt'", extra = ["c"] }]
sdist = { url = "https://h.example.invalid/a-1.0.tar.gz", hash = "sha256:00", size = 3 }
wheels = [{ url = "https://h.example.invalid/a-1.0-py3-none-any.whl", hash = "sha256:00", size = 3 }]
"#;

const CARGO_LOCK: &str = r#"version = 4
[[package]]
name = "x"
version = "0.1.0"
dependencies = ["b 1.0.0", "b 2.0.0 (registry+https://h.example.invalid/index)"]
[[package]]
name = "b"
version = "2.0.0"
source = "registry+https://h.example.invalid/index"
checksum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#;

const CORE_METADATA: &str = "Metadata-Version: 2.2\nName: a\nVersion: 1.0\nRequires-Python: >=3.8,!=3.9.1\nProvides-Extra: b\n\
Requires-Dist: c[d] (>=1.0,<2) ; extra == 'b' and sys_platform != \"win32\"\nLicense: x\n  more\nDynamic: Requires-Dist\n\nbody\n";

/// Words that mean something in one of these languages; where they stand where they should not, readers go wrong.
const WORDS: [&str; 40] = [
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\\",
    "\\u0000",
    "\\ud800",
    "#",
    "@",
    "/",
    "..",
    "^",
    "~",
    ">=",
    "||",
    "*",
    "==",
    ";",
    "extra",
    " and ",
    "(",
    ")",
    "null",
    "true",
    "1e999",
    "-1",
    "99999999999999999999",
    "\u{feff}",
    "\u{0}",
    "\u{202e}",
    "$",
    "=",
    "[[package]]",
    "npm:",
    "file:",
];

/// One of `texts`, changed: bytes, or words at other places, or parts of another one of them.
pub(crate) fn changed(chance: &mut Chance, texts: &[&str]) -> String {
    let mut bytes = chance.pick(texts).as_bytes().to_vec();
    for _ in 0..chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        if chance.once_in(4) {
            let other = chance.pick(texts).as_bytes();
            let from = chance.below(other.len());
            let part = &other[from..from + chance.below(other.len() - from)];
            bytes.splice(at..at, part.iter().copied());
        } else {
            let until = at + chance.below((bytes.len() - at).min(8) + 1);
            bytes.splice(at..until, chance.pick(&WORDS).bytes());
        }
    }
    if chance.once_in(2) {
        chance.mutate(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn manifests_are_read_or_refused() {
    let texts = [PACKAGE_JSON, PYPROJECT, REQUIREMENTS, CARGO_TOML];
    fuzz(400, |chance| {
        let text = changed(chance, &texts);
        let _ = package_json::read("package.json", &text);
        let _ = pyproject::read("pyproject.toml", &text);
        let _ = requirements::read("requirements.txt", &text);
        let _ = cargo_toml::read("Cargo.toml", "", &text, None);
        let _ = cargo_toml::read_published("Cargo.toml", &text);
    });
}

#[test]
fn locks_are_read_or_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let project = Project::open(place.path()).expect("a project");
    let files = ["package-lock.json", "pnpm-lock.yaml", "uv.lock", "requirements.txt"];
    let texts = [NPM_LOCK, PNPM_LOCK, UV_LOCK, REQUIREMENTS, CARGO_LOCK];
    fuzz(200, |chance| {
        let text = changed(chance, &texts);
        let file = place.path().join(chance.pick(&files));
        std::fs::write(&file, &text).expect("written");
        let _ = import::npm(&project);
        let _ = import::pypi(&project, "pyproject.toml");
        std::fs::remove_file(file).expect("removed");
        let _ = import::cargo(&text, "registry+https://h.example.invalid/index");
        let _ = Lock::read(&text);
    });
}

#[test]
fn core_metadata_is_read_or_refused() {
    let (name, version) =
        (PackageName::from_str("a").expect("a name"), Version::from_str("1.0").expect("a version"));
    fuzz(400, |chance| {
        let text = changed(chance, &[CORE_METADATA]);
        let _ = crate::io::pypi::core_metadata::parse(text.as_bytes(), &name, &version);
    });
}
