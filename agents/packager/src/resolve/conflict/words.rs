//! Single facts and conclusions as parts of sentences.

use pubgrub::{External, Term};

use super::Vocabulary;
use super::graph::Fact;
use crate::resolve::indexed::{Id, Set};

/// A fact as a clause: `` `a` 1.0 needs `b` >=2 ``.
pub(super) fn external(fact: &Fact, vocabulary: &dyn Vocabulary) -> String {
    match fact {
        External::NotRoot(id, _) => format!("{} is what is being resolved", vocabulary.name(*id)),
        External::NoVersions(id, set) => vocabulary.why_unusable(*id, set).unwrap_or_else(|| {
            format!("there is no version of {} in between", vocabulary.name(*id))
        }),
        External::Custom(id, set, reason) => {
            format!("{} cannot be used: {reason}", some(*id, set, vocabulary))
        }
        External::FromDependencyOf(from, versions, to, wanted) => {
            let requirement = vocabulary.requirement(*from, versions, *to, wanted);
            let clause = format!(
                "{} needs {}",
                some(*from, versions, vocabulary),
                spaced(vocabulary.name(*to), &requirement),
            );
            if !wanted.is_empty() {
                return clause;
            }
            match vocabulary.why_nothing(*from, versions, *to) {
                Some(why) => format!("{clause}, but {why}"),
                None => format!("{clause}, but there is no such version"),
            }
        }
    }
}

/// Many versions with a few of the reasons: `` `a` >=1.2 cannot be used (`a` 1.3 ...; ...) ``.
pub(super) fn unusable(id: Id, set: &Set, reasons: &[Fact], vocabulary: &dyn Vocabulary) -> String {
    let reasons: Vec<_> = reasons.iter().map(|reason| external(reason, vocabulary)).collect();
    format!("{} cannot be used ({})", some(id, set, vocabulary), reasons.join("; "))
}

/// A conclusion as a clause. An incompatibility says that its terms cannot all hold.
pub(super) fn statement(terms: &[(Id, Term<Set>)], vocabulary: &dyn Vocabulary) -> String {
    let mut holding = Vec::new();
    let mut missing = Vec::new();
    let mut is_about_project = false;
    for (id, term) in terms {
        if vocabulary.is_project(*id) {
            is_about_project = true;
            continue;
        }
        // What is said of an extra is also said of its package.
        let is_implied = terms.iter().any(|(other, other_term)| {
            vocabulary.base(*other) == Some(*id)
                && matches!(other_term, Term::Positive(_)) == matches!(term, Term::Positive(_))
        });
        if is_implied {
            continue;
        }
        match term {
            Term::Positive(set) => holding.push(some(*id, set, vocabulary)),
            Term::Negative(set) => missing.push(some(*id, set, vocabulary)),
        }
    }
    let needed = missing.join(" or ");
    match (holding.as_slice(), missing.is_empty()) {
        ([], true) => "the requirements cannot be met".to_owned(),
        ([], false) if is_about_project => format!("the project needs {needed}"),
        ([], false) => format!("{needed} is needed"),
        ([one], true) => format!("{one} cannot be used"),
        ([one, other], true) => format!("{one} excludes {other}"),
        (several, true) => format!("{} exclude each other", several.join(", ")),
        ([one], false) => format!("{one} needs {needed}"),
        (several, false) => format!("{} together need {needed}", several.join(" and ")),
    }
}

/// `` `a` >=1.2 ``, `` every version of `a` ``, or the project.
fn some(id: Id, set: &Set, vocabulary: &dyn Vocabulary) -> String {
    if vocabulary.is_project(id) {
        return vocabulary.name(id);
    }
    match vocabulary.versions(id, set) {
        Some(versions) => spaced(vocabulary.name(id), &versions),
        None => format!("every version of {}", vocabulary.name(id)),
    }
}

fn spaced(name: String, versions: &str) -> String {
    if versions.is_empty() { name } else { format!("{name} {versions}") }
}
