//! What dpkg itself finds wrong with its packages (`dpkg --audit`): what is half done, and what is missing or strange in its
//! database, which versions and states do not show.

use std::collections::BTreeSet;

use super::{Apt, failed, is_beyond_reach, is_foreign};
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_LOCK_WAIT_SECONDS;
use crate::system::{Change, Direction, Fault, Step};

impl Apt {
    /// Every fault that dpkg finds, by package.
    pub(in crate::system) fn audit(&self) -> Result<BTreeSet<Fault>> {
        let said = self.ask(self.world.dpkg("dpkg")?.arg("--audit"))?;
        match said.is_success {
            true => Ok(read(&said.text)),
            false => Err(failed("dpkg", &said)),
        }
    }

    /// Refuses a change of packages with which dpkg finds fault: where they come from is no sound place to go back to.
    pub(in crate::system) fn require_sound(&self, change: &Change) -> Result<()> {
        let faults = self.audit()?;
        let own = faults.iter().filter(|fault| change.names(&fault.package));
        let own: Vec<String> = own.map(Fault::to_string).collect();
        if own.is_empty() {
            return Ok(());
        }
        let message = format!("dpkg finds fault with what would change: {}", own.join(", "));
        Err(Error::new(Kind::Failed, "system-broken", message).hint(
            "see `dpkg --audit`; where it says so, `apt-get install --reinstall` mends a package",
        ))
    }

    /// Asks dpkg itself whether it finds fault with anything that it did not find before. Of what goes back only the packages of
    /// the change decide: they were sound before it, and of the others that is not known any more.
    pub(super) fn check_sound(
        &self,
        change: &Change,
        direction: Direction,
        known: &BTreeSet<Fault>,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let mut faults = self.audit()?;
        let is_fresh = |fault: &Fault| !known.contains(fault);
        let is_others = |fault: &Fault| is_fresh(fault) && !change.names(&fault.package);
        if direction == Direction::Forward
            && faults.iter().any(is_others)
            && !faults.iter().any(|fault| is_fresh(fault) && change.names(&fault.package))
        {
            // Somebody may be amid these.
            self.wait(SYSTEM_LOCK_WAIT_SECONDS, &|_| {})?;
            faults = self.audit()?;
        }
        let fresh: Vec<&Fault> = faults.difference(known).collect();
        let snapshot = self.snapshot()?;
        let is_left = |step: &&Step| {
            is_beyond_reach(step, direction)
                || is_foreign(step, &snapshot.standing(&step.name), direction)
        };
        let steps: Vec<&Step> = change.steps.iter().filter(|step| !is_left(step)).collect();
        let is_own = |fault: &&Fault| steps.iter().any(|step| step.name == fault.package);
        let (own, others): (Vec<&Fault>, Vec<&Fault>) = fresh.into_iter().partition(is_own);
        let text = |faults: &[&Fault]| {
            let all: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
            format!("dpkg finds fault: {}", all.join(", "))
        };
        match direction {
            Direction::Forward if own.is_empty() && others.is_empty() => Ok(()),
            Direction::Forward => {
                let message = text(&[own, others].concat());
                Err(Error::new(Kind::Failed, "system-failed", message))
            }
            Direction::Back if own.is_empty() => {
                if !others.is_empty() {
                    notes.push(format!("{}; see `dpkg --audit`", text(&others)));
                }
                Ok(())
            }
            Direction::Back => {
                let is_astray = |step: &&Step| own.iter().any(|fault| fault.package == step.name);
                let astray: Vec<&Step> = steps.into_iter().filter(is_astray).collect();
                Err(self.cannot_go_back(&astray, &text(&own)))
            }
        }
    }
}

/// Reads an audit: paragraphs of an explanation and the packages that it is true of, which are indented.
fn read(text: &str) -> BTreeSet<Fault> {
    let mut faults = BTreeSet::new();
    let mut what = String::new();
    let mut is_listing = false;
    for line in text.lines() {
        let Some(package) = line.strip_prefix(' ') else {
            if is_listing || line.is_empty() {
                what.clear();
            }
            is_listing = false;
            what.extend((!what.is_empty()).then_some(' '));
            what.extend(line.trim().chars().filter(|one| !one.is_control()));
            continue;
        };
        is_listing = true;
        let package = package.split_whitespace().next().unwrap_or_default();
        let package = package.chars().filter(|one| !one.is_control()).collect();
        faults.insert(Fault { package, what: first_sentence(&what).to_owned() });
    }
    faults
}

/// What is said, without the advice that follows it.
fn first_sentence(text: &str) -> &str {
    let end =
        [". ", ", probably", ", they", ", which"].iter().filter_map(|end| text.find(end)).min();
    let text = &text[..end.unwrap_or(text.len())];
    let text = ["The following packages are ", "The following packages have "]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .unwrap_or(text);
    text.trim_end_matches([':', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_of_an_audit_is_read_with_what_is_wrong_with_it() {
        let text = "The following packages are only half configured, probably due to problems\n\
            configuring them the first time.  The configuration should be retried using\n\
            dpkg --configure <package> or the configure menu option in dselect:\n \
            web                  a package\n\n\
            The following packages are missing the list control file in the\n\
            database, they need to be reinstalled:\n \
            odd:foo              a lib package\n web\x1b                  a package\n\n";
        let faults: Vec<String> = read(text).iter().map(Fault::to_string).collect();
        assert_eq!(
            faults,
            [
                "`odd:foo` (missing the list control file in the database)",
                "`web` (missing the list control file in the database)",
                "`web` (only half configured)",
            ]
        );
        assert!(read("").is_empty());
        assert_eq!(read(" stray\n").len(), 1, "what is not understood is a fault still");
    }
}
