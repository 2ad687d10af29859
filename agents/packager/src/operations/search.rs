//! `pkg.search`: what this machine knows, then what a registry's own search says where it has one.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use super::Task;
use crate::api::{SearchAnswer, SearchRequest, SearchResult};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{SEARCH_BYTES_MAX, SEARCH_RESULTS_MAX};
use crate::spec::{check_name, purl};
use crate::store::Form;

/// Why a registry is not asked. Python's index and the index of crates are lists of files.
const NO_SEARCH: &str = "has no search: only names that this machine knows were looked at";

impl Task<'_> {
    /// Packages with these words in their names.
    pub(crate) fn search(
        &self,
        directory: Option<OwnedFd>,
        request: &SearchRequest,
    ) -> Result<SearchAnswer> {
        let words = request.query.trim();
        if words.is_empty() || words.len() > SEARCH_BYTES_MAX {
            let message = format!("a search has 1 to {SEARCH_BYTES_MAX} bytes of words");
            return Err(Error::new(Kind::Usage, "bad-search", message));
        }
        let wanted = |ecosystem: Ecosystem| {
            request.ecosystems.is_empty() || request.ecosystems.contains(&ecosystem)
        };
        let mut results = Results::default();
        let mut notes = Vec::new();
        for (ecosystem, name, version) in self.installed_names(directory)? {
            if wanted(ecosystem) && is_found(&name, words) {
                results.put("installed", ecosystem, &name, Some(&version), None);
            }
        }
        let mut cached: Vec<_> = self.shop.store.names();
        cached.sort_by(|left, right| (&left.1, &left.2).cmp(&(&right.1, &right.2)));
        let mut count = 0;
        for (form, name, version) in cached {
            let ecosystem = ecosystem(form);
            if wanted(ecosystem) && is_found(&name, words) && count < SEARCH_RESULTS_MAX {
                results.put("cached", ecosystem, &name, Some(&version), None);
                count += 1;
            }
        }
        let mut known = self.registries.names_with(words, SEARCH_RESULTS_MAX);
        known.sort();
        for text in known {
            let Some((kind, name)) = text.split_once(':') else { continue };
            let ecosystem = Ecosystem::WITH_REGISTRY.into_iter().find(|one| one.as_str() == kind);
            if let Some(ecosystem) = ecosystem.filter(|ecosystem| wanted(*ecosystem)) {
                results.put("cached", ecosystem, name, None, None);
            }
        }
        if wanted(Ecosystem::Npm) {
            match self.registries.npm_search(words) {
                Ok(found) => {
                    for one in found.iter() {
                        let (version, says) = (Some(one.version.as_str()), one.description.clone());
                        results.put("registry", Ecosystem::Npm, &one.name, version, says);
                    }
                }
                Err(error) if error.code == "cancelled" => return Err(error),
                Err(error) => notes.push(error.message),
            }
        }
        let others = [(Ecosystem::Pypi, "Python's index"), (Ecosystem::Cargo, "the crate index")];
        for (_, registry) in others.into_iter().filter(|(ecosystem, _)| wanted(*ecosystem)) {
            notes.push(format!("{registry} {NO_SEARCH}"));
        }
        Ok(SearchAnswer { schema: "bolide.search/1".to_owned(), results: results.list, notes })
    }

    fn installed_names(
        &self,
        directory: Option<OwnedFd>,
    ) -> Result<BTreeSet<(Ecosystem, String, String)>> {
        let Some(directory) = directory else { return Ok(BTreeSet::new()) };
        let project = self.open(directory)?;
        let current = self.current(&project)?;
        let packages = current.into_values().flat_map(|resolution| resolution.packages);
        Ok(packages.map(|package| (package.ecosystem, package.name, package.version)).collect())
    }
}

/// Every word has to be in the name.
fn is_found(name: &str, words: &str) -> bool {
    let name = name.to_lowercase();
    words.split_whitespace().all(|word| name.contains(&word.to_lowercase()))
}

fn ecosystem(form: Form) -> Ecosystem {
    match form {
        Form::Npm => Ecosystem::Npm,
        Form::Wheel => Ecosystem::Pypi,
        Form::Crate => Ecosystem::Cargo,
    }
}

#[derive(Default)]
struct Results {
    list: Vec<SearchResult>,
    /// Packages by name alone: one that was found nearer is not named again.
    seen: BTreeSet<(Ecosystem, String)>,
    purls: BTreeSet<String>,
}

impl Results {
    fn put(
        &mut self,
        origin: &str,
        ecosystem: Ecosystem,
        name: &str,
        version: Option<&str>,
        description: Option<String>,
    ) {
        // What a package calls itself need not be a name.
        let name = match crate::spec::normalize_name(ecosystem, name) {
            Ok(name) if check_name(ecosystem, &name).is_ok() => name,
            _ => return,
        };
        let is_new = self.seen.insert((ecosystem, name.clone()));
        if !is_new && origin != "installed" && version.is_none() {
            return;
        }
        let text = purl(ecosystem, &name, version.unwrap_or_default());
        let text = text.trim_end_matches('@').to_owned();
        if self.purls.insert(text.clone()) {
            self.list.push(SearchResult { purl: text, origin: origin.to_owned(), description });
        }
    }
}
