//! Environments with a made-up interpreter; the last test uses a real one, where there is one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use agents_contract::Cancellation;

use crate::ecosystem::Ecosystem;
use crate::install::tests::{package, store, wheel_artifact};
use crate::store::clone_tree;

struct World {
    place: tempfile::TempDir,
    store: Store,
    interpreter: BaseInterpreter,
}

const SITE: &str = "lib/python3.11/site-packages";

impl World {
    fn new() -> Self {
        let (place, store) = store();
        let stdlib = place.path().join("stdlib");
        fs::create_dir_all(stdlib.join("venv/scripts/common")).expect("space");
        fs::write(
            stdlib.join("venv/scripts/common/activate"),
            "VIRTUAL_ENV=\"__VENV_DIR__\"\nPS1=\"__VENV_PROMPT__\"\n",
        )
        .expect("space");
        let interpreter = BaseInterpreter {
            executable: PathBuf::from("/opt/python/bin/python3.11"),
            version: (3, 11, 7),
            version_text: "3.11.7".to_owned(),
            library_name: "python3.11".to_owned(),
            stdlib,
        };
        Self { place, store, interpreter }
    }

    fn staging(&self) -> PathBuf {
        self.place.path().join("staging")
    }

    fn check<T>(&self, work: impl FnOnce(Environment<'_>) -> T) -> T {
        let staging = self.staging();
        work(Environment {
            staging: &staging,
            final_path: std::path::Path::new("/srv/project/.venv"),
            interpreter: &self.interpreter,
        })
    }

    fn create(&self) {
        self.check(|environment| create(&self.store, environment, false, Options::default()))
            .expect("space");
    }

    fn package(&self, name: &str, files: &[(&str, &[u8])]) -> Package {
        package(&self.store, Ecosystem::Pypi, name, "1.0", &wheel_artifact(name, "1.0", files))
    }

    fn install(&self, packages: &[&Package]) -> Result<Report> {
        self.check(|environment| install(&self.store, environment, packages, Options::default()))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.staging().join(path)).expect("there")
    }

    #[track_caller]
    fn check_refused(&self, files: &[(&str, &[u8])], expected: &str) {
        let error = self.install(&[&self.package("demo", files)]).expect_err("hostile");
        assert_eq!(error.kind, Kind::Verification, "{error}");
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn an_empty_environment_is_made_for_its_final_path() {
    let world = World::new();
    world.create();
    let configuration = world.read("pyvenv.cfg");
    assert!(configuration.starts_with(
        "home = /opt/python/bin\ninclude-system-site-packages = false\nversion = 3.11.7\n"
    ));
    assert!(configuration.ends_with("-m venv /srv/project/.venv\n"));
    assert_eq!(world.read(".gitignore"), "*\n");
    assert_eq!(
        world.read("bin/activate"),
        "VIRTUAL_ENV=\"/srv/project/.venv\"\nPS1=\"(.venv) \"\n"
    );
    let link = |path: &str| fs::read_link(world.staging().join(path)).expect("a link");
    assert_eq!(link("bin/python"), PathBuf::from("/opt/python/bin/python3.11"));
    assert_eq!(
        (link("bin/python3"), link("bin/python3.11")),
        (PathBuf::from("python"), PathBuf::from("python"))
    );
    assert_eq!(link("lib64"), PathBuf::from("lib"));
    assert!(world.staging().join(SITE).is_dir());
    assert_eq!(site_packages_of(&world.staging()).as_deref(), Some(SITE));
}

#[test]
fn templates_that_expect_quoted_values_get_them() {
    let mut world = World::new();
    world.interpreter.version = (3, 13, 1);
    let template = world.interpreter.stdlib.join("venv/scripts/common/activate");
    fs::write(template, "VIRTUAL_ENV=__VENV_DIR__\nPS1=\"(\"__VENV_PROMPT__\") \"\n")
        .expect("space");
    world.create();
    assert_eq!(
        world.read("bin/activate"),
        "VIRTUAL_ENV='/srv/project/.venv'\nPS1=\"(\"'.venv'\") \"\n"
    );
}

#[test]
fn a_path_that_shells_misread_is_refused() {
    let world = World::new();
    for path in [
        "/srv/$HOME",
        "/srv/a\"b",
        "/srv/`x`",
        "/srv/a'b",
        "/srv/a\\b",
        "/srv/a\nb",
        "/srv/a:b",
        "relative",
    ] {
        let staging = world.staging();
        let environment = Environment {
            staging: &staging,
            final_path: std::path::Path::new(path),
            interpreter: &world.interpreter,
        };
        let error =
            create(&world.store, environment, false, Options::default()).expect_err("unusable");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Usage, "bad-path"));
        assert!(!staging.exists());
    }
}

#[test]
fn every_part_of_a_wheel_goes_to_its_place() {
    let world = World::new();
    world.create();
    let mut demo = world.package(
        "demo",
        &[
            ("demo/__init__.py", b"x = 1\n"),
            ("demo-1.0.data/scripts/old", b"#!python\nprint(1)\n"),
            ("demo-1.0.data/scripts/shell", b"#!/bin/sh\n"),
            ("demo-1.0.data/data/share/man/demo.1", b"man"),
            ("demo-1.0.data/data/lib64/demo.txt", b"data"),
            ("demo-1.0.data/purelib/pure.py", b""),
            ("demo-1.0.data/platlib/plat.py", b""),
            ("demo-1.0.data/headers/demo.h", b"h"),
            (
                "demo-1.0.dist-info/entry_points.txt",
                b"[console_scripts]\nrun = demo.cli:app.main [extra]\n[other]\n../x = y\n",
            ),
            ("demo-1.0.dist-info/direct_url.json", b"{}"),
        ],
    );
    demo.direct = true;
    let report = world.install(&[&demo]).expect("honest");
    assert_eq!(report.commands, ["run"]);
    assert_eq!(world.read("bin/old"), "#!/srv/project/.venv/bin/python\nprint(1)\n");
    assert_eq!(world.read("bin/shell"), "#!/bin/sh\n");
    assert_eq!(world.read("share/man/demo.1") + &world.read("lib/demo.txt"), "mandata");
    assert!(
        world.staging().join(SITE).join("pure.py").exists()
            && world.staging().join(SITE).join("plat.py").exists()
    );
    assert_eq!(world.read("include/site/python3.11/demo/demo.h"), "h");
    let run = world.read("bin/run");
    assert!(run.starts_with("#!/srv/project/.venv/bin/python\n"));
    assert!(
        run.contains("from demo.cli import app\n") && run.ends_with("    sys.exit(app.main())\n")
    );
    for script in ["bin/run", "bin/old", "bin/shell"] {
        let mode = fs::metadata(world.staging().join(script)).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
    }
    let info = format!("{SITE}/demo-1.0.dist-info");
    assert_eq!(world.read(&format!("{info}/INSTALLER")), "bolide\n");
    assert_eq!(world.read(&format!("{info}/REQUESTED")), "");
    assert!(!world.staging().join(&info).join("direct_url.json").exists());
    let record = world.read(&format!("{info}/RECORD"));
    assert!(
        record.contains("../../../bin/run,sha256=")
            && record.contains("demo-1.0.dist-info/RECORD,,\n")
    );
    for line in crate::unpack::record::parse(&record).expect("our own") {
        let bytes = fs::read(world.staging().join(SITE).join(&line.path)).expect("listed");
        assert!(line.digest.is_none_or(|digest| digest.bytes == Object::of(&bytes).digest));
    }
}

#[test]
fn paths_with_blanks_or_great_length_are_started_by_a_shell() {
    let target = |python: &str| {
        let commands = scripts::parse("[console_scripts]\nx = a:b\n").expect("honest");
        String::from_utf8(scripts::program(std::path::Path::new(python), &commands["x"]))
            .expect("text")
    };
    let trick = "#!/bin/sh\n'''exec' \"/my venv/bin/python\" \"$0\" \"$@\"\n' '''\n";
    assert!(target("/my venv/bin/python").starts_with(trick));
    assert!(target(&format!("/{}/bin/python", "x".repeat(200))).starts_with("#!/bin/sh\n"));
    let longest = format!("/{}", "x".repeat(123));
    assert!(target(&longest).starts_with("#!/x"));
    assert!(target(&format!("{longest}x")).starts_with("#!/bin/sh\n"));
}

#[test]
fn hostile_wheels_are_refused() {
    let world = World::new();
    world.create();
    let points = "demo-1.0.dist-info/entry_points.txt";
    for (line, expected) in [
        ("../../x = a:b", "component `..`"),
        ("/bin/x = a:b", "is absolute"),
        ("a/b = a:b", "is a path"),
        (".. = a:b", "component `..`"),
        (" = a:b", "is empty"),
        ("x = a", "cannot be read"),
        ("x = a:b()", "cannot be read"),
        ("x = os;import evil:b", "cannot be read"),
        ("x = a:b.", "cannot be read"),
        ("x", "cannot be read"),
        ("x = a:b\nx = a:c", "twice"),
    ] {
        world.check_refused(
            &[(points, format!("[console_scripts]\n{line}\n").as_bytes())],
            expected,
        );
    }
    world.check_refused(&[("demo-1.0.data/unknown/x", b"")], "no known place");
    world.check_refused(&[("demo-1.0.data/loose", b"")], "no known place");
    world.check_refused(
        &[("demo-1.0.data/purelib/other-1.0.dist-info/RECORD", b"")],
        "of another package",
    );
    let through_data = format!("demo-1.0.data/data/{SITE}/other-1.0.dist-info/RECORD");
    world.check_refused(&[(&through_data, b"")], "of another package");
    world.check_refused(&[("demo-1.0.data/purelib/demo-1.0.dist-info/x", b"")], "own description");
    world.check_refused(
        &[("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 2.0\nRoot-Is-Purelib: true\n")],
        "only 1 is known",
    );
    world
        .check_refused(&[("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\n")], "Root-Is-Purelib");
    world.check_refused(
        &[("demo-1.0.dist-info/METADATA", b"Name: evil\nVersion: 1.0\n")],
        "that of evil 1.0",
    );
    world.check_refused(&[("demo-1.0.data/scripts/python", b"#!python\n")], "is there already");
    world
        .check_refused(&[("demo-1.0.data/data/pyvenv.cfg", b"home = /evil\n")], "is there already");
    world.check_refused(&[("demo-1.0.data/data/lib64", b"")], "is there already");
}

#[test]
fn a_wheel_that_is_not_the_planned_one_is_refused() {
    let world = World::new();
    world.create();
    let mut package = world.package("demo", &[]);
    package.version = "2.0".to_owned();
    assert_eq!(world.install(&[&package]).expect_err("another one").code, "identity-mismatch");
    package.version = "1".to_owned();
    world.install(&[&package]).expect("the same by PEP 440");
    assert!(normalize("A..b__C") == "a-b-c");
}

#[test]
fn different_files_of_two_wheels_are_a_conflict() {
    let world = World::new();
    world.create();
    let one = world.package("one", &[("same.py", b"same"), ("clash.py", b"1")]);
    let two = world.package("two", &[("same.py", b"same")]);
    let three = world.package("three", &[("clash.py", b"3")]);
    let error = world.install(&[&one, &three]).expect_err("a conflict");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "file-conflict"));
    let report = world.install(&[&one, &two]).expect("equal files");
    assert_eq!(report.warnings.len(), 1);
    assert_eq!(world.install(&[&three]).expect_err("there already").code, "file-conflict");
}

#[test]
fn a_removed_package_leaves_nothing_but_what_others_share() {
    let world = World::new();
    world.create();
    let one = world.package(
        "one",
        &[
            ("one/__init__.py", b""),
            ("one/sub/deep.py", b""),
            ("shared/x.py", b"x"),
            ("one-1.0.data/scripts/one", b"#!python\n"),
        ],
    );
    let two = world.package("two", &[("shared/x.py", b"x"), ("two.py", b"")]);
    world.install(&[&two]).expect("honest");
    let before = listing(&world.staging());
    world.install(&[&one]).expect("honest, and equal where shared");
    let cache = world.staging().join(SITE).join("one/__pycache__");
    fs::create_dir(&cache).expect("space");
    fs::write(cache.join("__init__.cpython-311.pyc"), "").expect("space");
    let removed = world.check(|environment| remove(environment, "ONE")).expect("installed");
    assert_eq!(removed.shared, 1);
    assert_eq!(listing(&world.staging()), before);
    let names: Vec<_> =
        installed(&world.staging().join(SITE)).expect("readable").into_iter().collect();
    assert_eq!(
        (names.len(), names[0].name.as_str(), names[0].installer.as_deref()),
        (1, "two", Some("bolide"))
    );
    let error = world.check(|environment| remove(environment, "one")).expect_err("gone");
    assert_eq!(error.code, "not-installed");
}

fn listing(root: &std::path::Path) -> Vec<String> {
    let output = Command::new("find").arg(root).output().expect("findutils");
    let mut lines: Vec<_> =
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_record_that_leads_out_removes_nothing() {
    let world = World::new();
    world.create();
    let outside = world.place.path().join("precious");
    fs::write(&outside, "").expect("space");
    for path in [
        "../../../../precious",
        "/etc/passwd",
        outside.to_str().expect("text"),
        "../../..",
        "a/../../../../../precious",
        "/srv/project/.venv-evil/x",
        "/srv/project/.venv/../precious",
    ] {
        let info = world.staging().join(SITE).join("bad-1.0.dist-info");
        fs::create_dir_all(&info).expect("space");
        fs::write(info.join("METADATA"), "Name: bad\nVersion: 1.0\n").expect("space");
        fs::write(info.join("RECORD"), format!("bad-1.0.dist-info/METADATA,,\n{path},,\n"))
            .expect("space");
        let error = world.check(|environment| remove(environment, "bad")).expect_err("hostile");
        assert_eq!(
            (error.kind, error.code.as_str()),
            (Kind::Verification, "record-escapes"),
            "{path}"
        );
        assert!(info.join("METADATA").exists() && outside.exists());
    }
}

#[test]
fn a_link_on_the_way_removes_nothing() {
    let world = World::new();
    world.create();
    let outside = world.place.path().join("outside");
    fs::create_dir(&outside).expect("space");
    fs::write(outside.join("x"), "").expect("space");
    std::os::unix::fs::symlink(&outside, world.staging().join(SITE).join("link")).expect("space");
    let info = world.staging().join(SITE).join("bad-1.0.dist-info");
    fs::create_dir_all(&info).expect("space");
    fs::write(info.join("RECORD"), "bad-1.0.dist-info/RECORD,,\nlink/x,,\n").expect("space");
    let error = world.check(|environment| remove(environment, "bad")).expect_err("hostile");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "link-in-the-way"));
    assert!(outside.join("x").exists() && info.join("RECORD").exists());
}

#[test]
fn paths_through_lib64_and_the_final_path_are_understood() {
    let world = World::new();
    world.create();
    let info = world.staging().join(SITE).join("odd-1.0.dist-info");
    fs::create_dir_all(&info).expect("space");
    fs::write(world.staging().join(SITE).join("odd.py"), "").expect("space");
    fs::write(world.staging().join("bin/odd"), "").expect("space");
    let record = "odd-1.0.dist-info/RECORD,,\n../../../lib64/python3.11/site-packages/odd.py,,\n/srv/project/.venv/bin/odd,,\n";
    fs::write(info.join("RECORD"), record).expect("space");
    assert_eq!(world.check(|environment| remove(environment, "odd")).expect("fine").files, 3);
    assert!(!info.exists());
}

#[test]
fn a_package_without_a_list_is_left_to_its_own_tool() {
    let world = World::new();
    world.create();
    fs::create_dir_all(world.staging().join(SITE).join("old-1.0.dist-info")).expect("space");
    let error = world.check(|environment| remove(environment, "old")).expect_err("no list");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "no-record"));
}

/// The interpreter of this machine, if there is one.
fn real_interpreter() -> Option<BaseInterpreter> {
    let program = "import platform, sys, sysconfig\n\
                   print(*sys.version_info[:3], sep='\\n')\n\
                   print(platform.python_version(), sysconfig.get_path('stdlib'), sys._base_executable, sep='\\n')";
    let output = Command::new("python3").args(["-I", "-c", program]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let [major, minor, micro, version, stdlib, executable] = lines[..] else { return None };
    Some(BaseInterpreter {
        executable: executable.into(),
        version: (major.parse().ok()?, minor.parse().ok()?, micro.parse().ok()?),
        version_text: version.to_owned(),
        library_name: format!("python{major}.{minor}"),
        stdlib: stdlib.into(),
    })
}

#[test]
fn a_real_interpreter_runs_what_was_installed() {
    let Some(interpreter) = real_interpreter() else { return };
    let world = World { interpreter, ..World::new() };
    let (staging, last) = (world.staging(), world.place.path().join("my venv"));
    let environment =
        Environment { staging: &staging, final_path: &last, interpreter: &world.interpreter };
    create(&world.store, environment, true, Options::default()).expect("space");
    let demo = world.package(
        "demo",
        &[
            ("demo.py", b"def main():\n    print('it runs')\n"),
            ("demo-1.0.dist-info/entry_points.txt", b"[console_scripts]\ndemo = demo:main\n"),
        ],
    );
    install(&world.store, environment, &[&demo], Options { verify: true, ..Options::default() })
        .expect("honest");
    fs::rename(&staging, &last).expect("the same file system");
    let run = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(last.join("bin").join(program)).args(arguments).output().expect("started");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run("demo", &[]), (true, "it runs\n".to_owned()));
    if last.join("bin/pip").exists() {
        assert!(run("python", &["-m", "pip", "check"]).0);
        assert!(run("pip", &["list"]).1.contains("demo"));
    }
    clone_tree(&last, &staging, &agents_contract::Threads(2), Cancellation::NEVER).expect("space");
    remove(environment, "demo").expect("installed");
    assert!(!staging.join("bin/demo").exists() && last.join("bin/demo").exists());
}
