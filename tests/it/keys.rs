//! A person who signs packages: a key of gpg in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{Outcome, World, not_shown};

pub(crate) struct Signer {
    home: PathBuf,
    name: &'static str,
}

impl Signer {
    /// Makes a key; `None`, said aloud, where a tool that is needed for it is missing.
    pub(crate) fn new(world: &World, name: &'static str, tools: &[&str]) -> Option<Self> {
        let missing = |tool: &&&str| !Path::new("/usr/bin").join(tool).exists();
        if let Some(tool) = ["gpg", "gpgconf"].iter().chain(tools).find(missing) {
            not_shown(&format!("signatures of packages: there is no `{tool}`"));
            return None;
        }
        let signer = Self { home: world.place(name), name };
        std::fs::create_dir(&signer.home).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&signer.home, private).unwrap();
        signer.gpg(&["--quick-generate-key", name, "rsa2048", "sign", "never"]);
        Some(signer)
    }

    fn gpg(&self, arguments: &[&str]) -> String {
        let mut command = self.tool("gpg");
        command.args(["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"]);
        Outcome::of(command.args(["--passphrase", ""]).args(arguments)).succeeds().stdout
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new("/usr/bin").join(program));
        command.env("GNUPGHOME", &self.home).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Its public half, in a file.
    pub(crate) fn public(&self) -> PathBuf {
        let path = self.home.join("public.asc");
        std::fs::write(&path, self.gpg(&["--armor", "--export"])).unwrap();
        path
    }

    /// Signs a package of rpm, in it.
    pub(crate) fn sign_rpm(&self, path: &Path) {
        let mut command = self.tool("rpmsign");
        command.args(["--define", &format!("_gpg_name {}", self.name)]);
        command.args(["--define", "__gpg /usr/bin/gpg", "--addsign"]).arg(path);
        Outcome::of(&mut command).succeeds();
    }

    /// Signs a file, beside it.
    pub(crate) fn sign(&self, path: &Path) {
        let signature = format!("{}.sig", path.display());
        self.gpg(&["--detach-sign", "--output", &signature, path.to_str().unwrap()]);
    }

    /// Has the keyring in `home` know it, without trusting it.
    pub(crate) fn known_in(&self, home: &Path) {
        std::fs::create_dir_all(home).unwrap();
        let home = home.to_str().unwrap();
        self.gpg(&["--homedir", home, "--import", self.public().to_str().unwrap()]);
    }

    /// Has the keyring in `home` trust it.
    pub(crate) fn trusted_in(&self, home: &Path) {
        self.known_in(home);
        let about = self.gpg(&["--with-colons", "--list-keys"]);
        let print = about.lines().find_map(|line| line.strip_prefix("fpr:"));
        let trust = self.home.join("trust");
        std::fs::write(&trust, format!("{}:6:\n", print.unwrap().trim_matches(':'))).unwrap();
        let (home, trust) = (home.to_str().unwrap(), trust.to_str().unwrap());
        self.gpg(&["--homedir", home, "--import-ownertrust", trust]);
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.tool("gpgconf").args(["--kill", "all"]).status();
    }
}
