//! `bolide top`: the bus at work, out of the directory. It asks the daemon for the directory now and
//! then and reads it by itself in between; with `--mirror` it asks nobody.
//!
//! Not here: how a picture looks (`view`).

mod view;

use std::io::IsTerminal;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Args;
use ipc::client::{Client, ClientError};
use ipc::directory::{Mirror, MirrorError, Picture, Reader};
use ipc::manifest::AgentManifest;
use ipc::socket::ConnectError;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::limits::{TOP_INTERVAL, TOP_PICTURES_PER_REQUEST};
use crate::machine::as_of_now;
use crate::paths::SOCKET_NAME;

/// `bolide top`
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Print one picture and end; so does `top` where its output is no terminal
    #[arg(long)]
    once: bool,
    /// Print one JSON object and end
    #[arg(long)]
    json: bool,
    /// Read the directory's named mirror and do not speak with the daemon; numbers are as old as the
    /// mirror, which is refreshed while somebody else looks
    #[arg(long)]
    mirror: bool,
}

/// Where pictures come from.
enum Source {
    /// The daemon's own memory, and the connection over which it is asked to keep it fresh.
    Directory { client: Box<Client>, reader: Reader, pictures: u32 },
    /// The named one.
    Mirror(Mirror),
}

impl Top {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.load([])?;
        let runtime_dir = &config.settings.runtime_dir;
        let mut source = if self.mirror {
            Source::mirror(runtime_dir)?
        } else {
            Source::directory(runtime_dir)?
        };
        let first = source.next()?;
        if self.json {
            output::print_json(&view::json_of(&first, now_ns()))?;
            return Ok(Exit::Done);
        }
        if self.once || !std::io::stdout().is_terminal() {
            output::print(&view::text_of(&first, None, now_ns()))?;
            return Ok(Exit::Done);
        }
        watch(source, first)
    }
}

/// Shows one picture after the other until the program is interrupted or the daemon ends.
fn watch(mut source: Source, first: Picture) -> Result<Exit, Failure> {
    let mut before: Option<Picture> = None;
    let mut current = first;
    loop {
        let shown = view::text_of(&current, before.as_ref(), now_ns());
        // Home, the picture with the rest of each line cleared, and what was below it cleared.
        let mut text = String::from("\x1b[H");
        for line in shown.lines() {
            text += line;
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        output::print(&text)?;
        std::thread::sleep(TOP_INTERVAL);
        let picture = source.next()?;
        before = Some(std::mem::replace(&mut current, picture));
    }
}

impl Source {
    fn directory(runtime_dir: &Path) -> Result<Self, Failure> {
        let manifest = AgentManifest {
            name: format!("cli.{}", std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            category: "cli".to_owned(),
            priority: 1,
            ..AgentManifest::default()
        };
        let socket = runtime_dir.join(SOCKET_NAME);
        let mut client = Client::connect(&socket, &manifest, &[]).map_err(|error| match error {
            ClientError::Connect(error @ ConnectError::Nobody { .. }) => no_daemon(error),
            error => anyhow::Error::new(error).into(),
        })?;
        let reader = client.directory().context("asking for the bus directory")?;
        Ok(Self::Directory { client: Box::new(client), reader, pictures: 0 })
    }

    fn mirror(runtime_dir: &Path) -> Result<Self, Failure> {
        match Mirror::in_directory(runtime_dir) {
            Ok(mirror) => Ok(Self::Mirror(mirror)),
            Err(error @ (MirrorError::NoName { .. } | MirrorError::Open { .. })) => {
                Err(no_daemon(error))
            }
            Err(error) => Err(anyhow::Error::new(error).into()),
        }
    }

    fn next(&mut self) -> anyhow::Result<Picture> {
        match self {
            Self::Mirror(mirror) => Ok(judged(mirror.read()?)),
            Self::Directory { client, reader, pictures } => {
                *pictures += 1;
                if *pictures > TOP_PICTURES_PER_REQUEST {
                    *pictures = 0;
                    *reader = client.directory().context("asking for the bus directory")?;
                }
                Ok(judged(reader.read()))
            }
        }
    }
}

/// What is too old to be believed is shown as not known, wherever it was read: a mirror stands still while nobody looks.
fn judged(picture: Picture) -> Picture {
    Picture { machine: picture.machine.map(as_of_now), ..picture }
}

fn no_daemon(error: impl std::error::Error) -> Failure {
    let text = format!("no daemon is running: {error} (hint: start one with `bolide serve`)");
    Failure::new(Exit::NoDaemon, anyhow!(text))
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
