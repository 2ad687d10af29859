//! What follows from a wish: pacman says which packages come along, over the lists that it has; what these exclude is read from
//! the same lists, and shown by pacman itself on a copy before anything is carried out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::command::{Said, command};
use super::super::files::digest_of;
use super::Pacman;
use super::read::{self, Installed, Listed, is_about, named};
use super::world::{ask, failed};
use crate::error::{Error, Kind, Result};
use crate::limits::SYSTEM_FILE_BYTES_MAX;
use crate::system::solved::{Coming, Going, Solved, Want, WantKind};

/// A package that pacman would install: the repository, the name and the version.
type Offer = (String, String, String);

impl Pacman {
    pub(super) fn solve_wants(&self, wants: &[Want]) -> Result<Solved> {
        let installed = self.installed()?;
        let there: BTreeMap<&str, &Installed> =
            installed.iter().map(|it| (it.name.as_str(), it)).collect();
        let targets = self.targets(wants, &there)?;
        let offers = match targets.is_empty() {
            true => Vec::new(),
            false => match self.offers(&["--needed"], &targets)? {
                Ok(offers) => offers,
                Err(said) => return Ok(Solved::Conflict(why(&said))),
            },
        };
        let removed = match self.removed(wants, &there)? {
            Ok(removed) => removed,
            Err(said) => return Ok(Solved::Conflict(why(&said))),
        };
        let comes = self.listed_as(&offers)?;
        let mut goes: BTreeSet<&str> = removed.iter().map(String::as_str).collect();
        goes.extend(excluded(&comes, &installed)?);
        let is_wanted = |it: &&Want| it.kind == WantKind::Add && goes.contains(it.name.as_str());
        if let Some(want) = wants.iter().find(is_wanted) {
            let what = format!("`{}` cannot stand beside what else is asked for", want.name);
            return Ok(Solved::Conflict(what));
        }
        if let Some(what) = left_without(&goes, &comes, &there) {
            return Ok(Solved::Conflict(what));
        }
        let replaced = comes.iter().map(|it| it.name.as_str()).filter(|it| there.contains_key(it));
        let before: BTreeSet<&str> = goes.iter().copied().chain(replaced).collect();
        let going = self.going(before.iter().filter_map(|name| there.get(name).copied()))?;
        let names: BTreeSet<String> = comes.iter().map(|it| it.name.clone()).collect();
        let coming = |(it, (repository, ..)): (&Listed, &Offer)| Coming {
            name: it.name.clone(),
            architecture: it.architecture.clone(),
            version: it.version.clone(),
            sha256: it.sha256.clone(),
            origin: repository.clone(),
            size: it.size,
            license: it.license.clone(),
            file: it.file.clone(),
            uses: {
                let used = it.depends.iter().map(|relation| named(relation).to_owned());
                used.filter(|name| names.contains(name) && *name != it.name).collect()
            },
        };
        Ok(Solved::Change(comes.iter().zip(&offers).map(coming).collect(), going))
    }

    /// The names that pacman is to be asked for: what is there already and not older is left out.
    fn targets(&self, wants: &[Want], there: &BTreeMap<&str, &Installed>) -> Result<Vec<String>> {
        let wanted: Vec<&Want> = wants.iter().filter(|it| it.kind != WantKind::Remove).collect();
        let mut targets = Vec::new();
        for want in wanted {
            let now = there.get(want.name.as_str());
            if want.kind == WantKind::Update && now.is_none() {
                return Err(not_installed(&want.name));
            }
            if let (Some(version), Some(now)) = (&want.version, now)
                && now.version == *version
            {
                continue;
            }
            let name = std::slice::from_ref(&want.name);
            let offers = self.offers(&["--nodeps", "--nodeps"], name)?;
            let offered = offers.ok().and_then(|it| it.into_iter().find(|it| it.1 == want.name));
            let Some((_, _, version)) = offered else {
                if now.is_some() && want.version.is_none() {
                    continue;
                }
                return Err(unknown(&want.name, None));
            };
            match (&want.version, now) {
                (Some(wanted), _) if *wanted != version => {
                    return Err(unknown(&want.name, Some((wanted, &version))));
                }
                (None, Some(now)) if compare(&version, &now.version)?.is_le() => {}
                _ => targets.push(want.name.clone()),
            }
        }
        Ok(targets)
    }

    /// What pacman would install for these names, or why not.
    fn offers(&self, options: &[&str], names: &[String]) -> Result<Result<Vec<Offer>, Said>> {
        let mut command = self.world.pacman()?;
        command.args(["--sync", "--print", "--print-format", "%r %n %v"]).args(options);
        let said = ask(command.arg("--").args(names))?;
        if !said.is_success {
            return Ok(Err(said));
        }
        let offers = said.text.lines().filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        });
        Ok(Ok(offers.filter(|(repository, ..)| !repository.starts_with(':')).collect()))
    }

    fn removed(
        &self,
        wants: &[Want],
        there: &BTreeMap<&str, &Installed>,
    ) -> Result<Result<Vec<String>, Said>> {
        let wanted = wants.iter().filter(|it| it.kind == WantKind::Remove);
        let names: Vec<String> = wanted.map(|it| it.name.clone()).collect();
        if names.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        if let Some(name) = names.iter().find(|name| !there.contains_key(name.as_str())) {
            return Err(not_installed(name));
        }
        let mut command = self.world.pacman()?;
        command.args(["--remove", "--print", "--print-format", "%n"]);
        let said = ask(command.arg("--").args(&names))?;
        Ok(if said.is_success { Ok(names) } else { Err(said) })
    }

    /// What the lists say of offers, in their order.
    fn listed_as(&self, offers: &[Offer]) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        for (repository, name, version) in offers {
            let listed = self.lists(repository, &[(name, version)])?.into_iter().next();
            found.push(listed.ok_or_else(|| {
                let message = format!("the list of `{repository}` has no `{name}` {version}");
                Error::new(Kind::Failed, "list-unreadable", message).hint("run `pacman -Sy`")
            })?);
        }
        Ok(found)
    }

    /// The entries of a repository's list for names and versions, where it has them.
    pub(super) fn lists(&self, repository: &str, wanted: &[(&str, &str)]) -> Result<Vec<Listed>> {
        let list = self.world.database().join("sync").join(format!("{repository}.db"));
        if wanted.is_empty() || !list.is_file() {
            return Ok(Vec::new());
        }
        let mut reader = command("bsdtar", Path::new("/"))?;
        reader.args(["-xOf"]).arg(&list).arg("--");
        reader.args(wanted.iter().map(|(name, version)| format!("{name}-{version}/desc")));
        // It fails where one is missing, which is an answer too.
        let found = read::listed(&ask(&mut reader)?.text);
        let is_wanted = |it: &Listed| wanted.contains(&(it.name.as_str(), it.version.as_str()));
        Ok(found.into_iter().filter(is_wanted).collect())
    }

    /// Packages that go, with the digests of their archives where a list or the cache has these.
    fn going<'i>(&self, packages: impl Iterator<Item = &'i Installed>) -> Result<Vec<Going>> {
        let packages: Vec<&Installed> = packages.collect();
        let wanted: Vec<(&str, &str)> =
            packages.iter().map(|it| (it.name.as_str(), it.version.as_str())).collect();
        let mut digests: BTreeMap<String, String> = BTreeMap::new();
        for repository in self.world.repositories() {
            for it in self.lists(repository, &wanted)? {
                if let Some(sha256) = it.sha256 {
                    digests.entry(it.name).or_insert(sha256);
                }
            }
        }
        let mut going = Vec::new();
        for it in packages {
            let sha256 = match digests.remove(&it.name) {
                Some(sha256) => Some(sha256),
                None => self.cached(it)?,
            };
            going.push(Going { name: it.name.clone(), version: it.version.clone(), sha256 });
        }
        Ok(going)
    }

    /// The digest of an archive in pacman's cache, where it was built in the moment in which the installed package was.
    fn cached(&self, package: &Installed) -> Result<Option<String>> {
        let name = format!("{}-{}-{}.pkg.tar", package.name, package.version, package.architecture);
        for path in self.in_caches(&name) {
            let said =
                ask(self.world.pacman()?.args(["--query", "--info", "--file", "--"]).arg(&path))?;
            let same = read::installed(&said.text).into_iter().any(|it| {
                (&it.name, &it.version, &it.built)
                    == (&package.name, &package.version, &package.built)
            });
            if same && let Ok(digest) = digest_of(&path) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// Archives in pacman's cache whose names begin so.
    pub(super) fn in_caches(&self, name: &str) -> Vec<std::path::PathBuf> {
        let entries = self.world.caches().into_iter().filter_map(|it| std::fs::read_dir(it).ok());
        let fits = |entry: &std::fs::DirEntry| {
            let is_named = entry.file_name().to_str().is_some_and(|it| {
                it.strip_prefix(name)
                    .is_some_and(|rest| !rest.ends_with(".sig") && !rest.ends_with(".part"))
            });
            let is_fit = |it: std::fs::Metadata| it.is_file() && it.len() <= SYSTEM_FILE_BYTES_MAX;
            is_named && entry.metadata().is_ok_and(is_fit)
        };
        entries.flatten().flatten().filter(fits).map(|entry| entry.path()).collect()
    }
}

/// Installed packages that cannot stand beside what comes.
fn excluded<'i>(comes: &[Listed], installed: &'i [Installed]) -> Result<BTreeSet<&'i str>> {
    let mut found = BTreeSet::new();
    let failure = std::cell::RefCell::new(None);
    let order = |one: &str, other: &str| {
        compare(one, other).unwrap_or_else(|error| {
            failure.replace(Some(error));
            Ordering::Equal
        })
    };
    for it in installed.iter().filter(|it| comes.iter().all(|other| other.name != it.name)) {
        let own = (it.name.as_str(), it.version.as_str());
        let excludes = |other: &Listed| {
            let theirs = (other.name.as_str(), other.version.as_str());
            other.conflicts.iter().any(|one| is_about(one, own, &it.provides, &order))
                || it.conflicts.iter().any(|one| is_about(one, theirs, &other.provides, &order))
        };
        if comes.iter().any(excludes) {
            found.insert(it.name.as_str());
        }
    }
    failure.into_inner().map_or(Ok(found), Err)
}

/// Why something that stays would miss what goes.
fn left_without(
    goes: &BTreeSet<&str>,
    comes: &[Listed],
    there: &BTreeMap<&str, &Installed>,
) -> Option<String> {
    let is_provided = |name: &str| {
        comes.iter().any(|it| it.provides.iter().any(|provided| named(provided) == name))
    };
    for name in goes.iter().filter(|name| !is_provided(name)) {
        let needing = there.get(name).into_iter().flat_map(|it| &it.required_by);
        let mut stays = needing.filter(|it| {
            !goes.contains(it.as_str()) && comes.iter().all(|other| other.name != **it)
        });
        if let Some(who) = stays.next() {
            return Some(format!("`{name}` would have to go, and `{who}`, which stays, needs it"));
        }
    }
    None
}

/// How pacman orders two versions.
fn compare(one: &str, other: &str) -> Result<Ordering> {
    let said = ask(command("vercmp", Path::new("/"))?.args([one, other]))?;
    let order: i32 = said.text.trim().parse().map_err(|_| failed(&said))?;
    Ok(order.cmp(&0))
}

/// What pacman says against something.
fn why(said: &Said) -> String {
    let lines = said.text.lines().filter(|line| line.starts_with(":: ")).map(|line| &line[3..]);
    let mut words: Vec<&str> = lines.collect();
    words.push(&said.complaints);
    let text = words.join("\n");
    text.chars().filter(|one| *one == '\n' || !one.is_control()).take(4_000).collect()
}

fn not_installed(name: &str) -> Error {
    Error::new(Kind::Usage, "unknown-package", format!("`{name}` is not installed"))
}

fn unknown(name: &str, version: Option<(&str, &str)>) -> Error {
    let message = match version {
        None => format!("no repository has `{name}`"),
        Some((wanted, offered)) => {
            format!("no repository has `{name}` in version {wanted}, but in {offered}")
        }
    };
    Error::new(Kind::Usage, "unknown-package", message)
        .hint("look at the spelling; `pacman -Sy` fetches newer lists")
}
