//! Small Python projects of source, each with a build backend of its own in it (PEP 517 `backend-path`), so that pip and Bolide build
//! them without an index; and what pip makes of the same, to compare with.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::packages;
use super::world::{Outcome, World};

/// A backend that makes a wheel of the package's directory, with a command of its name.
const BACKEND: &str = r#"
import base64, hashlib, json, os, zipfile

TOLD = json.load(open("told.json"))
NAME = TOLD["name"]


def version():
    scope = {}
    exec(open(os.path.join(NAME, "version.py")).read(), scope)
    return scope["VERSION"]


def wheel(into, files):
    info = "{}-{}.dist-info".format(NAME, version())
    head = "Metadata-Version: 2.2\nName: {}\nVersion: {}\n".format(NAME, version())
    files[info + "/METADATA"] = head + "".join("Requires-Dist: " + it + "\n" for it in TOLD["requires"])
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\nGenerator: kiln\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[info + "/entry_points.txt"] = "[console_scripts]\n{0} = {0}:main\n".format(NAME)
    record = ""
    file = "{}-{}-py3-none-any.whl".format(NAME, version())
    with zipfile.ZipFile(os.path.join(into, file), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
            record += "{},sha256={},{}\n".format(path, digest.decode(), len(text.encode()))
        archive.writestr(info + "/RECORD", record + info + "/RECORD,,\n")
    return file


def build_wheel(into, settings=None, metadata=None):
    scope = {"into": into, "told": TOLD}
    if os.path.exists("hostile.py"):
        exec(open("hostile.py").read(), scope)
    if "answer" in scope:
        return scope["answer"]
    found = sorted(name for name in os.listdir(NAME) if name.endswith(".py"))
    return wheel(into, {NAME + "/" + name: open(os.path.join(NAME, name)).read() for name in found})


def build_editable(into, settings=None, metadata=None):
    return wheel(into, {"__editable__" + NAME + ".pth": os.getcwd() + "\n"})
"#;

/// What `clay` says that it is, where a build does not change it.
pub(crate) const STATIC: &str =
    "[project]\nname = \"clay\"\nversion = \"1.0\"\ndependencies = [\"stone<2\"]\n";
/// Where only a build tells the version.
pub(crate) const DYNAMIC: &str =
    "[project]\nname = \"clay\"\ndynamic = [\"version\"]\ndependencies = [\"stone<2\"]\n";

/// A project of source, `clay` 1.0, which needs `stone<2`.
pub(crate) struct Clay {
    /// `[project]`, if any.
    pub(crate) project: &'static str,
    /// `PKG-INFO`, if any.
    pub(crate) info: &'static str,
    /// The version that its code has.
    pub(crate) version: &'static str,
    /// What its wheel says that it needs.
    pub(crate) requires: &'static [&'static str],
    /// What the backend does first.
    pub(crate) hostile: String,
}

impl Default for Clay {
    fn default() -> Self {
        let (info, requires) = ("", &["stone<2"]);
        Self { project: STATIC, info, version: "1.0", requires, hostile: String::new() }
    }
}

impl Clay {
    /// Its files, by their paths in it.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let system =
            "[build-system]\nrequires = []\nbuild-backend = \"kiln\"\nbackend-path = [\"tools\"]\n";
        let told = serde_json::json!({"name": "clay", "requires": self.requires});
        let code = "from clay.version import VERSION\n\n\ndef main():\n    print(VERSION)\n";
        let files = [
            ("pyproject.toml", format!("{system}\n{}", self.project)),
            ("PKG-INFO", self.info.to_owned()),
            ("told.json", told.to_string()),
            ("tools/kiln.py", BACKEND.to_owned()),
            ("clay/__init__.py", code.to_owned()),
            ("clay/version.py", format!("VERSION = \"{}\"\n", self.version)),
            ("hostile.py", self.hostile.clone()),
        ];
        let files = files.into_iter().filter(|(_, text)| !text.is_empty());
        files.map(|(path, text)| (path.to_owned(), text)).collect()
    }

    /// A directory with them.
    pub(crate) fn lay(&self, place: &Path) {
        for (path, text) in self.files() {
            let path = place.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn inside(&self, folder: &str) -> Vec<(String, String)> {
        let files = self.files().into_iter();
        files.map(|(path, text)| (format!("{folder}/{path}"), text)).collect()
    }

    /// A `.tar.gz`.
    pub(crate) fn tarball(&self) -> Vec<u8> {
        let files = self.inside("clay-1.0");
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
        packages::tarball(&files)
    }

    /// A `.zip`, as servers of repositories make them.
    pub(crate) fn zip(&self) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive.add_directory("clay-main", options).unwrap();
        for (path, text) in self.inside("clay-main") {
            archive.start_file(path, options).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }
}

/// The packages of a world's project.
pub(crate) fn listed(world: &World) -> Vec<String> {
    let list = world.bolide(&["list", "--json"]).succeeds().json();
    let packages = list["packages"].as_array().unwrap();
    packages.iter().map(|package| package["purl"].as_str().unwrap().to_owned()).collect()
}

/// The one directory for packages of an environment.
pub(crate) fn site_packages(environment: &Path) -> PathBuf {
    let library = std::fs::read_dir(environment.join("lib")).unwrap().next().unwrap().unwrap();
    library.path().join("site-packages")
}

/// What is installed of `clay`, file by file, as far as it does not say who installed it, or when.
pub(crate) fn installed(environment: &Path) -> BTreeMap<String, String> {
    let site = site_packages(environment);
    let mut found = BTreeMap::new();
    let mut left = vec![site.clone()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&site).unwrap().to_str().unwrap().to_owned();
            if !name.contains("clay") || name.contains("__pycache__") {
                continue;
            }
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = match name.rsplit('/').next().unwrap() {
                "INSTALLER" => continue,
                "RECORD" => record(&text),
                "direct_url.json" => sorted(&text),
                _ => text,
            };
            found.insert(name, text);
        }
    }
    found
}

/// A text of JSON whose keys stand in one order.
fn sorted(text: &str) -> String {
    fn told(value: &Value) -> String {
        let Value::Object(map) = value else { return value.to_string() };
        let pairs: BTreeMap<&str, String> =
            map.iter().map(|(key, value)| (key.as_str(), told(value))).collect();
        format!("{pairs:?}")
    }
    told(&serde_json::from_str(text).unwrap())
}

/// The paths of a `RECORD`; byte code comes when it is made, and two writers have two orders.
fn record(text: &str) -> String {
    let paths = text.lines().filter_map(|line| line.split(',').next());
    let mut paths: Vec<&str> = paths
        .filter(|path| !path.contains("__pycache__") && !path.ends_with("INSTALLER"))
        .collect();
    paths.sort_unstable();
    paths.join("\n")
}

/// An environment in which pip installs what these arguments say and nothing that it needs; of an index where they name one.
pub(crate) fn by_pip(world: &World, arguments: &[&str]) -> PathBuf {
    let place = world.place("by-pip");
    if !place.exists() {
        let mut make = world.command("python3");
        Outcome::of(make.args(["-m", "venv"]).arg(&place)).succeeds();
    }
    let mut pip = world.command(place.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-deps", "--no-compile", "--force-reinstall"]);
    if !arguments.contains(&"--index-url") {
        pip.arg("--no-index");
    }
    Outcome::of(pip.args(arguments).current_dir(world.project())).succeeds();
    place
}

/// What `pip freeze` says of `clay` in an environment.
pub(crate) fn frozen(world: &World, environment: &Path) -> String {
    let mut pip = world.command(environment.join("bin/python"));
    let said = Outcome::of(pip.args(["-m", "pip", "freeze"])).succeeds().stdout;
    let lines = said.lines().filter(|line| line.contains("clay"));
    lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
}
