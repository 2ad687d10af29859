//! Tags by hand, finding by made-up directories; the machine's own interpreter is not needed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Abi, Libc, Platform, compatible_tags, find};
use crate::error::Kind;

fn cpython(version: (u64, u64)) -> Abi {
    Abi {
        implementation: "cpython".to_owned(),
        version,
        is_debug: false,
        is_free_threaded: false,
        extension_suffix: None,
    }
}

fn linux(machine: &str, libc: Libc) -> Platform {
    Platform {
        name: format!("linux-{machine}"),
        is_32bit: false,
        libc: Some(libc),
        elf: None,
        overrides: None,
    }
}

#[test]
fn the_best_tag_is_the_own_abi_on_the_newest_platform() {
    let tags = compatible_tags(&cpython((3, 12)), &linux("x86_64", Libc::Glibc(2, 36)));
    assert_eq!(tags[0], "cp312-cp312-manylinux_2_36_x86_64");
    assert_eq!(tags.last().map(String::as_str), Some("py30-none-any"));
    let place = |tag: &str| tags.iter().position(|it| it == tag).expect(tag);
    let order = [
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp312-cp312-manylinux2014_x86_64",
        "cp312-cp312-manylinux1_x86_64",
        "cp312-cp312-linux_x86_64",
        "cp312-abi3-manylinux_2_36_x86_64",
        "cp312-none-linux_x86_64",
        "cp311-abi3-manylinux_2_36_x86_64",
        "cp32-abi3-linux_x86_64",
        "py312-none-manylinux_2_36_x86_64",
        "py3-none-linux_x86_64",
        "cp312-none-any",
        "py312-none-any",
        "py3-none-any",
        "py311-none-any",
    ];
    assert!(order.map(place).is_sorted(), "{:?}", order.map(place));
}

#[test]
fn arm_has_no_manylinux_older_than_2014() {
    let tags = compatible_tags(&cpython((3, 12)), &linux("aarch64", Libc::Glibc(2, 31)));
    assert!(tags.iter().any(|tag| tag == "cp312-cp312-manylinux2014_aarch64"));
    assert!(!tags.iter().any(|tag| tag.contains("manylinux_2_16") || tag.contains("manylinux1_")));
}

#[test]
fn musl_counts_down_its_minor_versions() {
    let tags = compatible_tags(&cpython((3, 10)), &linux("x86_64", Libc::Musl(1, 2)));
    let expected = ["1_2", "1_1", "1_0"].map(|it| format!("cp310-cp310-musllinux_{it}_x86_64"));
    assert_eq!(tags[..3], expected);
    assert_eq!(tags[3], "cp310-cp310-linux_x86_64");
}

#[test]
fn free_threaded_python_has_no_stable_abi() {
    let abi = Abi { is_free_threaded: true, ..cpython((3, 13)) };
    let tags = compatible_tags(&abi, &linux("x86_64", Libc::Glibc(2, 36)));
    assert_eq!(tags[0], "cp313-cp313t-manylinux_2_36_x86_64");
    assert!(!tags.iter().any(|tag| tag.contains("abi3")));
}

#[test]
fn debug_python_prefers_its_own_abi_and_takes_the_normal_one() {
    let abi = Abi { is_debug: true, ..cpython((3, 12)) };
    let tags = compatible_tags(&abi, &linux("x86_64", Libc::Glibc(2, 5)));
    assert_eq!(tags[0], "cp312-cp312d-manylinux_2_5_x86_64");
    assert!(tags.iter().any(|tag| tag == "cp312-cp312-linux_x86_64"));
}

#[test]
fn pypy_reads_its_abi_from_the_suffix_of_extensions() {
    let abi = Abi {
        implementation: "pypy".to_owned(),
        extension_suffix: Some(".pypy310-pp73-x86_64-linux-gnu.so".to_owned()),
        ..cpython((3, 10))
    };
    let tags = compatible_tags(&abi, &linux("x86_64", Libc::Glibc(2, 36)));
    assert_eq!(tags[0], "pp310-pypy310_pp73-manylinux_2_36_x86_64");
    assert!(tags.iter().any(|tag| tag == "pp3-none-any"));
}

fn program(path: &Path) {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    std::fs::write(path, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("set");
}

#[test]
fn the_base_of_the_projects_environment_comes_before_the_search_path() {
    let (system, project) =
        (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let base = system.path().join("bin/python3.12");
    program(&base);
    program(&system.path().join("path/python3"));
    let search_path = system.path().join("path").into_os_string();
    let found = || find(None, project.path(), Some(&search_path)).expect("found");
    assert_eq!(found(), system.path().join("path/python3"));
    std::fs::create_dir(project.path().join("venv")).expect("made");
    let config = format!("home = {}\nversion = 3.12.4\n", system.path().join("bin").display());
    std::fs::write(project.path().join("venv/pyvenv.cfg"), config).expect("written");
    assert_eq!(found(), base);
}

#[test]
fn a_program_inside_the_project_is_not_run_unasked() {
    let project = tempfile::tempdir().expect("made");
    let trap = project.path().join("tools/python3");
    program(&trap);
    std::fs::create_dir(project.path().join(".venv")).expect("made");
    let config = format!("home = {}\n", project.path().join("tools").display());
    std::fs::write(project.path().join(".venv/pyvenv.cfg"), config).expect("written");
    let error = find(None, project.path(), None).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "untrusted-python"));
    assert_eq!(find(Some(&trap), project.path(), None).expect("named"), trap);
}

/// What `find` says of a project whose environment was made from `home`.
fn found_by_home(project: &Path, home: &str) -> crate::error::Result<std::path::PathBuf> {
    std::fs::create_dir_all(project.join(".venv")).expect("made");
    std::fs::write(project.join(".venv/pyvenv.cfg"), format!("home = {home}\n")).expect("written");
    find(None, project, None)
}

#[test]
fn a_program_of_the_projects_repository_is_not_run_unasked() {
    let repository = tempfile::tempdir().expect("made");
    let tools = repository.path().join("tools");
    program(&tools.join("python3"));
    let project = repository.path().join("deep/project");
    std::fs::create_dir_all(project.join(".git")).expect("made");
    std::fs::create_dir(repository.path().join(".git")).expect("made");
    let elsewhere = tempfile::tempdir().expect("made");
    let link = elsewhere.path().join("bin");
    std::os::unix::fs::symlink(&tools, &link).expect("linked");
    for home in [&tools, &link] {
        let error = found_by_home(&project, &home.display().to_string()).expect_err("refused");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "untrusted-python"));
        assert!(error.hint.is_some_and(|hint| hint.contains("--python")));
    }
}

#[test]
fn a_path_that_depends_on_who_looks_is_not_run_unasked() {
    let system = tempfile::tempdir().expect("made");
    program(&system.path().join("bin/python3"));
    std::fs::create_dir(system.path().join("lib")).expect("made");
    let project = tempfile::tempdir().expect("made");
    let home = system.path().display();
    for home in [format!("/proc/self/root{home}/bin"), format!("{home}/lib/../bin")] {
        let error = found_by_home(project.path(), &home).expect_err("refused");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "untrusted-python"));
    }
}

#[test]
fn the_program_that_was_judged_is_the_one_to_run() {
    let system = tempfile::tempdir().expect("made");
    let real = system.path().join("real/python3");
    program(&real);
    let link = system.path().join("bin");
    std::os::unix::fs::symlink(system.path().join("real"), &link).expect("linked");
    let project = tempfile::tempdir().expect("made");
    let found = found_by_home(project.path(), &link.display().to_string()).expect("found");
    assert_eq!(found, real.canonicalize().expect("there"));
}

#[test]
fn relative_entries_of_the_search_path_are_skipped() {
    let project = tempfile::tempdir().expect("made");
    let error = find(None, project.path(), Some(".::bin".as_ref())).expect_err("nothing found");
    assert_eq!(error.code, "no-python");
}

#[test]
fn a_program_that_is_no_python_is_named_in_the_error() {
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("python3");
    std::fs::write(&path, "#!/bin/sh\necho hello\n").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    let error = super::Interpreter::inspect(&path, agents_contract::Cancellation::NEVER)
        .expect_err("not a Python");
    assert_eq!(error.code, "bad-python");
    assert!(error.message.contains(&path.display().to_string()), "{error}");
}

fn at_hand() -> super::Interpreter {
    let native = linux("x86_64", Libc::Glibc(2, 36));
    let markers = pep508_rs::MarkerEnvironment::try_from(pep508_rs::MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: "3.11.7",
        os_name: "posix",
        platform_machine: "x86_64",
        platform_python_implementation: "CPython",
        platform_release: "6.1",
        platform_system: "Linux",
        platform_version: "1",
        python_full_version: "3.11.7",
        python_version: "3.11",
        sys_platform: "linux",
    });
    super::Interpreter {
        executable: "/usr/bin/python3".into(),
        base_executable: "/usr/bin/python3".into(),
        prefix: "/usr".into(),
        base_prefix: "/usr".into(),
        version: (3, 11, 7),
        implementation: "cpython".to_owned(),
        platform: native.name.clone(),
        paths: std::collections::BTreeMap::new(),
        libc: native.libc,
        target: super::PythonTarget {
            markers: markers.expect("markers"),
            tags: compatible_tags(&cpython((3, 11)), &native),
            python: "3.11.7".parse().expect("a version"),
        },
        native,
    }
}

fn elsewhere(version: Option<&str>, platform: Option<&str>) -> super::PythonTarget {
    let version = version.map(|version| version.parse().expect("a version"));
    super::PythonTarget::elsewhere(&at_hand(), version.as_ref(), platform).expect("a target")
}

#[test]
fn another_python_keeps_the_platform() {
    let target = elsewhere(Some("3.9"), None);
    assert_eq!(target.python.to_string(), "3.9.0");
    assert_eq!(target.markers.python_version().to_string(), "3.9");
    assert_eq!(target.markers.platform_release(), "6.1");
    assert_eq!(target.tags[0], "cp39-cp39-manylinux_2_36_x86_64");
    assert!(!target.tags.iter().any(|tag| tag.starts_with("cp311")));
    assert_eq!(elsewhere(Some("3.14.2"), None).markers.python_full_version().to_string(), "3.14.2");
    assert_eq!(elsewhere(None, None), at_hand().target);
}

#[test]
fn another_platform_keeps_the_python() {
    for (name, tag, machine, system) in [
        ("linux", "cp311-cp311-manylinux_2_28_x86_64", "x86_64", "linux"),
        ("x86_64-manylinux2014", "cp311-cp311-manylinux_2_17_x86_64", "x86_64", "linux"),
        ("aarch64-manylinux_2_31", "cp311-cp311-manylinux_2_31_aarch64", "aarch64", "linux"),
        ("aarch64-unknown-linux-musl", "cp311-cp311-musllinux_1_2_aarch64", "aarch64", "linux"),
        ("macos", "cp311-cp311-macosx_13_0_arm64", "arm64", "darwin"),
        ("x86_64-apple-darwin", "cp311-cp311-macosx_13_0_x86_64", "x86_64", "darwin"),
        ("windows", "cp311-cp311-win_amd64", "AMD64", "win32"),
        ("i686-pc-windows-msvc", "cp311-cp311-win32", "x86", "win32"),
    ] {
        let target = elsewhere(None, Some(name));
        assert_eq!(target.tags[0], tag, "{name}");
        assert_eq!(target.markers.platform_machine(), machine, "{name}");
        assert_eq!(target.markers.sys_platform(), system, "{name}");
        assert_eq!(target.python.to_string(), "3.11.7");
        assert!(target.tags.contains(&"py3-none-any".to_owned()));
    }
}

#[test]
fn a_mac_runs_what_was_made_for_older_ones() {
    // Counted and compared with what `packaging` gives for macOS 13.
    let of = |name| {
        let tags = elsewhere(None, Some(name)).tags;
        let platforms = tags.iter().filter_map(|tag| tag.strip_prefix("cp311-cp311-"));
        platforms.map(str::to_owned).collect::<Vec<_>>()
    };
    let arm = of("macos");
    assert_eq!(
        (arm.len(), &*arm[6], &*arm[18]),
        (19, "macosx_10_16_universal2", "macosx_10_4_universal2")
    );
    let intel = of("x86_64-apple-darwin");
    assert_eq!((intel.len(), &*intel[95]), (96, "macosx_10_4_universal"));
    assert_eq!(&*intel[18], "macosx_10_16_x86_64");
}

#[test]
fn what_is_no_platform_or_no_cpython_is_refused() {
    for name in [
        "",
        "x86_64",
        "plan9",
        "sparc-unknown-linux-gnu",
        "x86_64-manylinux_2_",
        "x86_64-manylinux_2_4000",
    ] {
        let error = super::PythonTarget::elsewhere(&at_hand(), None, Some(name));
        assert_eq!(error.expect_err(name).code, "unknown-platform");
    }
    let mut base = at_hand();
    base.implementation = "pypy".to_owned();
    let version = "3.10".parse().expect("a version");
    let error = super::PythonTarget::elsewhere(&base, Some(&version), None);
    assert_eq!(error.expect_err("not known").code, "unknown-python");
}
