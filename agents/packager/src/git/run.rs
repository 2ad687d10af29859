//! One run of git: with what surroundings, within which bounds, and what it means when it fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use agents_contract::{Cancellation, waiting};

use super::helper::{COMMAND, MISSING, NO_FILE, UNABLE};
use super::limits::{
    GIT_ASK_MEMORY_BYTES_MAX, GIT_FETCH_MEMORY_BYTES_MAX, GIT_FILE_BYTES_MAX,
    GIT_LOCAL_MEMORY_BYTES_MAX, GIT_LOCAL_TIME_MAX, GIT_PLACE_BYTES_MAX, GIT_SAID_BYTES_MAX,
    GIT_SETTINGS_MAX, GIT_TIME_MAX,
};
use crate::error::{Error, Kind, Result};
use crate::manifest::address;
use crate::process;

/// The person's own surroundings that git and ssh need to reach a server: where their configuration is, who has their keys, and the way.
pub(crate) const VARIABLES: [&str; 30] = [
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "DBUS_SESSION_BUS_ADDRESS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GNUPGHOME",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KRB5CCNAME",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// What the names of the variables begin with that hold single settings of git, as builds on servers hand over logins: how many there
/// are, and the name and the value of each by its number.
pub(crate) const SETTINGS: [&str; 3] = ["GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];
/// Those of them that say how a server is reached. Others are nobody's business here.
const SETTINGS_KNOWN: [&str; 3] = ["http.", "url.", "credential."];

/// What no run of git does here, whatever anybody configured.
const OFF: [&str; 26] = [
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "credential.interactive=false",
    "fetch.parallel=1",
    "fetch.recurseSubmodules=false",
    // As `transfer.unpackLimit`, which counts less.
    "fetch.unpackLimit=1",
    "fetch.writeCommitGraph=false",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "filter.lfs.smudge=",
    "gc.auto=0",
    "maintenance.auto=false",
    // Where something is fetched from, and where a server may send us on to. Without encryption only where the person's own configuration
    // puts that in the place of what stands in the manifest, and never because a server says so.
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "protocol.file.allow=always",
    "protocol.ftp.allow=never",
    "protocol.ftps.allow=never",
    "protocol.git.allow=never",
    "protocol.http.allow=user",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "submodule.recurse=false",
    "transfer.bundleURI=false",
    // Everything into one pack, so that a bound on a file is one on all.
    "transfer.unpackLimit=1",
];

/// What git itself says begins with one of these; what a server says begins with `remote: `, unless git ends by it.
const OWN: [&str; 2] = ["fatal: ", "error: "];
/// What git says when it is this machine that does not let it go on.
const LACKING: [&str; 6] = [
    "Out of memory",
    "Cannot allocate memory",
    "Too many open files",
    "Resource temporarily unavailable",
    "No space left on device",
    "Disk quota exceeded",
];
/// What git's exit code is when it gives up; above are wrong words of ours, and signals as shells tell of them.
const GIVES_UP: i32 = 128;
/// The same where a command went on to its end without what it could not read.
const GOES_WITHOUT: i32 = 1;
/// The signal of a file that was looked at in memory and cannot be read there.
const UNREADABLE: i32 = GIVES_UP + 7;

/// The repository of a run that has none: the one of a directory above must not be found.
pub(super) const NOWHERE: &str = "/dev/null";

/// Where the person's configuration counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A server is asked.
    Server,
    /// Only what is here is looked at; nobody's configuration has anything to say.
    Here,
}

/// What is run.
pub(super) struct Order<'o> {
    pub(super) reach: Reach,
    /// The repository's directory; nothing where there is none.
    pub(super) repository: Option<&'o Path>,
    pub(super) arguments: Vec<String>,
    /// What it does not do beyond [`OFF`].
    pub(super) off: &'o [&'o str],
    /// What it reads, and where all it says goes.
    pub(super) files: Option<(&'o Path, &'o Path)>,
    /// Bytes that it may say otherwise.
    pub(super) said_bytes_max: u64,
}

impl<'o> Order<'o> {
    pub(super) fn new(reach: Reach, repository: Option<&'o Path>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let said_bytes_max = GIT_SAID_BYTES_MAX;
        Self { reach, repository, arguments, off: &[], files: None, said_bytes_max }
    }

    /// A server can fill the memory with names, and with a little that becomes much once it is unpacked.
    fn memory_bytes_max(&self) -> u64 {
        match (self.reach, self.repository_that_grows()) {
            (Reach::Here, _) => GIT_LOCAL_MEMORY_BYTES_MAX,
            (Reach::Server, Some(_)) => GIT_FETCH_MEMORY_BYTES_MAX,
            (Reach::Server, None) => GIT_ASK_MEMORY_BYTES_MAX,
        }
    }

    /// Where what a server gives is written to.
    fn repository_that_grows(&self) -> Option<&'o Path> {
        self.repository.filter(|path| self.reach == Reach::Server && *path != Path::new(NOWHERE))
    }
}

/// How it ended by itself.
pub(super) struct Ended {
    pub(super) is_well: bool,
    pub(super) said: Vec<u8>,
    /// What it complained about, as people may see it.
    pub(super) why: String,
    code: Option<i32>,
    /// The lines of git itself. Whoever has a server can still forge one, where it is by ssh or git ends by what a server says: nothing may
    /// depend on them that such a server could not have by doing what they say.
    own: String,
}

impl Ended {
    /// Whether git itself complains of one of these.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|words| self.own.contains(words))
    }

    /// Whether it gave up by itself for what it read, as far as it says: no bound, no signal, nothing that this machine lacks.
    pub(super) fn is_of_what_it_read(&self) -> bool {
        match self.code {
            Some(UNREADABLE) => true,
            // A program in the place of git that cannot start it ends otherwise, and not with words of git.
            Some(GIVES_UP | GOES_WITHOUT) => !self.own.is_empty() && !self.says(&LACKING),
            _ => false,
        }
    }
}

/// The git of whoever asks.
pub(crate) struct Git<'g> {
    /// The program whose `main` begins as [`helper`](super::helper) says.
    pub(crate) helper: &'g Path,
    /// A variable of whoever asks.
    pub(crate) variable: &'g dyn Fn(&str) -> Option<String>,
    pub(crate) cancellation: &'g Cancellation,
}

impl Git<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// `git-missing`, `git-failed` where it cannot be run, `git-too-long`.
    pub(super) fn run(&self, order: &Order<'_>) -> Result<Ended> {
        let time = if order.reach == Reach::Server { GIT_TIME_MAX } else { GIT_LOCAL_TIME_MAX };
        let mut command = self.command(order);
        let run = || process::run_held(&mut command, time, order.said_bytes_max, self.cancellation);
        // Without the leave to compute: it waits for the network and the disk.
        let output = waiting(self.cancellation, run);
        let output = output.map_err(|error| Error::io("run", self.helper, &error))?;
        let Some(output) = output else {
            Error::if_cancelled(self.cancellation)?;
            return Err(took_too_long(order, time));
        };
        let code = output.status.code();
        let why = complaint(&output.stderr).unwrap_or_else(|| silent_end(code));
        if code == Some(i32::from(MISSING)) {
            let message = "`git` is needed for a package of a repository, and is not installed";
            return Err(Error::new(Kind::Failed, "git-missing", message)
                .hint("install git, or put it on `PATH`; nothing was changed"));
        }
        if code == Some(i32::from(UNABLE)) {
            return Err(Error::new(
                Kind::Failed,
                "git-failed",
                format!("git cannot be run: {why}"),
            )
            .hint(LACKS));
        }
        let (is_well, own) = (output.status.success(), own_lines(&output.stderr));
        Ok(Ended { is_well, said: output.stdout, why, code, own })
    }

    /// The same for what does not fail unless something is wrong here.
    pub(super) fn run_here(&self, order: &Order<'_>) -> Result<Vec<u8>> {
        let Ended { is_well, said, why, .. } = self.run(order)?;
        if is_well {
            return Ok(said);
        }
        let word = order.arguments.first().map_or("", String::as_str);
        let message = format!("`git {word}` failed: {why}");
        Err(Error::new(Kind::Failed, "git-failed", message).hint(LACKS))
    }

    fn command(&self, order: &Order<'_>) -> Command {
        let path = |file: Option<&Path>| {
            file.map_or_else(|| NO_FILE.to_owned(), |file| file.to_string_lossy().into_owned())
        };
        let (input, output) = order.files.unzip();
        let grows = order.repository_that_grows();
        let mut command = Command::new(self.helper);
        command
            .args([COMMAND, &path(input), &path(output)])
            .args([GIT_FILE_BYTES_MAX.to_string(), order.memory_bytes_max().to_string()])
            .args([path(grows), GIT_PLACE_BYTES_MAX.to_string()])
            .arg("git")
            .args(OFF.iter().chain(order.off).flat_map(|off| ["-c", off]))
            .args(&order.arguments)
            .current_dir("/")
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)))
            .envs(VARIABLES.iter().filter_map(|name| Some((*name, (self.variable)(name)?))));
        // Complaints are read, and there is nobody who could answer a question; nor is there a terminal, which the helper has left.
        let fixed = [
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
        ];
        command.envs(fixed);
        if order.reach == Reach::Here {
            command.envs(["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"].map(|it| (it, "/dev/null")));
            command.env("GIT_CONFIG_NOSYSTEM", "1");
        } else {
            let settings = settings(self.variable);
            command.env("GIT_CONFIG_COUNT", settings.len().to_string());
            for (at, (key, value)) in settings.into_iter().enumerate() {
                command.env(format!("GIT_CONFIG_KEY_{at}"), key);
                command.env(format!("GIT_CONFIG_VALUE_{at}"), value);
            }
        }
        if let Some(repository) = order.repository {
            command.env("GIT_DIR", repository);
        }
        command
    }
}

/// The advice where something is wrong here.
pub(super) const LACKS: &str = "see whether this machine has room left on its disk and in memory, then run the command again; nothing was changed";

/// Settings out of variables, with what they are called.
fn settings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let [count, key, value] = SETTINGS;
    let count = variable(count).and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    let all = (0..GIT_SETTINGS_MAX.min(count)).filter_map(|at| {
        Some((variable(&format!("{key}{at}"))?, variable(&format!("{value}{at}"))?))
    });
    let is_known = |key: &str| {
        let begins = |with: &&str| {
            key.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
        };
        SETTINGS_KNOWN.iter().any(begins)
    };
    all.filter(|(key, _)| is_known(key)).collect()
}

fn took_too_long(order: &Order<'_>, time: Duration) -> Error {
    let word = order.arguments.first().map_or("", String::as_str);
    let seconds = time.as_secs();
    let message = format!("`git {word}` did not end within {seconds} seconds and was ended");
    if order.reach == Reach::Here {
        // A few objects can make a tree that has no end.
        return Error::new(Kind::Refused, "git-too-long", message).hint(
            "unless this machine was very busy, the repository takes too long to be read: name an archive of its source, or another revision",
        );
    }
    Error::new(Kind::Network, "git-too-long", message)
        .hint("try it again, or name a mirror that is nearer with git's `url.*.insteadOf`")
}

/// The last lines of what git complained about, without what may be a secret and without what steers a terminal.
fn complaint(bytes: &[u8]) -> Option<String> {
    const LINES_SHOWN: usize = 3;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    // Quotes steer nothing.
    let shown = |line: &&str| {
        crate::unpack::printable(address::masked(line).as_bytes()).replace("\\'", "'")
    };
    let told: Vec<String> = last.iter().map(shown).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Why it ended where it said nothing.
fn silent_end(code: Option<i32>) -> String {
    match code.map(|code| code - GIVES_UP) {
        Some(signal) if signal > 0 => format!("signal {signal} ended it"),
        _ => "it does not say why".to_owned(),
    }
}

/// The lines that git itself says, without those of a server.
fn own_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let own = text.lines().filter(|line| OWN.iter().any(|begin| line.starts_with(begin)));
    own.collect::<Vec<_>>().join("\n")
}

/// Where helpers are started: this very program.
pub(crate) fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_servers_are_taken_out_of_variables() {
        let read = |count: &str| {
            settings(&|name| match name {
                "GIT_CONFIG_COUNT" => Some(count.to_owned()),
                "GIT_CONFIG_KEY_0" => Some("HTTP.https://h/.extraHeader".to_owned()),
                "GIT_CONFIG_KEY_1" => Some("core.hooksPath".to_owned()),
                "GIT_CONFIG_KEY_2" => Some("url.https://h/.insteadOf".to_owned()),
                "GIT_CONFIG_KEY_3" => Some("credential.helper".to_owned()),
                "GIT_CONFIG_VALUE_3" => None,
                name => name.strip_prefix("GIT_CONFIG_VALUE_").map(str::to_owned),
            })
        };
        let all = [("HTTP.https://h/.extraHeader", "0"), ("url.https://h/.insteadOf", "2")];
        let all = all.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read("4"), all);
        assert_eq!(read("999999999999"), all);
        assert_eq!(read("1"), all[..1]);
        assert!(read("-1").is_empty() && read("").is_empty());
    }

    #[test]
    fn complaints_are_shown_without_secrets() {
        let said = b"remote: hi\n\nfatal: unable to access 'https://me:hush@h/x?t=hush': \x1b[2J\n";
        let shown = complaint(said).expect("one");
        assert_eq!(shown, "remote: hi; fatal: unable to access 'https://...@h/x?...': \\u{1b}[2J");
        assert_eq!(complaint(b"\n"), None);
        assert_eq!(silent_end(Some(153)), "signal 25 ended it");
        assert_eq!(silent_end(Some(128)), "it does not say why");
    }

    #[test]
    fn what_a_server_says_decides_nothing() {
        let ended = |code, said: &[u8]| {
            let (is_well, said, why, own) =
                (false, Vec::new(), complaint(said).unwrap_or_default(), own_lines(said));
            Ended { is_well, said, why, code: Some(code), own }
        };
        let told = b"hint: fatal: no\nremote: fatal: dumb http\nremote: error: Out of memory\nerror: broken\n";
        let told = ended(128, told);
        assert_eq!(told.own, "error: broken");
        assert!(told.why.contains("dumb http") && !told.says(&["dumb http"]));
        assert!(told.is_of_what_it_read());
        for (code, said) in [
            (128, &b"error: x\nfatal: Out of memory, malloc failed\n"[..]),
            (128, b"fatal: write failure on standard output: No space left on device\n"),
            (129, b"usage: git\n"),
            (153, b""),
            (128, b""),
            (1, b"mise ERROR no version is set\n"),
            (126, b"error: bad interpreter\n"),
            (127, b"error: git: not found\n"),
        ] {
            assert!(!ended(code, said).is_of_what_it_read(), "{code}");
        }
        assert!(ended(1, b"error: Could not read 0\n").is_of_what_it_read());
        assert!(ended(135, b"").is_of_what_it_read());
    }

    #[test]
    fn a_server_fills_less_memory_than_what_is_here() {
        let here = Path::new("/x");
        let bound = |reach, place| Order::new(reach, Some(place), &["x"]).memory_bytes_max();
        assert_eq!(bound(Reach::Server, Path::new(NOWHERE)), GIT_ASK_MEMORY_BYTES_MAX);
        assert_eq!(bound(Reach::Server, here), GIT_FETCH_MEMORY_BYTES_MAX);
        assert_eq!(bound(Reach::Here, here), GIT_LOCAL_MEMORY_BYTES_MAX);
    }

    #[test]
    fn what_takes_too_long_here_is_nothing_of_the_network() {
        let error = |reach| took_too_long(&Order::new(reach, None, &["x"]), GIT_LOCAL_TIME_MAX);
        assert_eq!(error(Reach::Here).kind, Kind::Refused);
        assert_eq!(error(Reach::Server).kind, Kind::Network);
    }
}
