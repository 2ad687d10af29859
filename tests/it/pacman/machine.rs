//! A system of Arch's kind in a directory of its own: its packages and their repository are made on the spot, and pacman changes
//! nothing outside of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::give_shell;
use crate::world::{Outcome, World, bolide_program, not_shown, tree};

/// One version of a package: `/usr/share/NAME/version` holds the version.
#[derive(Clone, Copy, Default)]
pub(super) struct Pkg {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// More lines of its description.
    pub(super) fields: &'static str,
    /// Its script, run by the system's own shell.
    pub(super) script: &'static str,
    /// The content of `/etc/NAME.conf`, a configuration file; none where it is empty.
    pub(super) configuration: &'static str,
}

pub(super) struct PacmanMachine {
    pub(super) world: World,
}

impl PacmanMachine {
    /// A system with these packages in its repository; `None`, said aloud, where this machine cannot have one.
    pub(super) fn new(archive: &[Pkg]) -> Option<Self> {
        let tools = ["pacman", "pacman-conf", "vercmp", "repo-add", "bsdtar"];
        let is_there = |tool: &&str| Path::new("/usr/bin").join(tool).exists();
        if let Some(tool) = tools.iter().find(|tool| !is_there(tool)) {
            not_shown(&format!("packages of pacman: there is no `{tool}`"));
            return None;
        }
        if !rustix::process::getuid().is_root() {
            not_shown("packages of pacman: it changes nothing for anybody but root");
            return None;
        }
        let machine = Self { world: World::new() };
        let places = ["etc", "srv", "tmp", "var/lib/pacman/local", "var/lib/pacman/sync"];
        for place in places.into_iter().chain(["var/cache/pacman/pkg", "var/log"]) {
            std::fs::create_dir_all(machine.root().join(place)).unwrap();
        }
        let release = "PRETTY_NAME=\"A system of tests\"\nID=arch\n";
        std::fs::write(machine.root().join("etc/os-release"), release).unwrap();
        give_shell(&machine.world, &machine.root());
        machine.configure("Never");
        machine.publish(archive);
        Some(machine)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.world.place("system")
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.world.place("archive")
    }

    /// The repository as the system knows it.
    pub(super) fn configure(&self, signatures: &str) {
        let text = format!(
            "[options]\nArchitecture = auto\nSigLevel = {signatures}\n[tests]\nServer = file://{}\n",
            self.archive().display()
        );
        std::fs::write(self.root().join("etc/pacman.conf"), text).unwrap();
    }

    /// Has the repository hold exactly these, and the system's list say so.
    pub(super) fn publish(&self, packages: &[Pkg]) {
        let _ = std::fs::remove_dir_all(self.archive());
        std::fs::create_dir(self.archive()).unwrap();
        for pkg in packages {
            self.build(pkg, &self.archived(pkg));
        }
        self.list(packages);
    }

    /// The archive of a package in the repository.
    pub(super) fn archived(&self, pkg: &Pkg) -> PathBuf {
        self.archive().join(format!("{}-{}-any.pkg.tar.gz", pkg.name, pkg.version))
    }

    /// Has the repository's list say what is there, signatures included.
    pub(super) fn list(&self, packages: &[Pkg]) {
        // A list has one version of a name, the last that is added.
        let mut add = self.tool("repo-add");
        add.arg("-q").arg(self.archive().join("tests.db.tar.gz"));
        add.args(packages.iter().map(|pkg| self.archived(pkg)));
        Outcome::of(&mut add).succeeds();
        self.pacman(&["-Syy"]);
    }

    fn build(&self, pkg: &Pkg, path: &Path) {
        let Pkg { name, version, fields, script, configuration } = pkg;
        let place = self.world.place("build");
        let _ = std::fs::remove_dir_all(&place);
        let write = |name: String, text: &str| {
            let path = place.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        };
        let mut about = format!(
            "pkgname = {name}\npkgbase = {name}\npkgver = {version}\npkgdesc = a package of tests\n\
             builddate = {}\nsize = 1\narch = any\nlicense = MIT\n{fields}\n",
            version.bytes().map(u64::from).sum::<u64>()
        );
        write(format!("usr/share/{name}/version"), version);
        if !configuration.is_empty() {
            about += &format!("backup = etc/{name}.conf\n");
            write(format!("etc/{name}.conf"), configuration);
        }
        if !script.is_empty() {
            write(".INSTALL".to_owned(), script);
        }
        write(".PKGINFO".to_owned(), &about);
        let mut command = self.tool("bsdtar");
        command.arg("-czf").arg(path).arg("-C").arg(&place).args(["--uid", "0", "--gid", "0"]);
        let mut names: Vec<_> =
            std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        Outcome::of(command.args(names)).succeeds();
    }

    /// A tool as a person at this system would run it.
    pub(super) fn tool(&self, program: &str) -> Command {
        let mut command = self.world.command(Path::new("/usr/bin").join(program));
        command.env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(super) fn pacman(&self, arguments: &[&str]) -> Outcome {
        let inside = |path: &str| self.root().join(path).display().to_string();
        let mut command = self.tool("pacman");
        command.args(["--noconfirm", "--root", &inside(""), "--dbpath", &inside("var/lib/pacman")]);
        command.args(["--config", &inside("etc/pacman.conf"), "--logfile", "/dev/null"]);
        command.args(["--cachedir", &inside("var/cache/pacman/pkg")]);
        Outcome::of(command.args(arguments)).succeeds()
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(bolide_program());
        command.env("BOLIDE_SYSTEM_ROOT", self.root()).args(arguments);
        command
    }

    pub(super) fn bolide(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Every package with its version, what is there for others, every file; and that pacman finds no fault.
    pub(super) fn state(&self) -> Vec<String> {
        let root = self.root();
        let packages = self.pacman(&["-Q"]).stdout;
        let mut state: Vec<String> = packages.lines().map(str::to_owned).collect();
        // It fails where there are none.
        let inside = |path: &str| root.join(path).display().to_string();
        let mut marks = self.tool("pacman");
        marks.args(["-Qdq", "--root", &inside(""), "--dbpath", &inside("var/lib/pacman")]);
        let marks = Outcome::of(marks.args(["--config", &inside("etc/pacman.conf")])).stdout;
        state.extend(marks.lines().map(|name| format!("automatic: {name}")));
        self.pacman(&["-Qk"]);
        self.pacman(&["-Dk"]);
        assert!(!root.join("var/lib/pacman/db.lck").exists(), "a lock stays");
        let mut entries: Vec<_> = std::fs::read_dir(root.join("var/lib/pacman/local"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        entries.sort();
        state.extend(entries.iter().map(|name| format!("entry: {name}")));
        state.push(format!("usr/share: {}", tree(&root.join("usr/share"))));
        let mut files: Vec<_> = std::fs::read_dir(root.join("etc")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::path);
        // What the configuration says is of this very directory.
        let is_shown =
            |file: &&std::fs::DirEntry| file.path().is_file() && file.file_name() != "pacman.conf";
        for file in files.iter().filter(is_shown) {
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
