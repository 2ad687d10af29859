//! A system of Fedora's kind in a directory of its own: its packages and their repository are made on the spot, and dnf and rpm
//! change nothing outside of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::keys::Signer;
use crate::machine::give_shell;
use crate::world::{Outcome, World, bolide_program, not_shown, tree};

/// One version of a package: `/usr/share/NAME/version` holds the version.
#[derive(Clone, Copy, Default)]
pub(super) struct Rpm {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// More lines of its spec file.
    pub(super) fields: &'static str,
    /// Scripts by their names; run by the system's own shell.
    pub(super) scripts: &'static [(&'static str, &'static str)],
    /// The content of `/etc/NAME.conf`, a configuration file that is never replaced; none where it is empty.
    pub(super) configuration: &'static str,
}

/// What scripts are run by.
const SHELL: Rpm = Rpm {
    name: "shell",
    version: "1",
    fields: "Provides: /bin/sh",
    scripts: &[],
    configuration: "",
};

pub(super) struct RpmMachine {
    pub(super) world: World,
}

impl RpmMachine {
    /// A system with these packages in its repository; `None`, said aloud, where this machine cannot have one.
    pub(super) fn new(archive: &[Rpm]) -> Option<Self> {
        let tools = ["dnf-3", "rpm", "rpmbuild", "createrepo_c"];
        let is_there = |tool: &&str| Path::new("/usr/bin").join(tool).exists();
        if let Some(tool) = tools.iter().find(|tool| !is_there(tool)) {
            not_shown(&format!("packages of dnf: there is no `{tool}`"));
            return None;
        }
        if !rustix::process::getuid().is_root() {
            not_shown("packages of dnf: rpm changes nothing for anybody but root");
            return None;
        }
        let machine = Self { world: World::new() };
        for place in ["etc/dnf", "etc/yum.repos.d", "srv", "dev"] {
            std::fs::create_dir_all(machine.root().join(place)).unwrap();
        }
        let release = "PRETTY_NAME=\"A system of tests\"\nID=fedora\nVERSION_ID=1\n";
        std::fs::write(machine.root().join("etc/os-release"), release).unwrap();
        std::fs::write(machine.root().join("etc/dnf/dnf.conf"), "[main]\n").unwrap();
        give_shell(&machine.world, &machine.root());
        machine.configure("gpgcheck=0");
        machine.publish(archive);
        machine.dnf(&["install", "shell"]);
        Some(machine)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.world.place("system")
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.world.place("archive")
    }

    /// The repository as the system knows it.
    pub(super) fn configure(&self, more: &str) {
        let text = format!(
            "[tests]\nname=tests\nbaseurl=file://{}\nmetadata_expire=0\n{more}\n",
            self.archive().display()
        );
        std::fs::write(self.root().join("etc/yum.repos.d/tests.repo"), text).unwrap();
    }

    /// Has the repository hold exactly these.
    pub(super) fn publish(&self, packages: &[Rpm]) {
        let _ = std::fs::remove_dir_all(self.archive());
        std::fs::create_dir(self.archive()).unwrap();
        for rpm in packages.iter().chain([&SHELL]) {
            self.build(rpm);
        }
        self.list();
    }

    /// Has everything in the repository signed.
    pub(super) fn sign(&self, signer: &Signer) {
        let place = self.archive().join("noarch");
        for entry in std::fs::read_dir(place).unwrap() {
            signer.sign_rpm(&entry.unwrap().path());
        }
        self.list();
    }

    /// Has rpm take the signatures of somebody for good.
    pub(super) fn trust(&self, signer: &Signer) {
        self.rpm(&["--import", signer.public().to_str().unwrap()]).succeeds();
    }

    fn list(&self) {
        let place = self.archive().display().to_string();
        self.world.run("createrepo_c", &["--quiet", &place]).succeeds();
        // What dnf knows from the same second is not too old for it, whatever its configuration says.
        let _ = std::fs::remove_dir_all(self.root().join("var/cache/dnf"));
    }

    fn build(&self, rpm: &Rpm) {
        let place = self.world.place("build");
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir(&place).unwrap();
        let spec = place.join("package.spec");
        std::fs::write(&spec, spec_of(rpm)).unwrap();
        let define = |name: &str, path: &Path| format!("{name} {}", path.display());
        let mut command = self.world.command("/usr/bin/rpmbuild");
        command.args(["-bb", "--quiet", "--define", &define("_topdir", &place)]);
        command.args(["--define", &define("_rpmdir", &self.archive())]);
        Outcome::of(command.arg(spec)).succeeds();
    }

    /// A tool as a person at this system would run it.
    pub(super) fn tool(&self, program: &str) -> Command {
        let mut command = self.world.command(Path::new("/usr/bin").join(program));
        // On Debian rpm keeps its database below the home directory.
        command
            .env("HOME", "/")
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(super) fn dnf(&self, arguments: &[&str]) {
        let root = format!("--installroot={}", self.root().display());
        let mut command = self.tool("dnf-3");
        Outcome::of(command.args(["-q", "-y", &root, "--releasever=1"]).args(arguments)).succeeds();
    }

    fn rpm(&self, arguments: &[&str]) -> Outcome {
        let root = self.root().display().to_string();
        Outcome::of(self.tool("rpm").args(["--root", &root]).args(arguments))
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(bolide_program());
        command.env("BOLIDE_SYSTEM_ROOT", self.root()).args(arguments);
        command
    }

    pub(super) fn bolide(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Every package with its version, what is there for others, every file; and that rpm finds no fault.
    pub(super) fn state(&self) -> Vec<String> {
        let root = self.root();
        let format = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n";
        let packages = self.rpm(&["-qa", "--queryformat", format]).succeeds().stdout;
        let mut state: Vec<String> = packages.lines().map(str::to_owned).collect();
        let place = format!("--installroot={}", root.display());
        let mut marks = self.tool("dnf-3");
        marks.args(["-q", &place, "--releasever=1", "repoquery", "--installed", "--disablerepo=*"]);
        let marks = Outcome::of(marks.args(["--qf", "%{name}: %{reason}"])).succeeds().stdout;
        state.extend(marks.lines().map(str::to_owned));
        state.sort();
        let verified = self.rpm(&["-Va", "--nomtime", "--noconfig"]);
        assert_eq!(verified.stdout, "", "rpm finds fault");
        state.push(format!("usr/share: {}", tree(&root.join("usr/share"))));
        let mut files: Vec<_> = std::fs::read_dir(root.join("etc")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::path);
        for file in files.iter().filter(|file| file.path().is_file()) {
            let text = std::fs::read_to_string(file.path()).unwrap();
            state.push(format!("{}: {text:?}", file.path().strip_prefix(&root).unwrap().display()));
        }
        state
    }

    /// The version of an installed package, by its own file.
    pub(super) fn version(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join(format!("usr/share/{name}/version"))).ok()
    }
}

fn spec_of(rpm: &Rpm) -> String {
    let Rpm { name, version, fields, configuration, .. } = rpm;
    let mut text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: a package of tests\nLicense: MIT\n\
         BuildArch: noarch\n{fields}\n%description\nA package of tests.\n%install\n\
         mkdir -p %{{buildroot}}/usr/share/{name} %{{buildroot}}/etc\n\
         printf %s {version} > %{{buildroot}}/usr/share/{name}/version\n"
    );
    if !configuration.is_empty() {
        text += &format!("printf '{}' > %{{buildroot}}/etc/{name}.conf\n", configuration.trim());
    }
    for (script, content) in rpm.scripts {
        text += &format!("%{script}\n{content}\n");
    }
    text += &format!("%files\n%dir /usr/share/{name}\n/usr/share/{name}/version\n");
    if !configuration.is_empty() {
        text += &format!("%config(noreplace) /etc/{name}.conf\n");
    }
    text
}
