//! The bus from other languages: two programs in C, then two in Python, that throw a message to and fro and both poll.
//!
//! The programs are the examples of `ipc/c` and `ipc/python`, each pair pinned to two processors, connected by a daemon of this
//! part's own; what they print is half of each round trip. They need the source tree around this program, the library
//! beside it (`make build` makes it), a C compiler and python3.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hw::affinity;
use serde_json::Value;

use super::super::figures::Figure;
use super::super::scratch::ScratchDaemon;
use super::{Context, Part};

/// For so many messages between two spinning processes one of these.
const C_DIVISOR: u64 = 2;
const PYTHON_DIVISOR: u64 = 20;
/// Bytes of a message, as in the other parts.
const BYTES: &str = "48";
/// How long a program may take to come to the bus; it takes milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// What a C program that is linked to the static library needs beside it; also in `ipc/c/bolide.pc`.
const STATIC_NEEDS: [&str; 4] = ["-lgcc_s", "-lpthread", "-lm", "-ldl"];
/// What the report has of this part.
pub(super) const FIELDS: &[&str] = &[
    "languages.c.p50_ns",
    "languages.c.p99_ns",
    "languages.python.p50_ns",
    "languages.python.p99_ns",
];

/// The part.
pub(super) struct Languages {
    cpus: (usize, usize),
    library: PathBuf,
    packages: PathBuf,
    c: PathBuf,
    python: PathBuf,
    // Dropped last, with everything that was compiled into its directory.
    daemon: ScratchDaemon,
}

/// A program; killed when this goes.
struct Running(Child);

impl Languages {
    pub(super) fn start(context: &Context) -> anyhow::Result<Self> {
        let cpus = context.cpus.context("two programs that poll need two processors")?;
        let program = std::env::current_exe()?;
        let beside = program.parent().context("this program lies nowhere")?;
        let library = beside.join("libbolide.so");
        let archive = beside.join("libbolide.a");
        ensure!(
            library.exists() && archive.exists(),
            "there is no `libbolide` beside this program: build it with `make build`"
        );
        let sources = program.ancestors().map(|above| above.join("ipc"));
        let sources = sources
            .map(|ipc| (ipc.join("c"), ipc.join("python")))
            .find(|(c, python)| c.join("examples").is_dir() && python.join("examples").is_dir());
        let (c, packages) = sources.context("the source tree is not around this program")?;
        let daemon = ScratchDaemon::start(&[], &[])?;
        let compiled = daemon.directory().join("pingpong");
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-I"]).arg(c.join("include"));
        cc.arg("-o").arg(&compiled).arg(c.join("examples/pingpong.c")).arg(archive);
        let output = cc.args(STATIC_NEEDS).output().context("`cc` cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cc` failed: {said}");
        let python = packages.join("examples/pingpong.py");
        Ok(Self { cpus, library, packages, c: compiled, python, daemon })
    }

    /// One game of a language, and what its client printed.
    fn play(&self, language: &str, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let (server, short) = match language {
            "c" => ("demo.c.pong", "c"),
            _ => ("demo.py.pong", "py"),
        };
        let command = |role: &str| {
            let mut command = if short == "c" {
                Command::new(&self.c)
            } else {
                let mut command = Command::new("python3");
                command.env("PYTHONPATH", &self.packages).env("BOLIDE_LIBRARY", &self.library);
                command.env("PYTHONDONTWRITEBYTECODE", "1").arg(&self.python);
                command
            };
            command.arg(role).arg(self.daemon.socket()).arg(messages.to_string()).arg(BYTES);
            command
        };
        let mut pong = Running::start(command("server"), self.cpus.1)?;
        self.wait_for(server)?;
        let mut ping = Running::start(command("client"), self.cpus.0)?;
        let mut printed = String::new();
        let output = ping.0.stdout.take().context("a program has no output")?;
        std::io::BufReader::new(output).read_to_string(&mut printed)?;
        ensure!(ping.0.wait()?.success(), "the client in {language} failed");
        ensure!(pong.0.wait()?.success(), "the server in {language} failed");
        let printed: Value = serde_json::from_str(&printed)?;
        let figure = |name: &str| {
            let value = printed[name].as_f64().with_context(|| format!("there is no {name}"))?;
            Ok((format!("languages.{language}.{name}"), value))
        };
        ["p50_ns", "p99_ns"].into_iter().map(figure).collect()
    }

    fn wait_for(&self, name: &str) -> anyhow::Result<()> {
        let until = Instant::now() + READY_TIMEOUT;
        let mut client = self.daemon.client("bench.probe")?;
        while client.agents(name)?.is_empty() {
            ensure!(Instant::now() < until, "`{name}` did not come to the bus");
            std::thread::sleep(Duration::from_millis(2));
        }
        client.bye()?;
        Ok(())
    }
}

impl Part for Languages {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        let mut found = self.play("c", messages.div_ceil(C_DIVISOR))?;
        found.extend(self.play("python", messages.div_ceil(PYTHON_DIVISOR))?);
        Ok(found)
    }
}

impl Running {
    /// Starts a program on one processor: on a thread that is pinned there, because programs inherit that.
    fn start(mut command: Command, cpu: usize) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let started = std::thread::spawn(move || {
            ensure!(affinity::pin_polling_thread(cpu), "cannot pin to CPU {cpu}");
            let program: &Path = command.get_program().as_ref();
            let title = format!("cannot start `{}`", program.display());
            Ok(Self(command.spawn().context(title)?))
        });
        started.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
