//! `bolide cache`: what the store of packages holds, and what of it may go.

use std::path::PathBuf;

use agents_packager::api::{CacheAction, CacheAnswer, CacheRequest};

use super::Context;
use super::exit::{Exit, Failure};
use super::packages::{Asker, Common};

/// `bolide cache`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Cache {
    /// Show what the store holds, and how much of it is needed
    Show(How),
    /// Remove what was not used for longest of what nothing needs, until the store is within its limit
    Collect {
        /// Remove everything that nothing needs
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        how: How,
    },
    /// Compare every file with its digest; what is damaged is fetched again when it is needed
    Verify(How),
}

/// How to answer.
#[derive(clap::Args, Debug)]
pub(crate) struct How {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Work in this process even where a daemon runs
    #[arg(long)]
    standalone: bool,
}

impl Cache {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (action, all, how) = match self {
            Self::Show(how) => (CacheAction::Show, false, how),
            Self::Collect { all, how } => (CacheAction::Collect, all, how),
            Self::Verify(how) => (CacheAction::Verify, false, how),
        };
        let common = Common { dir: PathBuf::from("/"), json: how.json, standalone: how.standalone };
        let mut asker = Asker::open(&common, context)?;
        let answer: CacheAnswer = asker.ask("pkg.cache", &CacheRequest { action, all })?;
        asker.print(&answer, text)?;
        Ok(match answer.damaged {
            Some(damaged) if damaged > 0 => Exit::Verification,
            _ => Exit::Done,
        })
    }
}

fn text(answer: &CacheAnswer) -> String {
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut text = format!("store      {}\n", answer.path);
    text += &format!("files      come out by {}\n", answer.mode);
    text += &format!(
        "size       {} of {}; files that projects share by links are not counted\n",
        mebibytes(answer.bytes),
        mebibytes(answer.bytes_max)
    );
    text += &format!(
        "packages   {}, of which {} are needed\n",
        answer.artefacts, answer.artefacts_needed
    );
    if let Some(ready) = answer.prepared {
        let (packages, bytes) = (ready.packages, mebibytes(ready.bytes));
        text += &format!("ready      {packages} packages, {bytes}, for the next installation\n");
    }
    if answer.removed > 0 {
        text +=
            &format!("removed    {} packages, {}\n", answer.removed, mebibytes(answer.freed_bytes));
    }
    match answer.damaged {
        None => {}
        Some(0) => text += "verified   nothing is damaged\n",
        Some(damaged) => {
            text +=
                &format!("damaged    {damaged} packages; they are fetched when they are needed\n");
        }
    }
    text
}
