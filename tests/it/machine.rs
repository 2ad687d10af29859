//! A system of Debian's kind in a directory of its own: its packages and their archive are made on the spot, and apt and dpkg
//! change nothing outside of it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sha2::{Digest, Sha256};

use super::registry::hex;
use super::world::{Outcome, World, bolide_program, not_shown, tree, wait_until};

/// One version of a package: `/usr/share/NAME/version` holds the version.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deb {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// More lines of its control file.
    pub(crate) fields: &'static str,
    /// Scripts by their names; run by the system's own shell.
    pub(crate) scripts: &'static [(&'static str, &'static str)],
    /// The content of `/etc/NAME.conf`, a configuration file; none where it is empty.
    pub(crate) configuration: &'static str,
}

pub(crate) struct Machine {
    pub(crate) world: World,
}

impl Machine {
    /// A system with these packages in its archive; `None`, said aloud, where this machine cannot have one.
    pub(crate) fn new(archive: &[Deb]) -> Option<Self> {
        let tools = ["apt-get", "dpkg", "dpkg-deb", "sed", "sort", "cmp"];
        let is_there = |tool: &&str| {
            ["/usr/bin", "/bin"].iter().any(|place| Path::new(place).join(tool).exists())
        };
        if let Some(tool) = tools.iter().find(|tool| !is_there(tool)) {
            not_shown(&format!("packages of the system: there is no `{tool}`"));
            return None;
        }
        if !rustix::process::getuid().is_root() {
            not_shown("packages of the system: dpkg changes nothing for anybody but root");
            return None;
        }
        let machine = Self { world: World::new() };
        for place in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/log/apt",
            "srv",
        ] {
            std::fs::create_dir_all(machine.root().join(place)).unwrap();
        }
        std::fs::create_dir(machine.archive()).unwrap();
        std::fs::write(machine.root().join("var/lib/dpkg/status"), "").unwrap();
        let source = format!("deb [trusted=yes] file:{} ./\n", machine.archive().display());
        std::fs::write(machine.root().join("etc/apt/sources.list"), source).unwrap();
        let release = "PRETTY_NAME=\"A system of tests\"\nID=debian\n";
        std::fs::write(machine.root().join("etc/os-release"), release).unwrap();
        give_shell(&machine.world, &machine.root());
        machine.publish(archive);
        Some(machine)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.world.place("system")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.world.place("archive")
    }

    /// Has the archive hold exactly these, and the system's lists say so.
    pub(crate) fn publish(&self, packages: &[Deb]) {
        std::fs::remove_dir_all(self.archive()).unwrap();
        std::fs::create_dir(self.archive()).unwrap();
        let mut index = String::new();
        for deb in packages {
            let file = format!("{}_{}_all.deb", deb.name, deb.version);
            let path = self.archive().join(&file);
            self.build(deb, &path);
            let bytes = std::fs::read(&path).unwrap();
            let digest = hex(&Sha256::digest(&bytes));
            let (size, control) = (bytes.len(), control(deb));
            index += &format!("{control}Filename: ./{file}\nSize: {size}\nSHA256: {digest}\n\n");
        }
        std::fs::write(self.archive().join("Packages"), index).unwrap();
        self.apt(&["update"]);
    }

    fn build(&self, deb: &Deb, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let place = self.world.place("build");
        let _ = std::fs::remove_dir_all(&place);
        let write = |name: String, text: &str, mode: u32| {
            let path = place.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("DEBIAN/control".to_owned(), &control(deb), 0o644);
        write(format!("usr/share/{}/version", deb.name), deb.version, 0o644);
        for (name, script) in deb.scripts {
            write(format!("DEBIAN/{name}"), &format!("#!/bin/sh\nset -e\n{script}\n"), 0o755);
        }
        if !deb.configuration.is_empty() {
            let name = format!("etc/{}.conf", deb.name);
            write("DEBIAN/conffiles".to_owned(), &format!("/{name}\n"), 0o644);
            write(name, deb.configuration, 0o644);
        }
        let (from, to) = (place.display().to_string(), path.display().to_string());
        let arguments = ["--root-owner-group", "-Zgzip", "--build", from.as_str(), to.as_str()];
        self.world.run("dpkg-deb", &arguments).succeeds();
    }

    /// apt or dpkg as a person at this system would run them.
    pub(crate) fn tool(&self, program: &str) -> Command {
        let root = self.root().display().to_string();
        let configuration = self.world.place("apt.conf");
        let text = format!(
            "Dir \"{root}/\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\n\
             DPkg::Options {{ \"--root={root}\"; \"--log=/dev/null\"; }};\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = self.world.command(program);
        command.env("APT_CONFIG", configuration).env("LC_ALL", "C.UTF-8");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(crate) fn apt(&self, arguments: &[&str]) {
        Outcome::of(self.tool("apt-get").args(["-qq", "--yes"]).args(arguments)).succeeds();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(bolide_program());
        command.env("DPKG_ROOT", self.root()).args(arguments);
        command
    }

    pub(crate) fn bolide(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Every package with its version and state, what is there for others, and every file.
    pub(crate) fn state(&self) -> Vec<String> {
        let root = self.root();
        let format = "${Package} ${Version} ${db:Status-Abbrev}${db:Status-Eflag}\n";
        let place = format!("--admindir={}/var/lib/dpkg", root.display());
        let mut query = self.tool("dpkg-query");
        let packages = Outcome::of(query.args([&place, "--show", "--showformat", format]));
        let mut state: Vec<String> =
            packages.succeeds().stdout.lines().map(str::to_owned).collect();
        let marks = Outcome::of(self.tool("apt-mark").arg("showauto")).succeeds();
        state.extend(marks.stdout.lines().map(|name| format!("automatic: {name}")));
        let audit =
            Outcome::of(self.tool("dpkg").args(["--root", &root.display().to_string(), "--audit"]));
        assert_eq!(audit.succeeds().stdout, "", "dpkg finds fault");
        state.push(format!("usr: {}", tree(&root.join("usr"))));
        let mut files: Vec<_> = std::fs::read_dir(root.join("etc")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::path);
        for file in files.iter().filter(|file| file.path().is_file()) {
            let text = std::fs::read_to_string(file.path()).unwrap();
            state.push(format!("{}: {text:?}", file.path().strip_prefix(&root).unwrap().display()));
        }
        state
    }

    /// The version of an installed package, by its own file.
    pub(crate) fn version(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join(format!("usr/share/{name}/version"))).ok()
    }
}

/// Scripts of packages run inside of a system: a shell that can remove something, and what they are linked with.
pub(crate) fn give_shell(world: &World, root: &Path) {
    let programs = ["/bin/sh", "/bin/rm"];
    let linked = world.run("ldd", &programs).succeeds().stdout;
    // `/bin/sh:` is a heading.
    let is_path = |word: &&str| word.starts_with('/') && !word.ends_with(':');
    for path in linked.split_whitespace().filter(is_path).chain(programs) {
        let target = root.join(&path[1..]);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

fn control(deb: &Deb) -> String {
    let Deb { name, version, fields, .. } = deb;
    let more = if fields.is_empty() { String::new() } else { format!("{fields}\n") };
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\n\
         Maintainer: Tests <tests@example.invalid>\n{more}Description: a package of tests\n"
    )
}

/// A command that stands still in the script of a package: it wrote `/reached` and reads from `/gate`.
pub(crate) struct Halted<'m> {
    machine: &'m Machine,
    pub(crate) child: Child,
    /// The process group of the tool that it started.
    pub(crate) tool: u32,
}

impl<'m> Halted<'m> {
    /// Runs a command until a script halts it.
    pub(crate) fn at_the_gate(machine: &'m Machine, arguments: &[&str]) -> Self {
        let gate = machine.root().join("gate");
        machine.world.run("mkfifo", &[&gate.display().to_string()]).succeeds();
        let mut command = machine.command(arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("a script is reached", || machine.root().join("reached").exists());
        let tool = *children(child.id(), "apt-get").first().unwrap();
        Self { machine, child, tool }
    }

    /// Kills the command, and what it started too where `all` says so.
    pub(crate) fn kill(mut self, all: bool) {
        let tools = family(self.tool);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        match all {
            true => tools.into_iter().for_each(kill),
            false => self.open(),
        }
        wait_until("nobody is at work", || !is_alive(self.tool));
    }

    /// Lets the script go on.
    pub(crate) fn open(&self) {
        let mut gate = std::fs::File::options().write(true).open(self.machine.root().join("gate"));
        gate.as_mut().unwrap().write_all(b"go\n").unwrap();
    }
}

/// Kills a process that a test has started.
pub(crate) fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id as i32).unwrap();
    let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
}

/// Kills a process group that a test has started.
pub(crate) fn kill_group(group: u32) {
    let group = rustix::process::Pid::from_raw(group as i32).unwrap();
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
}

/// The processes of a name that a process has started; of any where it is empty.
pub(crate) fn children(of: u32, name: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_one = |id: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name stands in brackets and may hold anything; after it come the state and the parent.
        let (before, after) = text.rsplit_once(") ").unwrap_or_default();
        let is_named = name.is_empty() || before.ends_with(&format!("({name}"));
        is_named && after.split(' ').nth(1) == Some(&of.to_string())
    };
    all.filter(is_one).collect()
}

/// A process and all that it has started.
pub(crate) fn family(id: u32) -> Vec<u32> {
    let mut found = vec![id];
    for at in 0.. {
        let Some(parent) = found.get(at).copied() else { break };
        found.extend(children(parent, ""));
    }
    found
}

/// Whether a process is there and more than a number that nobody has asked for.
pub(crate) fn is_alive(id: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}
