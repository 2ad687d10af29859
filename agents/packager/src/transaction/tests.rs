//! A project and a state directory in a scratch place, and short words for what tests do with them.

mod commit;
mod crash;
mod drift;
mod format;
mod fuzz;
mod hold;
mod later;
mod machine;
mod mend;
mod power;
mod recovery;
mod rollback;
mod sequence;
mod stored;
mod untrusted;
mod waits;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use super::*;
use crate::ecosystem::Ecosystem;

struct World {
    _scratch: Option<tempfile::TempDir>,
    project: PathBuf,
    state: PathBuf,
    /// The start of the machine that transactions are opened in; nothing: each in one of its own.
    start: Option<String>,
}

impl World {
    /// A project with a manifest, a script, a link and a file that is going to be removed.
    fn new() -> Self {
        let world = Self::empty(&std::env::temp_dir());
        world.furnish();
        world
    }

    /// In memory, where waiting for the device costs nothing.
    fn quick() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let world = Self::empty(&place);
        world.furnish();
        world
    }

    fn empty(place: &Path) -> Self {
        let scratch = tempfile::Builder::new().prefix("bolide-tx-").tempdir_in(place).unwrap();
        let world = Self::at(scratch.path());
        fs::create_dir(&world.project).unwrap();
        Self { _scratch: Some(scratch), ..world }
    }

    fn at(place: &Path) -> Self {
        Self { _scratch: None, project: place.join("x"), state: place.join("state"), start: None }
    }

    fn furnish(&self) {
        self.write("package.json", "{}\n");
        self.write("run.sh", "#!/bin/sh\n");
        fs::set_permissions(self.project.join("run.sh"), fs::Permissions::from_mode(0o755))
            .unwrap();
        std::os::unix::fs::symlink("run.sh", self.project.join("link")).unwrap();
        self.write("old.txt", "old\n");
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.project.join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.project.join(path).symlink_metadata().is_ok()
    }

    fn open(&self) -> Transactions {
        self.open_on(Disk::default()).unwrap()
    }

    fn open_on(&self, disk: Disk) -> Result<Transactions> {
        Transactions::open_on(&self.state, clock(), disk, self.start.clone())
    }

    fn session(&self) -> Session {
        self.lock(&self.open()).unwrap()
    }

    fn lock(&self, transactions: &Transactions) -> Result<Session> {
        // Tests start processes, and between fork and exec a child holds all locks of its parent.
        transactions.lock(
            Project::open(&self.project)?,
            Duration::from_secs(20),
            agents_contract::Cancellation::NEVER,
        )
    }

    /// The hash of the project as its owner sees it.
    fn visible(&self) -> String {
        tree_hash_without(&self.project, &|path| path == b".bolide").unwrap()
    }

    fn everything(&self) -> String {
        tree_hash(&self.project).unwrap()
    }

    /// Nothing of a transaction is left but what is wanted.
    fn assert_clean(&self) {
        let journals: Vec<_> = fs::read_dir(self.state.join("journal")).unwrap().collect();
        assert!(journals.is_empty(), "{journals:?}");
        assert!(!self.has(".bolide/staging"));
        assert!(!self.has(".bolide/trash"));
    }
}

fn clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

fn path(path: &str) -> RelativePath {
    RelativePath::new(path).unwrap()
}

fn purpose(operation: &str) -> Purpose {
    Purpose {
        operation: operation.to_owned(),
        digest: None,
        actor: "uid 0".to_owned(),
        summary: serde_json::json!({ "packages": ["pkg:npm/left-pad@1.0.0"] }),
    }
}

fn environment(place: &str, staged: &str, ecosystem: Ecosystem) -> Change {
    Change {
        live: path(place),
        staged: Some(staged.to_owned()),
        environment: Some(ecosystem),
        expected: Expected::Anything,
    }
}

fn removal(live: &str) -> Change {
    Change { live: path(live), staged: None, environment: None, expected: Expected::Anything }
}

/// Installs `version` of everything: two environments, a changed manifest, a new file in a new directory.
fn install(session: &mut Session, version: &str, force: bool) -> Result<Committed> {
    install_as(session, version, CommitOptions { force, ..CommitOptions::default() })
}

fn install_as(
    session: &mut Session,
    version: &str,
    options: CommitOptions<'_>,
) -> Result<Committed> {
    let mut open = session.begin(purpose("add"))?;
    let modules = open.staging().join("modules");
    let write = |path: PathBuf, text: &str| -> Result<()> {
        let failed = |error: std::io::Error| Error::io("write", &path, &error);
        fs::create_dir_all(path.parent().unwrap()).map_err(failed)?;
        fs::write(&path, text).map_err(failed)
    };
    write(modules.join("a/index.js"), &format!("module.exports = '{version}'\n"))?;
    write(modules.join("a/package.json"), &format!("{{\"version\":\"{version}\"}}\n"))?;
    write(modules.join(format!("only-in-{version}/index.js")), "1\n")?;
    fs::create_dir_all(modules.join(".bin")).unwrap();
    let _ = std::os::unix::fs::symlink("../a/index.js", modules.join(".bin/a"));
    write(open.staging().join("venv/bin/python"), "#!python\n")?;
    write(open.staging().join("venv/lib/site.py"), &format!("version = '{version}'\n"))?;
    let manifest = format!("{{\"dependencies\":{{\"a\":\"{version}\"}}}}\n");
    let manifest =
        open.stage_file(path("package.json"), manifest.as_bytes(), Expected::Anything)?;
    let source =
        open.stage_file(path("src/deep/lib.rs"), version.as_bytes(), Expected::Anything)?;
    let changes = [
        environment("node_modules", "modules", Ecosystem::Npm),
        environment(".venv", "venv", Ecosystem::Pypi),
        manifest,
        source,
        removal("old.txt"),
    ];
    open.commit(&changes, options)
}
