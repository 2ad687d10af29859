//! `bolide watch`: which projects answer changes of their manifests by themselves, and what came of it.

use std::path::{Path, PathBuf};

use agents_packager::api::{
    UnwatchRequest, WatchPolicy, WatchRequest, WatchesAnswer, WatchesRequest,
};
use agents_packager::workspace::Purpose;

use super::exit::{Exit, Failure};
use super::packages::{Asker, Common, Registries, tool_error};
use super::{Context, output, project};

/// `bolide watch`.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Watch {
    /// Plan, put up for approval or apply what a project's manifests ask for, whenever they change
    Add(Add),
    /// Stop that
    Remove(Place),
    /// Show the watched projects and what came of their last change
    List(Place),
}

/// `bolide watch add`.
#[derive(clap::Args, Debug)]
pub(crate) struct Add {
    /// What to do when a manifest changes: `apply` installs what whoever may write the manifests wants
    #[arg(long, value_name = "POLICY", default_value = "plan", value_parser = policy)]
    policy: WatchPolicy,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    registries: Registries,
}

/// Which project.
#[derive(clap::Args, Debug)]
pub(crate) struct Place {
    /// The project's directory
    directory: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Work in this process even where a daemon runs
    #[arg(long)]
    standalone: bool,
}

impl Watch {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Add(add) => {
                let mut asker = Asker::open(&add.place.common().at_project()?, context)?;
                let setting = add.registries.setting();
                let request = WatchRequest { policy: add.policy, setting };
                let answer: WatchesAnswer = asker.ask("pkg.watch", &request)?;
                asker.print(&answer, text)?;
                if !asker.has_daemon() {
                    output::note("no daemon is running: `bolide serve` watches and answers");
                }
            }
            Self::Remove(place) => {
                let directory = place.directory.as_deref().unwrap_or(Path::new("."));
                // The directory may be gone, and who asks need not be in it.
                let mut asker = Asker::open(&place.anywhere(), context)?;
                let path = watched(&mut asker, directory)?;
                let answer: WatchesAnswer = asker.ask("pkg.unwatch", &UnwatchRequest { path })?;
                asker.print(&answer, text)?;
            }
            Self::List(place) => {
                let mut asker = Asker::open(&place.anywhere(), context)?;
                let mut answer: WatchesAnswer = asker.ask("pkg.watches", &WatchesRequest {})?;
                if let Some(directory) = &place.directory {
                    let path = of(&answer, directory)?;
                    answer.watched.retain(|watched| watched.path == path);
                }
                asker.print(&answer, text)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Place {
    fn common(&self) -> Common {
        let dir = self.directory.clone().unwrap_or_else(|| PathBuf::from("."));
        Common { dir, json: self.json, standalone: self.standalone }
    }

    fn anywhere(&self) -> Common {
        Common { dir: PathBuf::from("/"), json: self.json, standalone: self.standalone }
    }
}

/// The project that is watched for a directory.
fn watched(asker: &mut Asker, directory: &Path) -> Result<String, Failure> {
    let answer: WatchesAnswer = asker.ask("pkg.watches", &WatchesRequest {})?;
    of(&answer, directory)
}

/// The same: the directory itself where it is watched, else its project.
fn of(answer: &WatchesAnswer, directory: &Path) -> Result<String, Failure> {
    let path = absolute(directory)?;
    if answer.watched.iter().any(|watched| watched.path == path) {
        return Ok(path);
    }
    absolute(&project::find(directory, Purpose::Whole)?.root)
}

/// The path under which a project is known: without links where it exists.
fn absolute(directory: &Path) -> Result<String, Failure> {
    let path = directory.canonicalize().or_else(|_| std::path::absolute(directory));
    let path = path.ok().and_then(|path| path.into_os_string().into_string().ok());
    path.ok_or_else(|| {
        let message = format!("`{}` is no path of a watched project", directory.display());
        tool_error(2, "bad-path", &message, "`bolide watch list` names them").into()
    })
}

fn policy(text: &str) -> Result<WatchPolicy, String> {
    WatchPolicy::from_name(text).ok_or_else(|| {
        let names = WatchPolicy::ALL.map(WatchPolicy::name).join(", ");
        format!("the policies are {names}")
    })
}

fn text(answer: &WatchesAnswer) -> String {
    if answer.watched.is_empty() {
        return "no project is watched\n".to_owned();
    }
    let mut text = String::new();
    for watched in &answer.watched {
        let missing = if watched.exists { "" } else { "  (the directory is missing)" };
        text += &format!("{}  {}{missing}\n", watched.path, watched.policy.name());
        if let Some(reason) = &watched.unwatched {
            text += &format!("  its changes are not heard of: {reason}\n");
        }
        let Some(outcome) = &watched.outcome else { continue };
        text += &format!("  {outcome}: {}\n", watched.message.replace('\n', "\n    "));
        if let Some(digest) = watched.digest.as_ref().filter(|_| outcome != "applied") {
            let dir = &watched.path;
            text += &format!("  bolide apply {digest} --dir {dir} --yes\n");
        }
    }
    text
}
