//! `bolide verify`: what is installed compared with what was installed, and brought back.

use std::fmt::Write as _;

use agents_packager::api::{PathDifference, VerifiedSystem, VerifyAnswer, VerifyRequest};
use agents_packager::limits::VERIFY_FINDINGS_SHOWN_MAX;

use super::Context;
use super::exit::{Exit, Failure};
use super::packages::{Asker, Common, Registries};

/// `bolide verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Verify {
    /// Environments, or paths in them, relative to the project; everything where none is named.
    paths: Vec<String>,
    /// Bring back what is missing or has other permissions, as a transaction that can be undone.
    #[arg(long)]
    repair: bool,
    /// Bring back what was edited, too, and take away what was added; both are kept aside first.
    #[arg(long, requires = "repair")]
    force: bool,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    registries: Registries,
}

impl Verify {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut asker = Asker::open(&self.common.at_record()?, context)?;
        let request = VerifyRequest {
            paths: self.paths,
            repair: self.repair,
            force: self.force,
            setting: self.registries.setting(),
        };
        let answer: VerifyAnswer = asker.ask("pkg.verify", &request)?;
        asker.print_done(&answer, answer.transaction.as_deref(), text)?;
        Ok(if answer.clean { Exit::Done } else { Exit::Verification })
    }
}

fn text(answer: &VerifyAnswer) -> String {
    let mut text = String::new();
    let mut left = VERIFY_FINDINGS_SHOWN_MAX;
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{words}");
    };
    for warning in &answer.warnings {
        line(format_args!("warning: {warning}"));
    }
    for environment in &answer.environments {
        let differences = &environment.differences;
        let (place, generation) = (&environment.place, environment.generation);
        if differences.is_empty() && environment.left_out == 0 {
            let count = environment.looked_at;
            line(format_args!("{place}: {count} paths are as generation {generation} has them"));
            continue;
        }
        line(format_args!("{place}: not as generation {generation} has it"));
        let shown = &differences[..differences.len().min(left)];
        left -= shown.len();
        for difference in shown {
            line(format_args!("  {}", words(difference)));
        }
        let more = differences.len() - shown.len();
        let more = u64::try_from(more).unwrap_or(u64::MAX).saturating_add(environment.left_out);
        if more > 0 {
            line(format_args!("  and {more} more; `--json` names them"));
        }
    }
    if let Some(crates) = &answer.crates {
        match crates.differences.is_empty() {
            true => {
                let count = crates.looked_at;
                line(format_args!("{}: {count} files of crates are right", crates.place));
            }
            false => line(format_args!("{}: not as the crates' digests have it", crates.place)),
        }
        let shown = crates.differences.len().min(left);
        left -= shown;
        for difference in &crates.differences[..shown] {
            line(format_args!("  {}", words(difference)));
        }
        if shown < crates.differences.len() {
            let more = crates.differences.len() - shown;
            line(format_args!("  and {more} more; `--json` names them"));
        }
    }
    for words in faults(&answer.systems, left) {
        line(format_args!("{words}"));
    }
    let has_nothing = answer.environments.is_empty() && answer.crates.is_none();
    if has_nothing && answer.systems.is_empty() && answer.damaged.is_empty() {
        line(format_args!("nothing of Bolide is installed in `{}`", answer.project));
    }
    for purl in answer.damaged.iter().take(VERIFY_FINDINGS_SHOWN_MAX) {
        line(format_args!("the store's files of {purl} were damaged and are out of use"));
    }
    if answer.fetched > 0 {
        line(format_args!("{} of them were fetched again", answer.fetched));
    }
    if let Some(kept) = &answer.kept {
        line(format_args!("what was edited or added was kept in `{kept}`"));
    }
    if let Some(transaction) = &answer.transaction {
        line(format_args!("{transaction}: repaired; `bolide rollback` takes it back"));
    }
    text
}

/// What the tools of systems say, with at most `left` faults named.
fn faults(systems: &[VerifiedSystem], mut left: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for VerifiedSystem { root, faults, left_out } in systems {
        if faults.is_empty() {
            lines.push(format!("{root}: the system's own tool finds no fault with its packages"));
            continue;
        }
        lines.push(format!("{root}: the system's own tool finds fault, which no repair mends"));
        let shown = &faults[..faults.len().min(left)];
        left -= shown.len();
        lines.extend(shown.iter().map(|fault| format!("  {fault}")));
        let more = (faults.len() - shown.len()) as u64 + left_out;
        if more > 0 {
            lines.push(format!("  and {more} more; `--json` names them"));
        }
    }
    lines
}

fn words(difference: &PathDifference) -> String {
    use agents_packager::transaction::Difference;
    let what = match difference.difference {
        Difference::Missing => "missing",
        Difference::Additional => "additional",
        Difference::Kind => "something else",
        Difference::Content => "changed",
        Difference::Target => "leads elsewhere",
        Difference::Mode => "other permissions",
        Difference::Unreadable => "unreadable",
        Difference::Unsteady => "being written",
        Difference::Elsewhere => "made for another path",
    };
    let count = match difference.entries {
        0 | 1 => String::new(),
        count => format!(" ({count} paths)"),
    };
    let done = if difference.repaired { ", repaired" } else { "" };
    format!("{what:<17}  {}{count}{done}", difference.path)
}
