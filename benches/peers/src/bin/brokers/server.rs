//! A broker of our own: on free ports of loopback, with its files in the scratch directory, ended with this process.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use peers::workers::held;

/// Longest time that a broker may take to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it does.
const START_POLL: Duration = Duration::from_millis(10);

/// A running broker; dropping ends it.
pub(crate) struct Server(Child);

impl Server {
    /// NATS with JetStream, and its address.
    pub(crate) fn nats(scratch: &Path) -> anyhow::Result<(Self, String)> {
        let directory = own_directory(scratch, "nats")?;
        let address = free_address()?;
        let configuration = directory.join("nats.conf");
        // Without the long interval the server would ask, and end, connections that rest between rounds.
        let text = format!(
            "listen: {address:?}\nping_interval: \"1h\"\njetstream {{ store_dir: {:?} }}\n",
            directory.join("jetstream")
        );
        std::fs::write(&configuration, text)?;
        let mut command = held(&installed("nats-server")?)?;
        command.arg("-c").arg(&configuration);
        Ok((Self::start(command, &directory, &address)?, address))
    }

    /// Redis with its append-only file, its address, and its Unix socket.
    pub(crate) fn redis(scratch: &Path) -> anyhow::Result<(Self, [String; 2])> {
        let directory = own_directory(scratch, "redis")?;
        let address = free_address()?;
        let port = address.rsplit(':').next().context("an address without port")?;
        let socket = directory.join("socket");
        let mut command = held(&installed("redis-server")?)?;
        // No snapshots and no rewriting: those are work of another kind, at times of their own.
        command.args(["--bind", "127.0.0.1", "--port", port, "--save", ""]);
        command.args(["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]);
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(&directory);
        let server = Self::start(command, &directory, &address)?;
        let socket = socket.to_str().context("the scratch directory is not UTF-8")?.to_owned();
        Ok((server, [address, socket]))
    }

    /// Returns when it listens.
    fn start(mut command: Command, directory: &Path, address: &str) -> anyhow::Result<Self> {
        let log = File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = Self(command.spawn()?);
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.0.try_wait()?;
            if ended.is_some() || began.elapsed() > START_MAX {
                let said = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                let last = said.lines().last().unwrap_or("nothing");
                bail!("the server does not listen; it said: {last}");
            }
            std::thread::sleep(START_POLL);
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for. Its files go anyway, so it need not close them well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The full path of a program. Debian's servers are in directories that some paths leave out.
fn installed(program: &str) -> anyhow::Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/bin", "/usr/sbin"]);
    let mut candidates = directories.map(|directory| Path::new(directory).join(program));
    let found = candidates.find(|path| path.is_file());
    let found = found.with_context(|| format!("`{program}` is not installed"))?;
    Ok(found.to_str().context("the path is not UTF-8")?.to_owned())
}

fn own_directory(scratch: &Path, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let directory = scratch.join(name);
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    Ok(directory)
}

/// An address of loopback that nobody uses now. Another program may take it before the server does; the server then
/// ends, which is reported.
fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.to_string())
}
