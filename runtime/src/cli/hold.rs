//! `bolide hold` and `bolide unhold`: packages that stay at the versions that they have.

use std::fmt::Write as _;

use agents_packager::api::{HoldAnswer, HoldRequest, Setting};

use super::Context;
use super::exit::{Exit, Failure};
use super::packages::{Asker, Common};

/// `bolide hold`.
#[derive(clap::Args, Debug)]
pub(crate) struct Hold {
    /// The packages, `npm:express`; where none is named, what is held is shown.
    packages: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// `bolide unhold`.
#[derive(clap::Args, Debug)]
pub(crate) struct Unhold {
    /// The packages, `npm:express`.
    #[arg(required = true)]
    packages: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl Hold {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        ask("pkg.lock", self.packages, &self.common, context)
    }
}

impl Unhold {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        ask("pkg.unlock", self.packages, &self.common, context)
    }
}

fn ask(
    tool: &str,
    packages: Vec<String>,
    common: &Common,
    context: &Context,
) -> Result<Exit, Failure> {
    // The lock of a workspace is at its root, and so is what is held.
    let (common, _) = common.at_member(&[&packages])?;
    let mut asker = Asker::open(&common, context)?;
    let request = HoldRequest { packages, setting: Setting::of_this_process() };
    let answer: HoldAnswer = asker.ask(tool, &request)?;
    asker.print_done(&answer, answer.transaction.as_deref(), text)?;
    Ok(Exit::Done)
}

fn text(answer: &HoldAnswer) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{words}");
    };
    for warning in &answer.warnings {
        line(format_args!("warning: {warning}"));
    }
    for held in &answer.holds {
        let by = if held.by == "bolide" { String::new() } else { format!("  (by {})", held.by) };
        line(format_args!("{} is held at {}{by}", held.package, held.versions.join(" and ")));
    }
    if answer.holds.is_empty() {
        line(format_args!("nothing is held in `{}`", answer.project));
    }
    if let Some(transaction) = &answer.transaction {
        line(format_args!("{transaction}: `bolide rollback` takes it back"));
    }
    text
}
