//! Whole operations of the agent on a Python project, with an index on the loopback and the machine's own interpreter.

use std::path::PathBuf;
use std::sync::Arc;

use agents_contract::{Agent, Caller, Cancellation, Conversation, Request, ToolError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    ApplyAnswer, ApplyRequest, ChangeRequest, ListAnswer, ListRequest, PlanAnswer, PlanRequest,
    Setting,
};
use crate::install::tests::wheel_artifact;
use crate::io::testing::{PlainHost, Reply, Server};
use crate::options::Options;
use crate::plan::Exemption;
use crate::service::{Packager, Places, Policy};
use crate::store::Object;

mod between;
mod cold;
mod store;
mod verify;
mod words;

/// Projects of the index with their versions, all of one wheel that runs everywhere.
const INDEX: [(&str, &[&str]); 3] =
    [("base", &["1.0", "2.0"]), ("good", &["1.0"]), ("held", &["1.0", "2.0", "3.0rc1"])];

struct Nobody;

impl Conversation for Nobody {
    fn progress(&self, _: &[u8]) {}

    fn cancellation(&self) -> &Cancellation {
        Cancellation::NEVER
    }

    fn publish(&self, _: &str, _: &[u8]) {}
}

/// A scratch directory, of this process or of another one.
struct Scratch {
    path: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Scratch {
    fn new() -> Self {
        let own = tempfile::tempdir().expect("a directory");
        Self { path: own.path().to_owned(), _own: Some(own) }
    }

    fn of(path: &std::path::Path) -> Self {
        Self { path: path.to_owned(), _own: None }
    }

    fn path(&self) -> &std::path::Path {
        &self.path
    }
}

struct World {
    directory: Scratch,
    packager: Packager,
    index: Server,
}

impl World {
    fn new() -> Self {
        Self::with(Policy::default())
    }

    /// The same files and cache in the hands of another packager, with a state directory of its own; the project is a new one.
    fn again(self, host: Arc<dyn agents_contract::Host>) -> Self {
        let Self { directory, index, .. } = self;
        let place = |name: &str| directory.path().join(name);
        std::fs::remove_dir_all(place("project")).expect("ours");
        std::fs::create_dir(place("project")).expect("space");
        let places = Places { state: place("other-state"), cache: place("cache") };
        let unpacker = crate::unpack::Unpacker::here();
        let packager = Packager::new(&places, Policy::default(), unpacker, host);
        Self { packager: packager.expect("a packager"), directory, index }
    }

    fn with(policy: Policy) -> Self {
        Self::hosted(policy, Arc::new(PlainHost))
    }

    fn hosted(policy: Policy, host: Arc<dyn agents_contract::Host>) -> Self {
        Self::at(Scratch::new(), policy, host)
    }

    fn at(directory: Scratch, policy: Policy, host: Arc<dyn agents_contract::Host>) -> Self {
        for name in ["home", "project"] {
            std::fs::create_dir_all(directory.path().join(name)).expect("a directory");
        }
        let place = |name: &str| directory.path().join(name);
        let places = Places { state: place("state"), cache: place("cache") };
        let packager = Packager::new(&places, policy, crate::unpack::Unpacker::here(), host);
        let index = Server::start(|seen| page(&seen.path).unwrap_or_else(|| Reply::status(404)));
        Self { packager: packager.expect("a packager"), directory, index }
    }

    fn project(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.project().join(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.project().join(name)).expect("there")
    }

    fn has_module(&self, name: &str) -> bool {
        let library = self.project().join(".venv/lib");
        let pythons = std::fs::read_dir(library).expect("an environment");
        pythons.flatten().any(|python| python.path().join("site-packages").join(name).exists())
    }

    fn setting(&self, options: Options) -> Setting {
        let home = self.directory.path().join("home").to_string_lossy().into_owned();
        let path = std::env::var("PATH").expect("a path");
        let index = self.index.at("/simple/").to_string();
        let variables = [
            ("HOME", home),
            ("PATH", path),
            ("PIP_INDEX_URL", index),
            ("XDG_CONFIG_DIRS", "/nowhere".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Setting { options, variables, ..Setting::default() }
    }

    fn ask<Answer: DeserializeOwned>(
        &self,
        tool: &str,
        request: &impl Serialize,
    ) -> Result<Answer, ToolError> {
        self.ask_over(&Nobody, tool, request)
    }

    fn ask_over<Answer: DeserializeOwned>(
        &self,
        conversation: &dyn Conversation,
        tool: &str,
        request: &impl Serialize,
    ) -> Result<Answer, ToolError> {
        let mut payload = Vec::new();
        ciborium::into_writer(request, &mut payload).expect("a request");
        let uid = rustix::process::geteuid().as_raw();
        let caller = Caller { name: "test".to_owned(), uid, pid: std::process::id() };
        let directory = std::fs::File::open(self.project()).expect("a directory");
        let request = Request {
            tool: tool.to_owned(),
            payload,
            directory: Some(directory.into()),
            caller,
            deadline: None,
            priority: 5,
        };
        let answer = self.packager.call(request, conversation)?;
        Ok(ciborium::from_reader(answer.as_slice()).expect("an answer"))
    }

    fn plan_install(&self, options: Options) -> Result<PlanAnswer, ToolError> {
        let setting = self.setting(options);
        self.ask("pkg.plan", &PlanRequest { install: true, setting, ..PlanRequest::default() })
    }

    fn install(&self, options: Options) -> Result<ApplyAnswer, ToolError> {
        let (packages, setting) = (Vec::new(), self.setting(options));
        let request = ChangeRequest { packages, approve: true, force: false, setting };
        self.ask("pkg.install", &request)
    }

    /// Installs, and says whether there was anything to do.
    fn installs(&self, options: Options) -> bool {
        self.install(options).expect("installed").transaction.is_some()
    }

    fn listed(&self) -> Vec<String> {
        let request = ListRequest { setting: self.setting(Options::default()) };
        let list: ListAnswer = self.ask("pkg.list", &request).expect("a list");
        list.packages.into_iter().map(|package| package.purl).collect()
    }
}

fn page(path: &str) -> Option<Reply> {
    if let Some(path) = path.strip_prefix("/npm/") {
        return cold::reply(path);
    }
    if let Some(file) = path.strip_prefix("/files/") {
        let (name, version) = file.strip_suffix("-py3-none-any.whl")?.split_once('-')?;
        return Some(Reply::ok(wheel(name, version)));
    }
    let name = path.strip_prefix("/simple/")?.trim_end_matches('/');
    let (_, versions) = INDEX.iter().find(|(known, _)| *known == name)?;
    let links = versions.iter().map(|version| {
        let file = format!("{name}-{version}-py3-none-any.whl");
        let digest = Object::of(&wheel(name, version)).hex();
        format!("<a href=\"/files/{file}#sha256={digest}\">{file}</a>\n")
    });
    Some(Reply::ok(links.collect::<String>()).html())
}

fn wheel(name: &str, version: &str) -> Vec<u8> {
    let module = format!("{name}/__init__.py");
    wheel_artifact(name, version, &[(&module, format!("VERSION = '{version}'\n").as_bytes())])
}

fn purls(plan: &PlanAnswer) -> Vec<&str> {
    plan.packages.iter().map(|package| &*package.purl).collect()
}

fn windows() -> Options {
    Options { python_platform: Some("windows".to_owned()), ..Options::default() }
}

fn frozen() -> Options {
    Options { frozen: true, ..Options::default() }
}

#[test]
fn a_plan_for_elsewhere_is_looked_at_and_never_becomes_what_is_installed() {
    let world = World::new();
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    let lock = world.read("bolide.lock");
    world.write("requirements.txt", "base\ngood\n");
    for options in
        [windows(), Options { python_version: Some("3.12".to_owned()), ..Options::default() }]
    {
        let plan = world.plan_install(options.clone()).expect("a plan");
        assert_eq!(purls(&plan).len(), 2, "{plan:?}");
        assert!(plan.files.is_empty(), "neither lock nor environment: {plan:?}");
        let digest = plan.digest.expect("a digest");
        let setting = world.setting(Options::default());
        let apply = ApplyRequest { digest, approve: true, force: false, setting };
        let refused: Result<ApplyAnswer, _> = world.ask("pkg.apply", &apply);
        let refused = [refused, world.install(options)].map(|answer| answer.expect_err("refused"));
        for error in refused {
            assert_eq!((error.exit_code, error.code.as_str()), (2, "not-for-here"), "{error:?}");
            assert!(error.message.contains("nothing"), "{error:?}");
        }
    }
    assert_eq!((world.read("bolide.lock"), world.listed().len()), (lock, 1));
    assert!(world.installs(Options::default()));
    assert!(world.has_module("good") && world.has_module("base"));
    assert_eq!(world.listed(), ["pkg:pypi/base@2.0", "pkg:pypi/good@1.0"]);
    assert!(!world.installs(Options::default()));
}

#[test]
fn a_requirements_file_that_includes_others_is_planned_and_installed() {
    let world = World::new();
    world.write("requirements.txt", "-r more.txt\nbase\n-c limits.txt\n");
    world.write("more.txt", "held\n");
    world.write("limits.txt", "held<2\n");
    let plan = world.plan_install(Options::default()).expect("a plan");
    assert_eq!(purls(&plan), ["pkg:pypi/base@2.0", "pkg:pypi/held@1.0"]);
    assert!(world.installs(Options::default()));
    assert!(world.has_module("held") && world.has_module("base"));
    assert!(!world.installs(frozen()), "the lock was made from the same");
    let add = PlanRequest {
        add: vec!["pypi:good".to_owned()],
        setting: world.setting(Options::default()),
        ..PlanRequest::default()
    };
    let plan: PlanAnswer = world.ask("pkg.plan", &add).expect("a plan");
    assert_eq!(purls(&plan).len(), 3, "{plan:?}");
}

#[test]
fn a_lock_is_stale_once_constraints_or_pre_releases_are_others() {
    let world = World::new();
    world.write("requirements.txt", "-c limits.txt\nheld\n");
    world.write("limits.txt", "held<2\n");
    assert!(world.installs(Options::default()));
    assert_eq!(world.listed(), ["pkg:pypi/held@1.0"]);
    let lock = world.read("bolide.lock");
    assert!(lock.contains("\"constraint held"), "{lock}");
    for (file, text, version) in [
        ("limits.txt", "held>=2\n", "2.0"),
        ("requirements.txt", "--pre\n-c limits.txt\nheld\n", "2.0"),
        ("limits.txt", "held>2\n", "3.0rc1"),
    ] {
        world.write(file, text);
        let error = world.install(frozen()).expect_err("another wish");
        assert_eq!((error.exit_code, error.code.as_str()), (4, "lock-stale"), "{error:?}");
        assert!(world.installs(Options::default()), "{text}");
        assert_eq!(world.listed(), [format!("pkg:pypi/held@{version}")]);
        assert!(!world.installs(frozen()), "{text}");
    }
}

#[test]
fn a_lock_does_not_say_how_old_its_packages_are() {
    let author = World::new();
    author.write("requirements.txt", "base\n");
    assert!(author.installs(Options::default()));
    let lock = author.read("bolide.lock");
    let dated =
        lock.replacen("\nhashes = ", "\npublished = \"2001-01-01T00:00:00Z\"\nhashes = ", 1);
    assert_ne!(lock, dated);
    let world = World::with(Policy { minimum_age_s: 60, ..Policy::default() });
    for (name, text) in [("requirements.txt", "base\n"), ("bolide.lock", &*dated)] {
        world.write(name, text);
    }
    let plan = world.plan_install(Options::default()).expect("a plan");
    let locked = Exemption {
        purl: "pkg:pypi/base@2.0".to_owned(),
        published: None,
        reason: "locked".to_owned(),
    };
    assert_eq!(plan.exemptions, [locked], "{plan:?}");
    let anywhere = World::new();
    anywhere.write("requirements.txt", "base\n");
    anywhere.write("bolide.lock", &dated);
    let plan = anywhere.plan_install(Options::default()).expect("a plan");
    assert!(plan.exemptions.is_empty(), "no age is asked for: {plan:?}");
}
