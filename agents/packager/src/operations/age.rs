//! Which versions count in an operation: those of the least age, from the machine's configuration or from the request, whichever
//! is stricter, and of packages that are held those that they have.

use std::collections::{BTreeMap, HashMap};
use std::time::UNIX_EPOCH;

use super::{Asked, Task};
use crate::ecosystem::Ecosystem;
use crate::metadata::Hashes;
use crate::metadata::aged::{LeftOut, Limit};
use crate::options::Moment;
use crate::plan::Exemption;
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;

/// Names in a warning; the rest is counted.
const NAMES_SHOWN_MAX: usize = 5;

impl Task<'_> {
    /// The moment before which a version has to be published.
    pub(super) fn cutoff(&self) -> Option<Moment> {
        let age = self.choices.minimum_age_s.unwrap_or(0).max(self.shop.minimum_age_s);
        let now = self.shop.host.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let by_age = (age > 0).then(|| Moment::from_unix(now.as_secs()).before(age));
        [by_age, self.choices.exclude_newer].into_iter().flatten().min()
    }

    /// What counts for an ecosystem; `None` where everything does.
    pub(super) fn limit(&self, ecosystem: Ecosystem, asked: &Asked<'_>) -> Option<Limit> {
        let (before, held) = (self.cutoff(), asked.held.clone());
        if before.is_none() && held.is_empty() {
            return None;
        }
        let named = self.choices.allow_new.iter().filter(|(of, _)| *of == ecosystem);
        let mut limit = Limit { before, held, ..Limit::default() };
        limit.names.extend(named.map(|(_, name)| name.clone()));
        let known = asked.known().into_iter().flat_map(|known| &known.packages);
        for package in known.filter(|package| !asked.is_anew(&package.name)) {
            let versions = limit.versions.entry(package.name.clone()).or_default();
            versions.insert(package.version.clone());
        }
        Some(limit)
    }

    /// What counts for what is needed only to build something.
    pub(super) fn limit_of_builds(&self) -> Option<Limit> {
        let before = Some(self.cutoff()?);
        let named = self.choices.allow_new.iter().filter(|(of, _)| *of == Ecosystem::Pypi);
        let names = named.map(|(_, name)| name.clone()).collect();
        Some(Limit { before, names, ..Limit::default() })
    }

    /// The packages of a resolution that are too young, with the reason why they are in it.
    pub(super) fn exemptions(&self, resolution: &Resolution) -> Vec<Exemption> {
        self.exempted(resolution, |package| package.published.as_deref())
    }

    /// The same of a resolution that was taken from the lock. The times in a lock came with the project, and whoever hides a package
    /// that is too young writes an old one: only the times in the record of what is installed are believed.
    pub(super) fn exemptions_of_locked(
        &self,
        resolution: &Resolution,
        installed: Option<&Resolution>,
    ) -> Vec<Exemption> {
        let mut times: HashMap<(&str, &str, &Hashes), &str> = HashMap::new();
        for known in installed.into_iter().flat_map(|installed| &installed.packages) {
            let identity = (&*known.name, &*known.version, &known.artifact.hashes);
            times.extend(known.published.as_deref().map(|published| (identity, published)));
        }
        self.exempted(resolution, |package| {
            times.get(&(&*package.name, &*package.version, &package.artifact.hashes)).copied()
        })
    }

    fn exempted<'r>(
        &self,
        resolution: &'r Resolution,
        published: impl Fn(&'r Package) -> Option<&'r str>,
    ) -> Vec<Exemption> {
        // Lists of the system tell no ages, and are made by those who answer for them.
        let has_ages = !resolution.ecosystem.is_of_system();
        let Some(before) = self.cutoff().filter(|_| has_ages) else { return Vec::new() };
        let limit = Limit { before: Some(before), ..Limit::default() };
        let packages = resolution.packages.iter().map(|package| (package, published(package)));
        let young = packages.filter(|(package, published)| {
            !limit.allows(&package.name, &package.version, *published)
        });
        let exempted = young.map(|(package, published)| {
            let key = (package.ecosystem, package.name.clone());
            let is_named = self.choices.allow_new.contains(&key) || package.artifact.by_address;
            let reason = if is_named { "named" } else { "locked" };
            let published = published.map(str::to_owned);
            Exemption { purl: package.purl(), published, reason: reason.to_owned() }
        });
        let mut exempted: Vec<Exemption> = exempted.collect();
        exempted.sort();
        exempted.dedup();
        exempted
    }
}

/// Says in an answer, or in the reason why there is none, what was left out for its age.
pub(super) fn told<T>(
    resolved: Result<T, ResolveError>,
    left_out: &BTreeMap<String, LeftOut>,
    warnings: fn(&mut T) -> &mut Vec<String>,
) -> Result<T, ResolveError> {
    let Some(words) = words(left_out) else { return resolved };
    match resolved {
        Ok(mut resolved) => {
            warnings(&mut resolved).push(words);
            Ok(resolved)
        }
        Err(ResolveError::Conflict(mut conflict)) => {
            conflict.explanation = format!("{}\n{words}", conflict.explanation.trim_end());
            Err(ResolveError::Conflict(conflict))
        }
        Err(ResolveError::Other(mut error)) => {
            error.message = format!("{}; {words}", error.message);
            Err(ResolveError::Other(error))
        }
    }
}

fn words(left_out: &BTreeMap<String, LeftOut>) -> Option<String> {
    if left_out.is_empty() {
        return None;
    }
    let shown: Vec<String> = left_out
        .iter()
        .take(NAMES_SHOWN_MAX)
        .map(|(name, LeftOut { young, undated })| match (young, undated) {
            (young, 0) => format!("{young} of `{name}`"),
            (0, undated) => format!("{undated} of `{name}` whose age nobody tells"),
            (young, undated) => {
                format!("{young} of `{name}` and {undated} whose age nobody tells")
            }
        })
        .collect();
    let more = left_out.len().saturating_sub(NAMES_SHOWN_MAX);
    let more = if more > 0 { format!(", and of {more} more packages") } else { String::new() };
    let shown = shown.join(", ");
    Some(format!("versions that are too young were left out: {shown}{more}"))
}
