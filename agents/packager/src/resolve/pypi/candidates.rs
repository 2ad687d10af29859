//! The versions of one project as the solver sees them: which file each would be installed from, or why none.
//!
//! Positions are grouped: yanked versions first, then pre-releases, then final releases, each group ascending.
//! A requirement that may use final releases only is then one run of positions however many release candidates were
//! published in between.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::PackageName;

use super::policy::Rules;
use super::specifiers::{admits_python, matches, mentions_prerelease, pins, text};
use crate::metadata::pypi::{Class, File, FileKind, Project, Release};
use crate::options::Prerelease;
use crate::python::PythonTarget;
use crate::resolve::indexed::{Set, describe};

/// The file to install a version from, or the reason why there is none.
pub(super) type Judged = Result<Arc<File>, Arc<str>>;

/// All versions of a project. Which file a version would be installed from is found when somebody asks.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) project: Option<Arc<Project>>,
    judge: Arc<Judge>,
    judged: Box<[OnceLock<Judged>]>,
}

/// What the versions are judged by.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) python: Version,
    /// Position of each compatibility tag, 0 the best.
    pub(super) tags: HashMap<String, usize>,
    rules: Arc<Rules>,
}

/// What direct requirements and installed versions allow of one project beyond the rules for everybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance {
    pub(super) prereleases: bool,
    pub(super) yanked: Vec<Version>,
}

impl Judge {
    pub(super) fn new(target: &PythonTarget, rules: Arc<Rules>) -> Self {
        let mut tags = HashMap::with_capacity(target.tags.len());
        for (rank, tag) in target.tags.iter().enumerate() {
            tags.entry(tag.clone()).or_insert(rank);
        }
        Self { python: target.python.clone(), tags, rules }
    }
}

impl Candidates {
    pub(super) fn new(project: Arc<Project>, judge: &Arc<Judge>) -> Self {
        let judged = project.releases().iter().map(|_| OnceLock::new()).collect();
        Self { project: Some(project), judge: Arc::clone(judge), judged }
    }

    /// A project that the index does not have.
    pub(super) fn none(judge: &Arc<Judge>) -> Self {
        Self { project: None, judge: Arc::clone(judge), judged: Box::default() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.judged.len()
    }

    fn releases(&self) -> &[Release] {
        self.project.as_ref().map_or(&[], |project| project.releases())
    }

    /// The version at a position.
    pub(super) fn version(&self, position: usize) -> &Version {
        &self.releases()[position].version
    }

    /// All versions, in the order of the positions.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.releases().iter().map(|release| &release.version)
    }

    fn class(&self, position: usize) -> Class {
        self.releases()[position].class
    }

    /// The best file of the version at a position, or the reason why there is none.
    pub(super) fn file(&self, position: usize) -> &Judged {
        self.judged[position].get_or_init(|| match &self.project {
            Some(project) => best_file(&project.name, project.files_at(position), &self.judge),
            None => Err("is not in the index".into()),
        })
    }

    /// The positions that a requirement may use.
    pub(super) fn matching(
        &self,
        specifiers: &VersionSpecifiers,
        allowance: &Allowance,
        prerelease: Option<Prerelease>,
    ) -> Set {
        let releases = self.releases();
        let is_match: Vec<bool> = releases
            .iter()
            .map(|release| {
                matches(specifiers, &release.version)
                    && (release.class != Class::Yanked
                        || pins(specifiers, &release.version)
                        || allowance.yanked.contains(&release.version))
            })
            .collect();
        // The newest first: it mostly can be used, and no other has to be looked at.
        let [Range { end: yanked_to, .. }, _, Range { start: final_from, .. }] = self.groups();
        let has_final = || {
            let mut finals = (final_from..releases.len()).rev();
            finals.any(|position| is_match[position] && self.file(position).is_ok())
        };
        let is_named = || allowance.prereleases || mentions_prerelease(specifiers);
        let takes_prereleases = match prerelease {
            // Where none matches it makes no difference.
            _ if !is_match[yanked_to..final_from].contains(&true) => false,
            None => is_named() || !has_final(),
            Some(Prerelease::IfNecessary) => !has_final(),
            Some(Prerelease::Allow) => true,
            Some(Prerelease::Disallow) => false,
        };
        Set::of(releases.len(), |position| {
            is_match[position]
                && (takes_prereleases || releases[position].class != Class::Prerelease)
        })
    }

    /// The newest usable version in a set, or the oldest. Looks at few of them: some projects have 100,000.
    pub(super) fn best(&self, set: &Set, is_oldest: bool) -> Option<usize> {
        let is_usable = |position: &usize| self.file(*position).is_ok();
        let version = |position: &usize| self.version(*position);
        let found = self.groups().map(|group| {
            let mut members = set.members_within(group);
            if is_oldest { members.find(is_usable) } else { members.rfind(is_usable) }
        });
        let found = found.into_iter().flatten();
        match is_oldest {
            true => found.min_by(|one, other| version(one).cmp(version(other))),
            false => found.max_by(|one, other| version(one).cmp(version(other))),
        }
    }

    /// The next versions of a set after the one at a position, in the order in which they would be tried.
    pub(super) fn after(
        &self,
        set: &Set,
        position: usize,
        is_oldest: bool,
        count: usize,
    ) -> Vec<usize> {
        let chosen = self.version(position);
        let mut found: Vec<usize> = Vec::new();
        for group in self.groups() {
            let of_group = &self.releases()[group.clone()];
            let below = group.start + of_group.partition_point(|it| it.version < *chosen);
            let upto = group.start + of_group.partition_point(|it| it.version <= *chosen);
            match is_oldest {
                true => found.extend(set.members_within(upto..group.end).take(count)),
                false => found.extend(set.members_within(group.start..below).rev().take(count)),
            }
        }
        found.sort_by(|&one, &other| {
            let order = self.version(other).cmp(self.version(one));
            if is_oldest { order.reverse() } else { order }
        });
        found.truncate(count);
        found
    }

    /// The position of a version.
    pub(super) fn find(&self, version: &Version) -> Option<usize> {
        self.groups().into_iter().find_map(|group| {
            let of_group = &self.releases()[group.clone()];
            let found = of_group.binary_search_by(|candidate| candidate.version.cmp(version));
            found.ok().map(|offset| group.start + offset)
        })
    }

    /// Where the versions of each class are; within one, they ascend.
    fn groups(&self) -> [Range<usize>; 3] {
        let yanked = self.releases().partition_point(|it| it.class <= Class::Yanked);
        let prereleases = self.releases().partition_point(|it| it.class <= Class::Prerelease);
        [0..yanked, yanked..prereleases, prereleases..self.len()]
    }

    /// Which versions a set means, for people; `None` for all.
    pub(super) fn describe(&self, set: &Set) -> Option<String> {
        let is_meant = |position: usize| pubgrub::VersionSet::contains(set, &(position as u32));
        // Where only final releases are meant, the others are not worth a gap in the text.
        let meant = || (0..self.len()).filter(|&position| is_meant(position));
        let only_final = meant().all(|position| self.class(position) == Class::Final);
        let mut shown: Vec<usize> = (0..self.len())
            .filter(|&position| !only_final || self.class(position) == Class::Final)
            .collect();
        shown.sort_by(|&one, &other| self.version(one).cmp(self.version(other)));
        let texts: Vec<_> = shown
            .into_iter()
            .map(|position| (self.version(position).to_string(), is_meant(position)))
            .collect();
        describe(&texts)
    }

    /// Why no version in a set can be used, grouped by reason; `None` where the set has no version.
    pub(super) fn why_unusable(&self, set: &Set) -> Option<String> {
        let positions: Vec<_> = set.members(self.len()).collect();
        self.why(&positions)
    }

    /// Why nothing that the specifiers match can be used.
    pub(super) fn why_nothing(&self, specifiers: &VersionSpecifiers) -> Option<String> {
        let matching: Vec<_> = (0..self.len())
            .filter(|&position| matches(specifiers, self.version(position)))
            .collect();
        self.why(&matching)
    }

    fn why(&self, positions: &[usize]) -> Option<String> {
        let name = &self.project.as_ref()?.name;
        let mut reasons: Vec<(&str, Vec<usize>)> = Vec::new();
        for &position in positions {
            let reason = match (self.file(position), self.class(position)) {
                (Err(reason), _) => &**reason,
                (Ok(_), Class::Yanked) => "was yanked, and nothing pins it exactly",
                (Ok(_), Class::Prerelease) => "is a pre-release, and nothing asks for one",
                (Ok(_), Class::Final) => continue,
            };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, positions)) => positions.push(position),
                None => reasons.push((reason, vec![position])),
            }
        }
        if reasons.is_empty() {
            return None;
        }
        // The reason that holds for most versions first; the rest rarely helps.
        reasons.sort_by_key(|(_, positions)| std::cmp::Reverse(positions.len()));
        let clauses: Vec<_> = reasons
            .iter()
            .take(3)
            .map(|(reason, positions)| {
                let count = self.len();
                let set = Set::of(count, |position| positions.contains(&position));
                match self.describe(&set) {
                    Some(versions) => format!("`{name}` {versions} {reason}"),
                    None => format!("every version of `{name}` {reason}"),
                }
            })
            .collect();
        Some(clauses.join(" and "))
    }
}

/// The file to install a version from.
fn best_file(name: &PackageName, files: &[Arc<File>], judge: &Judge) -> Judged {
    let mut best: Option<(bool, usize, std::cmp::Reverse<BuildNumber<'_>>, &Arc<File>)> = None;
    let wanted = judge.rules.digests(name);
    let (mut has_wheel, mut has_fitting_wheel, mut has_hash) = (false, false, false);
    let mut unmet_python = None;
    let all_yanked = files.iter().all(|file| file.yanked.is_some());
    // What the project names by its address is that file, whatever is said of an index's.
    let is_named = judge.rules.named.contains(name);
    let (has_wheels, has_sources) = match is_named {
        true => (true, true),
        false => (judge.rules.formats.has_wheels(name), judge.rules.formats.has_sources(name)),
    };
    for file in files.iter().filter(|_| has_wheels) {
        let FileKind::Wheel { build, tags } = &file.kind else { continue };
        // One yanked file of a version that was not yanked as a whole is passed over.
        if file.yanked.is_some() && !all_yanked {
            continue;
        }
        has_wheel = true;
        if let Some(requires) = &file.requires_python
            && !admits_python(requires, &judge.python)
        {
            unmet_python = Some(requires);
            continue;
        }
        let Some(rank) = tags.iter().filter_map(|tag| judge.tags.get(tag.as_str())).min() else {
            continue;
        };
        has_fitting_wheel = true;
        if file.hashes.is_empty() {
            continue;
        }
        has_hash = true;
        // One that is not among those that are wanted is chosen where there is no other, to be refused by name.
        let digest = file.hashes.sha256.as_ref();
        let is_other = wanted.is_some_and(|wanted| digest.is_none_or(|it| !wanted.contains(it)));
        let build = std::cmp::Reverse(BuildNumber::new(build.as_deref()));
        let is_better = best.as_ref().is_none_or(|(held_other, held_rank, held_build, held)| {
            (is_other, rank, &build, &file.name) < (*held_other, held_rank, held_build, &held.name)
        });
        if is_better {
            best = Some((is_other, *rank, build, file));
        }
    }
    if let Some((_, _, _, file)) = best {
        return Ok(Arc::clone(file));
    }
    let source = source(files, &judge.python);
    if let Some(file) = source.filter(|_| has_sources && judge.rules.sources.has(name)) {
        return Ok(Arc::clone(file));
    }
    if !has_wheels {
        return Err(match source {
            Some(_) => {
                format!("counts as source only by `--no-binary` (`--build {name}` builds it)")
                    .into()
            }
            None => "has no source archive, and `--no-binary` is set for it".into(),
        });
    }
    let source_python = files.iter().filter_map(|file| file.requires_python.as_ref());
    let unmet_python = unmet_python
        .or_else(|| source_python.into_iter().find(|it| !admits_python(it, &judge.python)));
    Err(match unmet_python {
        Some(requires) if !has_fitting_wheel => needs_python(requires, &judge.python),
        _ if has_fitting_wheel && !has_hash => "is published without a hash to verify it by".into(),
        _ if has_wheel && source.is_some() => {
            format!("has no wheel for this platform and Python (`--build {name}` builds one)")
                .into()
        }
        _ if has_wheel => "has no wheel for this platform and Python".into(),
        _ => format!("is published as source only (`--build {name}` builds it)").into(),
    })
}

/// The source archive of a version; the standard's own format before older ones.
fn source<'f>(files: &'f [Arc<File>], python: &Version) -> Option<&'f Arc<File>> {
    let all_yanked = files.iter().all(|file| file.yanked.is_some());
    let usable = files.iter().filter(|file| {
        file.kind == FileKind::Source
            && (file.yanked.is_none() || all_yanked)
            && !file.hashes.is_empty()
            && file.requires_python.as_ref().is_none_or(|it| admits_python(it, python))
    });
    usable.min_by_key(|file| (!file.name.ends_with(".tar.gz"), &file.name))
}

/// The reason for a version that another Python is needed for; follows the name of a version.
pub(super) fn needs_python(requires: &VersionSpecifiers, python: &Version) -> Arc<str> {
    format!("needs Python {} (this is {python})", text(requires)).into()
}

/// Build numbers order by their leading digits, then by the rest; none is the lowest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct BuildNumber<'a>(Option<(u64, &'a str)>);

impl<'a> BuildNumber<'a> {
    fn new(text: Option<&'a str>) -> Self {
        Self(text.map(|text| {
            let end = text.find(|character: char| !character.is_ascii_digit());
            let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
            (digits.parse().unwrap_or(0), rest)
        }))
    }
}
