//! Where one source archive is built: its files, an environment with what it needs, and the sandbox around both. What the build leaves
//! behind is opened only after its last process has ended, and never through a link.
//!
//! ```text
//! archive                 as it was fetched
//! environment-N/          the packages of the build; read-only in the sandbox
//! driver.py               what is run there
//! work/                   the only place that the build may write
//!   source/ home/ tmp/ out/ answer.json
//! wheel/                  a copy of what was made
//! ```
//!
//! All of it lies where downloads lie, and goes with the request, or with the next start where the process died.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use agents_contract::Work;
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::{Sources, Wanted, needed};
use crate::build::project::System;
use crate::build::remembered::Wheel;
use crate::build::{Ended, Order};
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::install::pypi::Environment;
use crate::install::{self, Options};
use crate::io::pypi::file_name;
use crate::limits::BUILD_ANSWER_BYTES_MAX;
use crate::metadata::pypi::FileKind;
use crate::operations::incoming::Incoming;
use crate::operations::pypi::base;
use crate::resolution::{BuildRequirement, Package, Resolution};
use crate::store::{open_beneath, open_directory};

/// What is run in the sandbox.
const DRIVER: &str = include_str!("../../../build/driver.py");
/// A moment that a zip archive can hold wherever it is made, so that the same build makes the same bytes: 1980-01-02.
const SOURCE_DATE_EPOCH: &str = "315619200";

/// See the module.
pub(super) struct Workshop<'w> {
    sources: &'w Sources<'w>,
    pub(super) wanted: &'w Wanted<'w>,
    place: Incoming,
    /// How it is built, where it was looked at; then its files are there.
    system: Option<System>,
    /// What was made for a hook before, and of what.
    environments: Vec<(Vec<BuildRequirement>, PathBuf)>,
    /// Whether something was run here.
    pub(super) has_run: bool,
}

impl<'w> Workshop<'w> {
    pub(super) fn new(sources: &'w Sources<'w>, wanted: &'w Wanted<'w>) -> Result<Self> {
        let shop = sources.task.shop;
        let place = shop.new_incoming()?;
        Ok(Self { sources, wanted, place, system: None, environments: Vec::new(), has_run: false })
    }

    fn work(&self) -> Result<PathBuf> {
        let work = self.place.path().join("work");
        std::fs::create_dir_all(&work).map_err(|error| Error::io("create", &work, &error))?;
        // The kernel's rules are about the place itself.
        work.canonicalize().map_err(|error| Error::io("use", &work, &error))
    }

    /// How the archive says that it is built. Fetches and unpacks it first.
    pub(super) fn system(&mut self) -> Result<&System> {
        if self.system.is_none() {
            let system = self.unpack()?;
            self.system = Some(system);
        }
        let none = || Error::new(Kind::Failed, "internal", "a build without a system");
        self.system.as_ref().ok_or_else(none)
    }

    fn unpack(&self) -> Result<System> {
        let Self { sources, wanted, .. } = self;
        let file = &wanted.package.artifact.file_name;
        let source = self.work()?.join("source");
        sources.lay(wanted, &self.place.path().join("archive"), &source)?;
        for name in ["home", "tmp", "out"] {
            let path = self.work()?.join(name);
            std::fs::create_dir(&path).map_err(|error| Error::io("create", &path, &error))?;
        }
        System::of(&source, file)
    }

    /// What the backend needs beyond what the archive says.
    pub(super) fn requires(&mut self, with: &Resolution) -> Result<Vec<String>> {
        let answer = self.run(&format!("get_requires_for_build_{}", self.product()), with)?;
        let refused = |_| self.refused("its backend does not answer with a list of requirements");
        serde_json::from_slice(&answer).map_err(refused)
    }

    /// Builds the wheel and puts it into the store.
    pub(super) fn build_wheel(&mut self, with: &Resolution) -> Result<Wheel> {
        let answer = self.run(&format!("build_{}", self.product()), with)?;
        self.sources.check_left(self.wanted, &self.work()?.join("source"))?;
        let Wanted { name, .. } = self.wanted;
        let said: Option<String> = serde_json::from_slice(&answer).ok();
        // A plain name of a wheel has nothing in it that leads anywhere.
        let is_wheel = |said: &String| {
            matches!(file_name::parse(said, name), Some((_, FileKind::Wheel { .. })))
        };
        let Some(file_name) = said.clone().filter(is_wheel) else {
            let said = crate::unpack::printable(said.unwrap_or_default().as_bytes());
            return Err(self.refused(&format!("`{said}` is not a wheel of `{name}`")));
        };
        let mut made = self
            .open_inside("out", &file_name)
            .ok_or_else(|| self.refused(&format!("there is no file `{file_name}`")))?;
        let directory = self.place.path().join("wheel");
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::io("create", &directory, &error))?;
        let path = directory.join(&file_name);
        let mut copy = File::create(&path).map_err(|error| Error::io("create", &path, &error))?;
        let task = self.sources.task;
        let content = foreign::read(&mut made, &path, Some(&mut copy), &|| task.check_wanted())?;
        drop(copy);
        let entry = task.shop.store.add_local_wheel(&path)?;
        for warning in &entry.warnings {
            tracing::debug!(file_name, warning, "about what was built");
        }
        Ok(Wheel { file_name, sha256: content.sha256, bytes: content.bytes })
    }

    /// What its hooks are about.
    fn product(&self) -> &'static str {
        if self.sources.used_at(self.wanted).is_some() { "editable" } else { "wheel" }
    }

    /// Opens a regular file that the build left behind.
    fn open_inside(&self, directory: &str, name: &str) -> Option<File> {
        let work = open_directory(&self.work().ok()?).ok()?;
        let directory = open_beneath(work.as_fd(), directory).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).ok()?;
        let file = File::from(file);
        file.metadata().is_ok_and(|status| status.is_file()).then_some(file)
    }

    /// Runs one hook of the backend; what it answered.
    fn run(&mut self, hook: &str, with: &Resolution) -> Result<Vec<u8>> {
        let System { backend, backend_path, .. } = self.system()?.clone();
        let environment = self.environment(with)?;
        let work = self.work()?;
        let driver = self.place.path().join("driver.py");
        std::fs::write(&driver, DRIVER).map_err(|error| Error::io("write", &driver, &error))?;
        let task = json!({
            "answer": work.join("answer.json"),
            "backend": backend,
            "backend_path": backend_path,
            "hook": hook,
            "into": work.join("out"),
        });
        let order = self.order(&environment, &driver, &work, task.to_string());
        let sandbox = &self.sources.task.shop.sandbox;
        let cancellation = self.sources.task.conversation.cancellation();
        self.has_run = true;
        let report = sandbox.run(order, cancellation)?;
        if let Some(how) = report.failure() {
            let lines = report.last_lines();
            let file = &self.wanted.package.artifact.file_name;
            if let Ended::Unable(_) = report.ended {
                let message = format!("`{file}` cannot be built: it {how}");
                return Err(Error::new(Kind::Failed, "no-sandbox", message)
                    .hint("nothing of it is run without one; choose a version that has a wheel"));
            }
            let said = if lines.is_empty() { String::new() } else { format!("\n{lines}") };
            return Err(self.failed(&format!("its build {how}{said}")));
        }
        let mut answer = Vec::new();
        let file = self.open_inside("", "answer.json");
        let read = file.map(|file| file.take(BUILD_ANSWER_BYTES_MAX + 1).read_to_end(&mut answer));
        match read {
            Some(Ok(count)) if count as u64 <= BUILD_ANSWER_BYTES_MAX => Ok(answer),
            _ => Err(self.refused("its backend gave no answer")),
        }
    }

    fn order(&self, environment: &Path, driver: &Path, work: &Path, task: String) -> Order {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", text(&environment.join("bin")));
        let variables = [
            ("HOME", text(&work.join("home"))),
            ("LANG", "C.UTF-8".to_owned()),
            ("PATH", path),
            ("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH.to_owned()),
            ("TMPDIR", text(&work.join("tmp"))),
            ("TZ", "UTC".to_owned()),
        ];
        let mut readable = vec![environment.to_owned(), driver.to_owned()];
        readable.extend(self.of_interpreter());
        Order {
            program: environment.join("bin/python"),
            arguments: ["-I", "-B", &text(driver), &task].map(str::to_owned).into(),
            work: work.to_owned(),
            directory: work.join("source"),
            shown: self.sources.used_at(self.wanted),
            readable,
            variables: variables.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// What of the interpreter has to be read: all of its own directory, unless more than an interpreter lies there.
    fn of_interpreter(&self) -> Vec<PathBuf> {
        let Sources { interpreter, task, project, .. } = self.sources;
        let mut places = vec![interpreter.base_executable.clone()];
        let home = task.variable("HOME").map(PathBuf::from);
        let others = home.iter().map(PathBuf::as_path);
        let mut others = others.chain([project.path(), task.shop.store.root()]);
        let own = &interpreter.base_prefix;
        match others.any(|other| other.starts_with(own)) {
            false => places.push(own.clone()),
            true => {
                let names = ["stdlib", "platstdlib", "include", "platinclude"];
                places
                    .extend(names.iter().filter_map(|name| interpreter.paths.get(*name)).cloned());
            }
        }
        places
    }

    /// An environment of its own with these packages and nothing else.
    fn environment(&mut self, with: &Resolution) -> Result<PathBuf> {
        let Sources { task, interpreter, .. } = self.sources;
        let needed = needed(with);
        if let Some((_, path)) = self.environments.iter().find(|(has, _)| *has == needed) {
            return Ok(path.clone());
        }
        let parent = self.place.path();
        let parent = parent.canonicalize().map_err(|error| Error::io("use", parent, &error))?;
        let path = parent.join(format!("environment-{}", self.environments.len()));
        let packages: Vec<&Package> = with.packages.iter().collect();
        let _lease = task.lease(&packages)?;
        task.fetch(&packages)?;
        let hands = task.hands(Work::Unpack);
        let options = Options {
            crew: &hands,
            verify: task.shop.rules.verify,
            cancellation: task.conversation.cancellation(),
            ..Options::default()
        };
        let base = base(interpreter)?;
        let environment = Environment { staging: &path, final_path: &path, interpreter: &base };
        install::pypi::create(&task.shop.store, environment, false, options)?;
        install::pypi::install(&task.shop.store, environment, &packages, options)?;
        self.environments.push((needed, path.clone()));
        Ok(path)
    }

    fn failed(&self, why: &str) -> Error {
        let Wanted { name, package, .. } = self.wanted;
        let message = format!("`{}` cannot be built: {why}", package.artifact.file_name);
        Error::new(Kind::Failed, "build-failed", message)
            .hint(format!("choose a version that has a wheel, or leave `--build {name}` out"))
    }

    fn refused(&self, why: &str) -> Error {
        let Wanted { name, package, .. } = self.wanted;
        let message =
            format!("what was built of `{}` is refused: {why}", package.artifact.file_name);
        Error::new(Kind::Verification, "built-other", message)
            .hint(format!("choose another version, or leave `--build {name}` out"))
    }
}
