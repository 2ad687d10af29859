//! The commands that look at packages and change nothing: `why`, `outdated`, `search`.

use agents_packager::api::{
    OutdatedAnswer, OutdatedRequest, SearchAnswer, SearchRequest, WhyAnswer, WhyRequest,
};
use agents_packager::ecosystem::Ecosystem;

use super::exit::{Exit, Failure};
use super::packages::{Asker, Common, Registries};
use super::{Context, render};

/// `bolide why`.
#[derive(clap::Args, Debug)]
pub(crate) struct Why {
    /// The package, with or without a version.
    package: String,
    #[command(flatten)]
    common: Common,
}

/// `bolide outdated`.
#[derive(clap::Args, Debug)]
pub(crate) struct Outdated {
    /// Show what is as new as it can be, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
}

/// `bolide search`.
#[derive(clap::Args, Debug)]
pub(crate) struct Search {
    /// Words that are in the name.
    #[arg(required = true)]
    words: Vec<String>,
    /// Look for packages of this ecosystem only: `npm`, `pypi` or `cargo`.
    #[arg(long = "ecosystem", value_name = "ECOSYSTEM", value_parser = ecosystem)]
    ecosystems: Vec<Ecosystem>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
}

fn ecosystem(text: &str) -> Result<Ecosystem, String> {
    let known = Ecosystem::WITH_REGISTRY.into_iter().find(|ecosystem| ecosystem.as_str() == text);
    known.ok_or_else(|| "write `npm`, `pypi` or `cargo`".to_owned())
}

pub(crate) fn why(arguments: Why, context: &Context) -> Result<Exit, Failure> {
    let mut asker = Asker::open(&arguments.common.at_record()?, context)?;
    let setting = agents_packager::api::Setting::of_this_process();
    let request = WhyRequest { package: arguments.package, setting };
    let answer: WhyAnswer = asker.ask("pkg.why", &request)?;
    asker.print(&answer, render::why)?;
    Ok(if answer.packages.is_empty() { Exit::Failed } else { Exit::Done })
}

pub(crate) fn outdated(arguments: Outdated, context: &Context) -> Result<Exit, Failure> {
    let mut asker = Asker::open(&arguments.common.at_project()?, context)?;
    let request = OutdatedRequest { all: arguments.all, setting: arguments.registries.setting() };
    let answer: OutdatedAnswer = asker.ask("pkg.outdated", &request)?;
    asker.print(&answer, render::outdated)?;
    Ok(Exit::Done)
}

pub(crate) fn search(arguments: Search, context: &Context) -> Result<Exit, Failure> {
    let mut asker = Asker::open(&arguments.common.silently()?, context)?;
    let request = SearchRequest {
        query: arguments.words.join(" "),
        ecosystems: arguments.ecosystems,
        setting: arguments.registries.setting(),
    };
    let answer: SearchAnswer = asker.ask("pkg.search", &request)?;
    asker.print(&answer, render::search)?;
    Ok(Exit::Done)
}
