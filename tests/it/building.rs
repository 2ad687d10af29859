//! Packages that have no wheel: refused, or built in a sandbox where they are named. The backend is a package of the test's own registry;
//! what a source archive has it do, well or badly, stands in the archive's `setup.py`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::packages::{self, Python};
use super::registry::hex;
use super::world::{Outcome, World, bolide_program, wait_until};

/// A backend that does what the source says, then makes a wheel of one module.
const BACKEND: &str = r#"
import base64, hashlib, json, os, zipfile

TOLD = json.load(open("wheel.json"))


def get_requires_for_build_wheel(settings=None):
    return TOLD["more"]


def build_wheel(into, settings=None, metadata=None):
    scope = {"into": into, "told": TOLD}
    exec(open("setup.py").read(), scope)
    name, version = TOLD["name"], TOLD["version"]
    info = "{}-{}.dist-info".format(name, version)
    head = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n".format(name, version)
    files = {
        name + "/__init__.py": "VERSION = {!r}\n".format(version) + scope.get("code", ""),
        info + "/METADATA": head + "".join("Requires-Dist: " + it + "\n" for it in TOLD["requires"]),
        info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: brick\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    file = "{}-{}-py3-none-any.whl".format(name, version)
    if "answer" in scope:
        return scope["answer"]
    with zipfile.ZipFile(os.path.join(into, file), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
            record += "{},sha256={},{}\n".format(path, digest.decode(), len(text.encode()))
        archive.writestr(info + "/RECORD", record + info + "/RECORD,,\n")
    return file
"#;

const FILE: &str = "clay-1.0.tar.gz";
const WHEEL: &str = "clay-1.0-py3-none-any.whl";
/// The headers of an archive that only a build knows.
const UNKNOWN: &str = "Metadata-Version: 2.1\nName: clay\nVersion: 1.0\n";

/// A source archive of `clay` 1.0, whose wheel needs `requires`, and whose backend needs `more` to be there.
struct Clay {
    headers: &'static str,
    requires: &'static [&'static str],
    more: &'static [&'static str],
    project: &'static str,
    setup: String,
}

impl Default for Clay {
    fn default() -> Self {
        let (requires, more) = (&["stone<2"], &[]);
        let project = "[build-system]\nrequires = [\"brick\"]\nbuild-backend = \"brick\"\n";
        Self { headers: UNKNOWN, requires, more, project, setup: String::new() }
    }
}

impl Clay {
    fn archive(&self) -> Vec<u8> {
        let told = serde_json::json!({
            "name": "clay", "version": "1.0", "requires": self.requires, "more": self.more,
        });
        packages::tarball(&[
            ("clay-1.0/PKG-INFO", self.headers.as_bytes()),
            ("clay-1.0/pyproject.toml", self.project.as_bytes()),
            ("clay-1.0/tools/own.py", BACKEND.as_bytes()),
            ("clay-1.0/wheel.json", told.to_string().as_bytes()),
            ("clay-1.0/setup.py", self.setup.as_bytes()),
        ])
    }
}

/// A world whose index has the backend as a wheel, and `clay` as this source archive alone.
fn world(clay: &Clay) -> World {
    let world = World::quick();
    let brick = Python { name: "brick", version: "0.1", requires: &[] };
    let wheel = packages::wheel_with(&brick, BACKEND.to_owned());
    world.registry.pypi_files("brick", &[(&packages::wheel_name(&brick), wheel)]);
    world.registry.pypi_files("clay", &[(FILE, clay.archive())]);
    world.file("requirements.txt", "");
    world
}

fn world_of(setup: String) -> World {
    world(&Clay { setup, ..Clay::default() })
}

const ADD: [&str; 5] = ["add", "pypi:clay", "--build", "clay", "--yes"];
const PLAN: [&str; 5] = ["plan", "pypi:clay", "--build", "clay", "--json"];

fn listed(world: &World) -> Vec<String> {
    let listed = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = listed["packages"].as_array().unwrap();
    packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
}

fn planned(plan: &Value, purl: &str) -> Value {
    let packages = plan["packages"].as_array().unwrap();
    packages.iter().find(|package| package["purl"] == purl).unwrap().clone()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Where builds lie while they are under way.
fn builds(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.place("home/cache/bolide/incoming"));
    entries.map_or_else(|_| Vec::new(), |entries| entries.map(|it| it.unwrap().path()).collect())
}

/// The processes with this word in their arguments.
fn processes(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let has = |path: PathBuf| {
        std::fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    entries.filter(|entry| has(entry.path())).count()
}

fn is_nothing_made(world: &World) -> bool {
    let made = |name: &str| world.project().join(name).exists();
    !made(".venv") && !made("bolide.lock") && world.read("requirements.txt").is_empty()
}

#[test]
fn what_has_no_wheel_is_refused_and_the_refusal_names_the_option() {
    let world = world_of(String::new());
    world.bolide(&["plan", "pypi:clay"]).fails(5, &["source only", "`--build clay`"]);
    world.bolide(&["plan", "pypi:clay", "--build", "stone"]).fails(5, &["`--build clay`"]);
    world.bolide(&["plan", "pypi:clay", "--build", ":all:"]).fails(2, &["--build"]);
    let both = ["plan", "pypi:clay", "--build", "clay", "--only-binary", "clay"];
    world.bolide(&both).fails(2, &["--build", "--only-binary"]);
    assert!(is_nothing_made(&world));
}

#[test]
fn a_package_is_built_installed_locked_and_undone() {
    let clay = Clay { more: &["wall"], ..Clay::default() };
    let world = world(&clay);
    let before = world.tree();
    let plan = world.bolide(&PLAN).succeeds().json();
    let package = planned(&plan, "pkg:pypi/clay@1.0");
    assert_eq!(package["built"]["file"], FILE, "{package}");
    assert_eq!(package["built"]["hash"], sha256(&clay.archive()));
    let with = package["built"]["requirements"].as_array().unwrap();
    let with: BTreeMap<&str, &str> = with
        .iter()
        .map(|it| (it["purl"].as_str().unwrap(), it["hash"].as_str().unwrap()))
        .collect();
    let names: Vec<&str> = with.keys().copied().collect();
    assert_eq!(names, ["pkg:pypi/brick@0.1", "pkg:pypi/stone@1.5", "pkg:pypi/wall@1.0"]);
    assert!(with.values().all(|hash| hash.starts_with("sha256:")));
    assert_eq!(planned(&plan, "pkg:pypi/stone@1.5")["built"], Value::Null);
    let warned = plan["warnings"].to_string();
    assert!(warned.contains("run in a sandbox") && warned.contains("brick"), "{warned}");
    assert_eq!(world.tree(), before, "a plan changes nothing here");
    let shown = world.bolide(&PLAN[..4]).succeeds();
    assert!(shown.stdout.contains(&format!("built from {FILE}")), "{shown:#?}");
    world.bolide(&["apply", plan["digest"].as_str().unwrap(), "--yes"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    let said = world.run(".venv/bin/python", &["-c", "import clay; print(clay.VERSION)"]);
    assert_eq!(said.succeeds().stdout, "1.0\n");
    world.run(".venv/bin/python", &["-m", "pip", "check"]).succeeds();
    let lock = world.read("bolide.lock");
    for word in [FILE, "built = true", "brick@0.1 sha256:", &sha256(&clay.archive())] {
        assert!(lock.contains(word), "{word}: {lock}");
    }
    assert!(!lock.contains(WHEEL), "a lock is for others, too: {lock}");
    // Following the lock runs nothing here, so nobody has to allow it.
    for command in [&["install", "--json"][..], &["install", "--frozen", "--json"]] {
        let again = world.bolide(command).succeeds().json();
        assert!(again["transaction"].is_null(), "{again}");
    }
    assert_eq!(world.read("bolide.lock"), lock);
    world.bolide(&["verify"]).succeeds();
    // Nor does what is chosen anew beside it, as long as it stays what it is.
    world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
    world.bolide(&["update", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5", "pkg:pypi/wall@1.0"]);
    std::fs::remove_dir_all(world.place("home/cache/bolide/builds")).unwrap();
    world.bolide(&["update", "--yes"]).fails(3, &[FILE, "`--build clay`"]);
    world.bolide(&["update", "--build", "clay", "--yes"]).succeeds();
    while world.tree() != before {
        world.bolide(&["rollback"]).succeeds();
    }
    assert!(builds(&world).is_empty());
}

#[test]
fn what_was_built_before_is_no_wheel_where_only_wheels_are_wanted() {
    let world = world_of(String::new());
    let before = world.bolide(&PLAN).succeeds().json()["warnings"].to_string();
    assert!(before.contains("was run in a sandbox"), "{before}");
    // What is remembered was not run again, and the plan does not say that it was.
    let again = world.bolide(&PLAN).succeeds().json()["warnings"].to_string();
    assert!(again.contains("was built before") && !again.contains("sandbox"), "{again}");
    world.bolide(&ADD).succeeds();
    let lock = world.read("bolide.lock");
    for command in [&["update"][..], &["install"], &["plan", "pypi:clay"]] {
        for names in ["clay", ":all:"] {
            let outcome = world.bolide(&[command, &["--only-binary", names]].concat());
            assert!([3, 5].contains(&outcome.code), "{command:?} {names}: {outcome:#?}");
            for word in ["`--only-binary`", "`--build clay`"] {
                let said = format!("{}{}", outcome.stdout, outcome.stderr);
                assert!(said.contains(word), "{command:?} {names} {word}: {outcome:#?}");
            }
        }
    }
    assert_eq!(world.read("bolide.lock"), lock);
    let other = world.bolide(&["update", "--only-binary", "stone", "--json"]).succeeds().json();
    assert!(!other["warnings"].to_string().contains("sandbox"), "{other}");
    // An older version that has a wheel is one.
    let world = world_of(String::new());
    let old = Python { name: "clay", version: "0.9", requires: &[] };
    let (wheel, archive) = (packages::wheel(&old), Clay::default().archive());
    world.registry.pypi_files("clay", &[(&packages::wheel_name(&old), wheel), (FILE, archive)]);
    world.bolide(&ADD).succeeds();
    world.file("requirements.txt", "clay\n");
    world.bolide(&["update", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    world.bolide(&["update", "--only-binary", "clay", "--yes"]).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@0.9"]);
}

#[test]
fn the_daemon_builds_as_the_command_does() {
    let world = world(&Clay { more: &["wall"], ..Clay::default() });
    let _daemon = world.daemon();
    world.bolide(&["plan", "pypi:clay"]).fails(5, &["`--build clay`"]);
    world.bolide(&ADD).succeeds();
    assert_eq!(listed(&world), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    assert!(world.bolide(&["install", "--json"]).succeeds().json()["transaction"].is_null());
}

#[test]
fn the_same_build_is_not_made_twice() {
    // No two builds of it are the same.
    let world = world_of("import os\ncode = 'X = {!r}'.format(os.urandom(16))\n".to_owned());
    let hash = || {
        let plan = world.bolide(&PLAN).succeeds().json();
        planned(&plan, "pkg:pypi/clay@1.0")["hash"].as_str().unwrap().to_owned()
    };
    let first = hash();
    assert_eq!(hash(), first);
    std::fs::remove_dir_all(world.place("home/cache/bolide/builds")).unwrap();
    let second = hash();
    assert_ne!(second, first, "it is a build that made it");
    // What is approved is what is installed, or nothing.
    let plan = world.bolide(&PLAN).succeeds().json();
    let digest = plan["digest"].as_str().unwrap();
    for directory in ["store/index", "store/files"] {
        let path = world.place("home/cache/bolide").join(directory);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
    world.bolide(&["apply", digest, "--yes"]).fails(4, &[WHEEL, "--build clay"]);
    assert!(is_nothing_made(&world));
    world.bolide(&ADD).succeeds();
    assert_eq!(listed(&world).len(), 2);
}

#[test]
fn a_clone_builds_what_was_locked_only_when_it_is_asked_to() {
    let author = world(&Clay::default());
    author.bolide(&ADD).succeeds();
    let clone = || {
        let world = world(&Clay::default());
        for file in ["requirements.txt", "bolide.lock"] {
            world.file(file, &author.read(file));
        }
        world
    };
    let other = clone();
    for command in [&["install", "--frozen"][..], &["install"]] {
        other.bolide(command).fails(3, &[FILE, "`--build clay`"]);
        assert!(!other.project().join(".venv").exists());
    }
    other.bolide(&["install", "--frozen", "--build", "clay"]).succeeds();
    assert_eq!(listed(&other), listed(&author));
    assert_eq!(other.read("bolide.lock"), author.read("bolide.lock"));
    // Another archive of the same name is another package.
    let late = clone();
    let changed = Clay { setup: "pass\n".to_owned(), ..Clay::default() };
    late.registry.pypi_files("clay", &[(FILE, changed.archive())]);
    late.bolide(&["install", "--frozen", "--build", "clay"]).fails(6, &["clay"]);
    // So is another backend.
    let late = clone();
    let brick = Python { name: "brick", version: "0.1", requires: &[] };
    let wheel = packages::wheel_with(&brick, format!("{BACKEND}\n# changed\n"));
    late.registry.pypi_files("brick", &[(&packages::wheel_name(&brick), wheel)]);
    late.bolide(&["install", "--frozen", "--build", "clay"]).fails(4, &[FILE, "bolide.lock"]);
    assert!(!late.project().join(".venv").exists());
}

#[test]
fn a_lock_chooses_no_code_that_the_archive_does_not_ask_for() {
    const OWN: &str =
        "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\"tools\"]\n";
    let evil = Python { name: "evil", version: "1.0", requires: &[] };
    let wheel = packages::wheel(&evil);
    let listed_evil = format!("pkg:pypi/evil@1.0 {}", sha256(&wheel));
    let clone_of = |clay: &dyn Fn() -> Clay, change: &dyn Fn(String) -> String| {
        let author = world(&clay());
        author.bolide(&ADD).succeeds();
        let clone = world(&clay());
        clone.registry.pypi_files("evil", &[(&packages::wheel_name(&evil), wheel.clone())]);
        clone.file("requirements.txt", &author.read("requirements.txt"));
        let lock = author.read("bolide.lock");
        let changed = change(lock.clone());
        assert_ne!(changed, lock);
        clone.file("bolide.lock", &changed);
        clone
    };
    let stale = |world: &World| {
        world.bolide(&["install", "--build", "clay"]).fails(4, &["bolide.lock", "`pkg:pypi/"]);
        assert!(!world.project().join(".venv").exists() && builds(world).is_empty());
    };
    // Where the archive needs nothing, its backend is its own.
    let own = || Clay { project: OWN, ..Clay::default() };
    let with_evil = format!("built = true\nbuilt_with = [\n    \"{listed_evil}\",\n]\n");
    stale(&clone_of(&own, &|lock| lock.replace("built = true\n", &with_evil)));
    // Beside what it needs.
    let more = || Clay { more: &["wall"], ..Clay::default() };
    let change = |lock: String| {
        let begin = lock.find("    \"pkg:pypi/stone@1.5 sha256").unwrap();
        format!("{}    \"{listed_evil}\",\n{}", &lock[..begin], &lock[begin..])
    };
    stale(&clone_of(&more, &change));
    // And without something that its backend adds.
    let without = |lock: String| {
        let is_kept = |line: &&str| !line.contains("\"pkg:pypi/wall@1.0 sha256");
        lock.lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
    };
    stale(&clone_of(&more, &without));
    // As its author made it, it holds.
    let same = clone_of(&more, &|lock| format!("{lock}\n"));
    same.bolide(&["install", "--build", "clay"]).succeeds();
    assert_eq!(listed(&same).len(), 2);
}

#[test]
fn a_backend_may_lie_in_the_archive_and_nowhere_else() {
    const OWN: &str =
        "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\"tools\"]\n";
    const OTHER: &str =
        "[build-system]\nrequires = []\nbuild-backend = \"json\"\nbackend-path = [\"tools\"]\n";
    const OUTSIDE: &str =
        "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\"../x\"]\n";
    const ADDRESS: &str =
        "[build-system]\nrequires = [\"b @ https://h.invalid/b-1-py3-none-any.whl\"]\n";
    const SOURCE: &str = "[build-system]\nrequires = [\"clay\"]\nbuild-backend = \"brick\"\n";
    let own = world(&Clay { project: OWN, ..Clay::default() });
    own.bolide(&ADD).succeeds();
    assert_eq!(listed(&own), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    for (project, code, words) in [
        (OTHER, 1, &["does not lie in backend-path"][..]),
        (OUTSIDE, 1, &["`../x`", "outside"]),
        (ADDRESS, 1, &["`b`", "address"]),
        (SOURCE, 5, &["source only", "never built itself"]),
    ] {
        let world = world(&Clay { project, ..Clay::default() });
        world.bolide(&ADD).fails(code, words);
        assert!(is_nothing_made(&world) && builds(&world).is_empty());
    }
}

#[test]
fn a_wheel_has_to_need_what_its_archive_promised() {
    const PROMISED: &str =
        "Metadata-Version: 2.2\nName: clay\nVersion: 1.0\nRequires-Dist: stone<2\n";
    let honest = world(&Clay { headers: PROMISED, ..Clay::default() });
    honest.bolide(&ADD).succeeds();
    assert_eq!(listed(&honest), ["pkg:pypi/clay@1.0", "pkg:pypi/stone@1.5"]);
    let liar = world(&Clay { headers: PROMISED, requires: &["tower"], ..Clay::default() });
    liar.bolide(&ADD).fails(6, &[WHEEL, "promises"]);
    assert!(is_nothing_made(&liar));
}

#[test]
fn what_is_no_wheel_of_the_package_is_refused() {
    let made = format!("into + '/{WHEEL}'");
    let answer = format!("answer = '{WHEEL}'\n");
    for setup in [
        "told['name'] = 'stone'".to_owned(),
        "told['version'] = '2.0'".to_owned(),
        "answer = '../../../x/clay-1.0-py3-none-any.whl'".to_owned(),
        "answer = '/etc/passwd'".to_owned(),
        "answer = 'clay-1.0.tar.gz'".to_owned(),
        "answer = ['x']".to_owned(),
        "answer = None".to_owned(),
        answer.clone(),
        format!("{answer}import os\nos.symlink('/etc/passwd', {made})"),
        format!("{answer}import os\nos.mkfifo({made})"),
        format!("{answer}import os\nos.rmdir(into)\nos.symlink('/', into)"),
        format!("{answer}open({made}, 'w').write('no archive')"),
        // A wheel of another one, under the right name.
        format!(
            "{answer}import zipfile\nwith zipfile.ZipFile({made}, 'w') as it:\n    \
                 it.writestr('../../escaped', 'x')"
        ),
    ] {
        let world = world_of(setup.clone());
        let outcome = world.bolide(&ADD);
        assert_eq!(outcome.code, 6, "{setup}: {outcome:#?}");
        assert!(is_nothing_made(&world) && builds(&world).is_empty(), "{setup}");
    }
}

#[test]
fn a_failure_says_what_the_backend_said_and_no_other_version_is_taken() {
    let world = world_of("raise ValueError('the kiln is cold')".to_owned());
    let old = Python { name: "clay", version: "0.9", requires: &[] };
    let files = [
        (packages::wheel_name(&old), packages::wheel(&old)),
        (FILE.to_owned(), Clay { setup: "1 / 0".to_owned(), ..Clay::default() }.archive()),
    ];
    world.bolide(&ADD).fails(1, &[FILE, "the kiln is cold", "--build clay"]);
    let files: Vec<_> = files.iter().map(|(name, it)| (name.as_str(), it.clone())).collect();
    world.registry.pypi_files("clay", &files);
    let late = world_of(String::new());
    late.registry.pypi_files("clay", &files);
    late.bolide(&ADD).fails(1, &[FILE, "ZeroDivisionError"]);
    assert!(is_nothing_made(&late));
    late.bolide(&["add", "pypi:clay", "--yes"]).succeeds();
    assert_eq!(listed(&late), ["pkg:pypi/clay@0.9"]);
}

#[test]
fn a_build_reaches_nothing_but_its_own_directory() {
    let world = world_of(String::new());
    let outside = world.place("outside");
    std::fs::write(&outside, "kept").unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(world.place("home/.netrc"), "machine h login a password hush").unwrap();
    let place = outside.display();
    let (host, port) = world.registry.address.split_once(':').unwrap();
    let setup = format!(
        r#"
import os, socket, ctypes, signal

def refused(what, *arguments):
    try:
        found = what(*arguments)
    except OSError as error:
        assert error.errno in (1, 2, 3, 13, 18, 30, 97), error
        return
    raise SystemExit("{{}} {{}} was let: {{!r}}".format(what, arguments, found))

refused(open, "{place}", "a")
refused(open, "{place}")
refused(open, "{place}.new", "w")
refused(os.unlink, "{place}")
refused(os.rename, "{place}", "{place}.new")
refused(os.link, "{place}", into + "/link")
refused(os.listdir, "{home}")
refused(open, "{home}/.netrc")
refused(open, "/proc/1/environ")
refused(os.truncate, "{place}", 0)
refused(socket.create_connection, ("{host}", {port}))
refused(socket.socket, socket.AF_UNIX)
refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
refused(os.kill, {parent}, signal.SIGKILL)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(16, {parent}, 0, 0) == -1
assert libc.unshare(0x10000000) == -1
assert libc.mount(b"none", into.encode(), b"tmpfs", 0, None) == -1
for change in (lambda: os.chmod("{place}", 0o777), lambda: os.utime("{place}", (0, 0))):
    try:
        change()
    except OSError:
        pass
assert not [value for value in os.environ.values() if "hush" in value], os.environ
assert os.environ["HOME"].startswith(os.path.dirname(into)), os.environ
open(os.environ["HOME"] + "/own", "w").write("mine")
"#,
        home = world.place("home").display(),
        parent = std::process::id(),
    );
    let clay = Clay { setup, ..Clay::default() };
    world.registry.pypi_files("clay", &[(FILE, clay.archive())]);
    let modified = std::fs::metadata(&outside).unwrap().modified().unwrap();
    let mut command = world.command(bolide_program());
    command.args(ADD).env("PIP_TOKEN", "hush").env("UV_PUBLISH_TOKEN", "hush");
    Outcome::of(&mut command).succeeds();
    assert_eq!(listed(&world).len(), 2);
    let status = std::fs::metadata(&outside).unwrap();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(status.permissions().mode() & 0o777, 0o640);
    assert_eq!(status.modified().unwrap(), modified);
}

#[test]
fn what_a_build_starts_ends_with_it() {
    let word = format!("86399.{}", std::process::id());
    let setup = format!(
        "import subprocess\nfor _ in range(3):\n    \
         subprocess.Popen(['/bin/sh', '-c', 'sleep {word} & sleep {word} & wait'], start_new_session=True)\n"
    );
    let world = world_of(setup);
    world.bolide(&ADD).succeeds();
    assert_eq!(processes(&word), 0);
}

#[test]
fn what_prints_without_end_is_ended() {
    let world = world_of("while True:\n    print('x' * 4000)\n".to_owned());
    world.bolide(&ADD).fails(1, &[FILE, "bytes of output"]);
    assert!(is_nothing_made(&world) && builds(&world).is_empty());
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_and_the_next_command_works() {
    let word = format!("86398.{}", std::process::id());
    let setup = format!(
        "import subprocess\nslow = subprocess.Popen(['sleep', '{word}'], start_new_session=True)\n\
         open(into + '/begun', 'w').close()\nslow.wait()\n"
    );
    let world = world_of(setup);
    let before = world.tree();
    let mut command = world.command(bolide_program());
    command.args(ADD).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let has_begun = |place: &PathBuf| Path::new(place).join("work/out/begun").exists();
    wait_until("the build has begun", || builds(&world).iter().any(has_begun));
    // A process that was begun a moment ago may not show its words yet.
    wait_until("what it began is there", || processes(&word) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("everything of it has ended", || processes(&word) == 0);
    assert_eq!(world.tree(), before);
    // Whoever watched over the build may be about to end, and holds its place until then.
    wait_until("the next command takes away what it left", || {
        world.bolide(&["add", "pypi:wall", "--yes"]).succeeds();
        builds(&world).is_empty()
    });
}
