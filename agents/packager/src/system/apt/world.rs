//! How apt and dpkg are told which system is meant, and how apt is shut off from everything but given archives.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::command::command;
use super::super::files::Files;
use super::super::touch::Touch;
use crate::error::{Error, Kind, Result};

/// What apt says where the comparing command refused.
pub(super) const REFUSED: &str = "Failure running script sed ";

/// dpkg keeps a person's configuration files and takes the package's where nobody touched them.
const DPKG_OPTIONS: [&str; 3] = ["--force-confdef", "--force-confold", "--no-force-confnew"];

/// A system, and where apt is told of it.
pub(super) struct World {
    root: PathBuf,
    state: PathBuf,
    /// For a system that is not this machine's own: a file that says so, read before any other.
    configuration: Option<PathBuf>,
}

impl World {
    pub(super) fn new(root: &Path, state: &Path, files: &Files) -> Result<Self> {
        let root = root.canonicalize().map_err(|error| Error::io("open", root, &error))?;
        let (root, state) = (plain(&root)?, plain(state)?);
        let nothing = state.join("nothing/partial");
        std::fs::create_dir_all(&nothing).map_err(|error| Error::io("create", &nothing, &error))?;
        let mut world = Self { root, state, configuration: None };
        if world.root != Path::new("/") {
            world.configuration = Some(world.configure(files)?);
        }
        Ok(world)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// Writes what apt reads first. It depends on the root alone, so whoever else writes it writes the same.
    fn configure(&self, files: &Files) -> Result<PathBuf> {
        let root = self.root.display();
        let text = format!(
            "Dir \"{root}/\";\nDir::State::status \"{root}/var/lib/dpkg/status\";\n\
             DPkg::Options {{ \"--root={root}\"; \"--log={root}/var/log/dpkg.log\"; }};\n"
        );
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let name = format!("root-{}.conf", &crate::hex::hex(digest.as_ref())[..16]);
        let path = self.state.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            files.write(&path, &text)?;
        }
        Ok(path)
    }

    /// A tool of apt about this system.
    pub(super) fn apt(&self, name: &str) -> Result<Command> {
        self.apt_in(name, Path::new("/"))
    }

    /// The same in a directory.
    pub(super) fn apt_in(&self, name: &str, directory: &Path) -> Result<Command> {
        let mut command = command(name, directory)?;
        // It tells whether its cache is of today by the second and the size of files, and may be wrong about both.
        command.args(["-o", "Dir::Cache::pkgcache="]);
        command.envs(self.configuration.iter().map(|path| ("APT_CONFIG", path)));
        Ok(command)
    }

    /// A tool of dpkg about this system.
    pub(super) fn dpkg(&self, name: &str) -> Result<Command> {
        let mut command = command(name, Path::new("/"))?;
        if self.configuration.is_some() {
            let place = match name {
                "dpkg-query" => format!("--admindir={}/var/lib/dpkg", self.root.display()),
                _ => format!("--root={}", self.root.display()),
            };
            command.arg(place);
        }
        if name == "dpkg" {
            command.args(DPKG_OPTIONS);
        }
        Ok(command)
    }

    /// apt for which there is nothing in the world but what is installed and what it is given.
    pub(super) fn closed(&self, name: &str) -> Result<Command> {
        let mut command = self.apt(name)?;
        let nothing = self.state.join("nothing");
        let mut option = |text: String| {
            command.arg("-o").arg(text);
        };
        for list in ["sourcelist", "sourceparts", "preferences", "preferencesparts"] {
            option(format!("Dir::Etc::{list}=/dev/null"));
        }
        option(format!("Dir::State::lists={}", nothing.display()));
        // This cache describes the real lists and is not to be replaced by one of none.
        option("Dir::Cache::srcpkgcache=".to_owned());
        option("APT::Install-Recommends=false".to_owned());
        option("APT::Install-Suggests=false".to_owned());
        option("APT::Get::AutomaticRemove=false".to_owned());
        option("APT::Get::Purge=false".to_owned());
        // Nothing is fetched, and archives of ours are nobody else's to read.
        option("APT::Sandbox::User=root".to_owned());
        option("DPkg::Use-Pty=false".to_owned());
        for flag in DPKG_OPTIONS {
            option(format!("DPkg::Options::={flag}"));
        }
        command.args(["-qq", "--yes", "--allow-downgrades"]);
        Ok(command)
    }
}

/// Options by which apt, in the moment before its first change and under its lock, shows what it is about to do to a command
/// that fails where that is not what the file `expected` says, and where it is makes the record of `touch` of that file. apt
/// does nothing where it fails.
pub(super) fn compared_with(expected: &Path, touch: &Touch) -> Vec<String> {
    // Name, old version and architecture, new ones, and the archive: without fields about other architectures, and without
    // the lines that only say what is configured in the end.
    let fields = r"s/^\([^ ]*\) \([^ ]*\) \([^ ]*\) [^ ]* [^ ]* \([^ ]*\) \([^ ]*\) [^ ]* \(.*\)$/\1 \2 \3 \4 \5 \6/p";
    let (expected, touched) = (expected.display(), touch.path());
    let (touched, state) = (touched.display(), touch.state().display());
    let script = format!(
        r"sed -n -e '1,/^$/d' -e '/\*\*CONFIGURE\*\*$/d' -e '{fields}' | sort | cmp -s - '{expected}' && mv -f -T '{expected}' '{touched}' && sync '{touched}' '{state}'"
    );
    let options = [
        format!("DPkg::Pre-Install-Pkgs::={script}"),
        "DPkg::Tools::Options::sed::Version=3".to_owned(),
    ];
    options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
}

/// A path that can stand between quotes of apt and of a shell.
fn plain(path: &Path) -> Result<PathBuf> {
    let text = path.to_str().filter(|text| {
        text.starts_with('/')
            && !text.chars().any(|one| one.is_control() || "\"'\\;{}".contains(one))
    });
    text.map(PathBuf::from).ok_or_else(|| {
        let message = format!("`{}` cannot be told to apt", path.display());
        Error::new(Kind::Usage, "bad-path", message)
            .hint("use a path without quotes and backslashes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Touched;

    /// Feeds the comparing command what apt would; whether it agrees. `None`: what it compares with was taken away.
    fn compare(told: &str, expected: Option<&str>) -> bool {
        let scratch = tempfile::tempdir().unwrap();
        let files = Files::open(scratch.path()).unwrap();
        let touch = Touch::of(scratch.path(), "tx-1").unwrap();
        let file = touch.arm(&files, expected.unwrap_or_default()).unwrap();
        if expected.is_none() {
            assert_eq!(touch.look().unwrap(), Touched::Never);
        }
        let input = scratch.path().join("told");
        std::fs::write(&input, told).unwrap();
        let options = compared_with(&file, &touch);
        let script = options[1].strip_prefix("DPkg::Pre-Install-Pkgs::=").unwrap();
        let input = std::fs::File::open(input).unwrap();
        let status = Command::new("/bin/sh").args(["-c", script]).stdin(input).status();
        let is_agreed = status.unwrap().success();
        let touched = if is_agreed { Touched::Perhaps } else { Touched::Never };
        assert_eq!(touch.look().unwrap(), touched, "agreeing and the record are one");
        is_agreed
    }

    #[test]
    fn only_what_was_meant_passes() {
        let head = "VERSION 3\nDir=/\nAPT::Architecture=amd64\n\n";
        let lines = "old 1 all none > - - none **REMOVE**\n\
            lib 1.0 all none < 1.5 all none /a b/x.deb\nlib 1.0 all none < 1.5 all none **CONFIGURE**\n";
        let told = format!("{head}{lines}");
        let expected = "lib 1.0 all 1.5 all /a b/x.deb\nold 1 all - - **REMOVE**\n";
        assert!(compare(&told, Some(expected)));
        assert!(!compare(&told, None) && !compare(head, None));
        let compare = |told: &str, expected| compare(told, Some(expected));
        assert!(!compare(&format!("{told}more - - none < 1 all none /y.deb\n"), expected));
        assert!(!compare(&told.replace("x.deb", "z.deb"), expected));
        assert!(!compare(&told.replace("old 1", "old 2"), expected));
        assert!(!compare(head, expected) && !compare("", expected));
    }

    #[test]
    fn a_path_that_a_shell_would_read_otherwise_is_refused() {
        for path in ["/a'b", "/a\"b", "/a\nb", "a", "/a\\b"] {
            assert!(plain(Path::new(path)).is_err(), "{path}");
        }
        assert!(plain(Path::new("/a b")).is_ok());
    }
}
