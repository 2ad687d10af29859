//! One connection to a broker, over TCP without delay or over a Unix socket, read by lines and by counted bytes. Reads
//! have no time limit: the bench has one for the whole round, and ends both processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use anyhow::{Context, ensure};

/// Longest line that is accepted; a broker's greeting has about one kilobyte.
const LINE_BYTES_MAX: u64 = 64 * 1024;

trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

pub(crate) struct Wire {
    socket: BufReader<Box<dyn Socket>>,
    line: Vec<u8>,
}

impl Wire {
    /// A path that starts with `/` is a Unix socket, anything else `HOST:PORT`.
    pub(crate) fn connect(address: &str) -> anyhow::Result<Self> {
        let socket: Box<dyn Socket> = if address.starts_with('/') {
            Box::new(UnixStream::connect(address)?)
        } else {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        };
        Ok(Self { socket: BufReader::new(socket), line: Vec::new() })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.get_mut().write_all(bytes)?)
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        (&mut self.socket).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        let line = self.line.strip_suffix(b"\r\n").context("the broker ended the connection")?;
        Ok(std::str::from_utf8(line)?)
    }

    /// The next `count` bytes and the end of line after them; they replace what is in `bytes`.
    pub(crate) fn counted(&mut self, count: usize, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
        ensure!(count as u64 <= LINE_BYTES_MAX, "the broker announces {count} bytes");
        bytes.resize(count, 0);
        self.socket.read_exact(bytes)?;
        let mut end = [0; 2];
        self.socket.read_exact(&mut end)?;
        ensure!(&end == b"\r\n", "the broker's message has no end");
        Ok(())
    }
}
