//! A shim of pyenv that counts its starts, and each thing that an answer is forgotten for.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

/// A pyenv of one shim, which notes each start and answers as an interpreter would.
struct Case {
    place: tempfile::TempDir,
}

impl Case {
    fn new(first: &str) -> Self {
        let case = Self { place: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir_all(case.path("shims")).expect("a directory");
        std::fs::write(case.path("python3.11"), "the interpreter").expect("space");
        let answer = ANSWER.replace("PYTHON", &case.path("python3.11").to_string_lossy());
        let started = case.path("started").display().to_string();
        let script =
            format!("{first}\n# pyenv\" exec\necho x >> '{started}'\ncat <<'END'\n{answer}\nEND\n");
        // Written by another process: a program that this one holds open for writing could not be started.
        let write = "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let shim = case.shim();
        let status = Command::new("/bin/sh").args(["-c", write]).arg(&shim).arg(script).status();
        assert!(status.expect("a shell").success());
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn shim(&self) -> PathBuf {
        self.path("shims/python3")
    }

    fn ask(&self) -> Interpreter {
        let memory = self.path("memory");
        Interpreter::inspect_once(&self.shim(), &memory, Cancellation::NEVER).expect("an answer")
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.path("started")).map_or(0, |text| text.lines().count())
    }

    fn key(&self, around: &Surroundings) -> Option<String> {
        around.key(&self.shim())
    }
}

const ANSWER: &str = r#"{"markers": {"implementation_name": "cpython", "implementation_version": "3.11.7",
"os_name": "posix", "platform_machine": "x86_64", "platform_python_implementation": "CPython",
"platform_release": "6.1", "platform_system": "Linux", "platform_version": "1",
"python_full_version": "3.11.7", "python_version": "3.11", "sys_platform": "linux"},
"version": [3, 11, 7], "executable": "PYTHON", "base_executable": "PYTHON", "prefix": "/usr",
"base_prefix": "/usr", "paths": {}, "platform": "linux-x86_64", "is_32bit": false, "is_debug": false,
"is_free_threaded": false, "extension_suffix": null, "glibc": "2.36", "musl": null, "elf": null,
"manylinux": null}"#;

const SHELL: &str = "#!/bin/sh";

#[test]
fn an_interpreter_is_started_once_until_something_that_it_follows_from_changes() {
    let case = Case::new(SHELL);
    let first = case.ask();
    assert_eq!((case.ask(), case.starts()), (first.clone(), 1));
    // Another version under the same name: the one that answered is not there any more.
    let fresh = case.path("fresh");
    std::fs::write(&fresh, "another interpreter").expect("space");
    std::fs::rename(&fresh, case.path("python3.11")).expect("a rename");
    assert_eq!((case.ask(), case.starts()), (first, 2));
    std::fs::write(case.path("version"), "3.12\n").expect("space");
    case.ask();
    assert_eq!(case.starts(), 3, "pyenv takes another one now");
    case.ask();
    assert_eq!(case.starts(), 3);
}

#[test]
fn what_is_damaged_or_old_is_asked_for_again() {
    let case = Case::new(SHELL);
    case.ask();
    let entries = || {
        let listed = std::fs::read_dir(case.path("memory")).expect("a directory");
        listed.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let [place] = &entries()[..] else { panic!("one answer") };
    let text = std::fs::read(place).expect("an answer");
    std::fs::write(place, &text[..text.len() / 2]).expect("space");
    case.ask();
    assert_eq!(case.starts(), 2);
    let file = File::options().write(true).open(place).expect("a file");
    let old = SystemTime::now() - INTERPRETER_REMEMBERED_FOR * 2;
    file.set_modified(old).expect("ours");
    case.ask();
    assert_eq!(case.starts(), 3);
    for index in 0..INTERPRETERS_REMEMBERED_MAX {
        std::fs::write(case.path("memory").join(index.to_string()), "").expect("space");
    }
    std::fs::remove_file(place).expect("ours");
    case.ask();
    assert_eq!(entries().len(), 1, "there is a bound");
}

#[test]
fn a_script_of_unknown_ways_is_asked_every_time() {
    let case = Case::new(SHELL);
    let shim = std::fs::read_to_string(case.shim()).expect("a script");
    let other = shim.replace("# pyenv\" exec", "");
    let path = case.path("other");
    std::fs::write(&path, other).expect("space");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let around = Surroundings::here().expect("a directory");
    assert!(case.key(&around).is_some() && around.key(&path).is_none());
}

#[test]
fn each_thing_that_pyenv_looks_at_is_part_of_the_name() {
    let case = Case::new(SHELL);
    let project = case.path("a/b");
    std::fs::create_dir_all(&project).expect("a directory");
    let around = |variables: &[(&str, &str)]| Surroundings {
        directory: project.clone(),
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        kernel: b"6.1".to_vec(),
        libraries: None,
    };
    let mut keys = vec![case.key(&around(&[]))];
    assert_eq!(case.key(&around(&[("LANG", "C")])), keys[0], "it does not look at that");
    keys.push(case.key(&around(&[("PYENV_VERSION", "3.12")])));
    keys.push(case.key(&around(&[("_PYTHON_HOST_PLATFORM", "linux-aarch64")])));
    keys.push(case.key(&around(&[("LD_PRELOAD", "/opt/libpython.so")])));
    keys.push(case.key(&around(&[("PATH", "/opt/bin")])));
    keys.push(case.key(&Surroundings { kernel: b"6.2".to_vec(), ..around(&[]) }));
    let libraries = FileState::at(&case.shim());
    keys.push(case.key(&Surroundings { libraries, ..around(&[]) }));
    std::fs::write(case.path("a").join(VERSION_FILE), "3.12\n").expect("space");
    keys.push(case.key(&around(&[])));
    std::fs::write(case.path("pyvenv.cfg"), "home = /usr/bin\n").expect("space");
    keys.push(case.key(&around(&[])));
    std::fs::write(case.path("version"), vec![b'3'; 8192]).expect("space");
    assert_eq!(case.key(&around(&[])), None, "no file of a version is as long");
    let count = keys.len();
    assert!(keys.iter().all(Option::is_some));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn what_another_program_answered_is_not_remembered_of_one_that_is_no_script() {
    let case = Case::new(SHELL);
    let place = tempfile::tempdir().expect("a directory");
    let interpreter = case.ask();
    // A shim that is a program of its own, and the interpreter by two names.
    let [shim, link] = ["shim", "link"].map(|name| place.path().join(name));
    std::fs::write(&shim, b"\x7fELF").expect("space");
    std::os::unix::fs::symlink(&interpreter.executable, &link).expect("space");
    assert!(!is_itself(&shim, &interpreter));
    assert!(is_itself(&link, &interpreter) && is_itself(&interpreter.executable, &interpreter));
    assert!(is_itself(&case.shim(), &interpreter), "pyenv's ways are known");
}
