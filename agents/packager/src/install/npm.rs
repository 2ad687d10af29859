//! A complete `node_modules` in a staging directory, as npm itself would have unpacked and linked
//! it.
//!
//! The hidden lock file `node_modules/.package-lock.json` is left out on purpose where no package is named by its archive
//! (`hidden` says why there). npm believes it instead of reading the tree, provided that no directory is newer than it, and it
//! repeats fields of every package that a resolution does not carry; a tree without it is read package by package, which is right.
//!
//! Install scripts are never run here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::{Options, Report, fill, identity_mismatch};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::resolution::{Link, Package, Resolution};
use crate::store::{Content, Entry, Existing, File, Filled, Piece, Store, StoredFile};
use crate::unpack::names;

mod bin;
mod bundled;
pub(crate) mod hidden;
mod links;
mod prepared;

#[cfg(test)]
mod tests;

const ROOT: &str = "node_modules";

/// The directories, relative to the project, that hold the packages of a resolution: `node_modules`, and those in the
/// project's own packages, `packages/a/node_modules`.
pub fn environments(resolution: &Resolution) -> BTreeSet<&str> {
    let packages = resolution.packages.iter().map(|package| package.place.as_str());
    let links = resolution.links.iter().map(|link| link.place.as_str());
    packages.chain(links).filter_map(environment_of).collect()
}

/// Whether a resolution puts nothing there.
pub fn is_empty(resolution: &Resolution, environment: &str) -> bool {
    !environments(resolution).contains(environment)
}

/// The environment that a place is in.
fn environment_of(place: &str) -> Option<&str> {
    let end = match place.starts_with("node_modules/") {
        true => ROOT.len(),
        false => place.find("/node_modules/")? + 1 + ROOT.len(),
    };
    Some(&place[..end])
}

/// What stands in one environment, with places as if it were the project's own.
fn part(resolution: &Resolution, environment: &str) -> (Vec<Package>, Vec<Link>) {
    let above = environment.len() - ROOT.len().min(environment.len());
    let inside = |place: &str| environment_of(place) == Some(environment);
    let packages = resolution.packages.iter().filter(|package| inside(&package.place));
    let packages = packages.filter(|package| package.ecosystem == Ecosystem::Npm).cloned();
    let links = resolution.links.iter().filter(|link| inside(&link.place)).cloned();
    let packages =
        packages.map(|package| Package { place: package.place[above..].to_owned(), ..package });
    let links = links.map(|link| Link { place: link.place[above..].to_owned(), ..link });
    (packages.collect(), links.collect())
}

/// Builds one environment of `resolution` in `staging`, which becomes (or already is, empty) the
/// `node_modules` directory itself.
pub fn stage(
    store: &Store,
    resolution: &Resolution,
    environment: &str,
    staging: &Path,
    options: Options<'_>,
) -> Result<Report> {
    for package in &resolution.packages {
        let is_placed =
            names::check(&package.place).is_ok() && environment_of(&package.place).is_some();
        if package.ecosystem == Ecosystem::Npm && !is_placed {
            return Err(bad_place(package, "is not a place in a tree of npm"));
        }
    }
    let (packages, own) = part(resolution, environment);
    let packages: Vec<&Package> = packages.iter().collect();
    std::fs::create_dir_all(staging)
        .map_err(|error| Error::io("create the directory", staging, &error))?;
    let places = check_places(&packages, &own)?;
    let mut warnings = Vec::new();
    let mut entries = HashMap::new();
    let mut bundled = Vec::new();
    for package in &packages {
        let entry = options.entry(store, package)?;
        check_identity(package, &entry)?;
        warnings.extend(entry.warnings.iter().map(|text| format!("`{}`: {text}", package.name)));
        bundled.extend(bundled::of(store, package, &entry, &places)?);
        entries.insert(package.place.as_str(), entry);
    }
    let links = bin::links(&packages, &entries, &own, &bundled, &mut warnings)?;
    let linked: HashSet<&str> = links.values().map(|link| link.target.as_str()).collect();
    let mut placed = Vec::with_capacity(packages.len());
    for package in &packages {
        let entry = &entries[package.place.as_str()];
        placed.push(Placed::of(store, package, entry, (&places, &linked), &mut warnings)?);
    }
    let mut ready = Filled::default();
    let taken = prepared::take(staging, &placed, options, &mut ready);
    let rest = placed.into_iter().zip(taken).filter(|(_, is_taken)| !is_taken);
    let files = rest.flat_map(|(placed, _)| placed.into_files()).collect();
    let mut filled = fill(
        store,
        staging,
        files,
        &packages,
        Options { durability: Default::default(), ..options },
        Existing::Refuse,
    )?;
    filled.files += ready.files;
    filled.bytes += ready.bytes;
    let levels = environment.split('/').count() - 1;
    links::create(staging, &own, levels)?;
    let commands = bin::create(staging, &links)?;
    if environment == ROOT && hidden::is_needed(resolution) {
        hidden::write(store, resolution, staging)?;
    }
    if options.durability == crate::store::Durability::Now {
        crate::store::sync_tree(staging)?;
    }
    Ok(Report { filled, commands, warnings })
}

/// Paths of a package's commands, which can be executed wherever it is installed.
pub(crate) fn commands(package: &Package) -> HashSet<&str> {
    package.bin.values().filter_map(|path| bin::target(path)).collect()
}

/// Every place once, well formed, and inside of a package that is there.
fn check_places<'p>(packages: &[&'p Package], links: &[Link]) -> Result<HashSet<&'p str>> {
    let mut places = HashSet::new();
    for package in packages {
        if !is_place(&package.place) {
            return Err(bad_place(package, "is not a place in a tree of npm"));
        }
        if !places.insert(package.place.as_str()) {
            return Err(bad_place(package, "is used twice"));
        }
    }
    for package in packages {
        if let Some((parent, _)) = package.place.rsplit_once("/node_modules/")
            && !places.contains(parent)
        {
            return Err(bad_place(package, "is inside of a package that is not installed"));
        }
    }
    links::check(links, &places)?;
    Ok(places)
}

fn bad_place(package: &Package, why: &str) -> Error {
    Error::new(
        Kind::Failed,
        "bad-place",
        format!("the place `{}` of `{}` {why}", package.place, package.name),
    )
    .hint("the plan is damaged; make a new one")
}

/// `node_modules/NAME`, repeated, where NAME is `name` or `@scope/name`.
pub(crate) fn is_place(place: &str) -> bool {
    if names::check(place).is_err() {
        return false;
    }
    let mut components = place.split('/');
    let mut any = false;
    while let Some(folder) = components.next() {
        let named = match components.next() {
            Some(scope) if scope.starts_with('@') => {
                scope.len() > 1 && components.next().is_some_and(is_name)
            }
            Some(name) => is_name(name),
            None => false,
        };
        if folder != ROOT || !named {
            return false;
        }
        any = true;
    }
    any
}

/// Whether a text is one in the project's tree, or in that of a package of the project's own: `packages/a/node_modules/b`.
pub(crate) fn is_place_below(place: &str) -> bool {
    let Some(environment) = environment_of(place) else { return false };
    let above = environment.len() - ROOT.len();
    is_place(&place[above..]) && (above == 0 || names::check(place).is_ok())
}

/// A name never begins with a dot, which keeps `.bin` and npm's own files out of reach.
fn is_name(name: &str) -> bool {
    !name.starts_with('.') && !name.starts_with('@') && name != ROOT
}

/// The package must say that it is what was planned; otherwise other tools would read another tree
/// than the lock file.
fn check_identity(package: &Package, entry: &Entry) -> Result<()> {
    match entry.name == package.name && same_version(&entry.version, &package.version) {
        true => Ok(()),
        false => Err(identity_mismatch(package, &format!("{} {}", entry.name, entry.version))),
    }
}

/// Registries publish `v1.0.0` and `1.0.0+build` under the bare version.
fn same_version(written: &str, planned: &str) -> bool {
    let clean = |text: &str| {
        let text = text.trim().trim_start_matches(['=', 'v', ' ']);
        text.split('+').next().unwrap_or(text).to_owned()
    };
    clean(written) == clean(planned)
}

/// What is installed of one package.
struct Placed<'p> {
    package: &'p Package,
    /// What is as it came.
    pieces: Vec<Piece<'p>>,
    /// What is not, with its path in the tree.
    rewritten: Vec<File>,
}

impl<'p> Placed<'p> {
    fn of(
        store: &Store,
        package: &'p Package,
        entry: &'p Entry,
        (places, linked): (&HashSet<&str>, &HashSet<&str>),
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let folder = inside(&package.place);
        names::check(folder).map_err(|refusal| refusal.of(&package.artifact.file_name))?;
        let commands = commands(package);
        let linked: HashSet<&str> = linked
            .iter()
            .filter_map(|target| target.strip_prefix(&package.place)?.strip_prefix('/'))
            .collect();
        let (mut pieces, mut rewritten) = (Vec::with_capacity(entry.files.len()), Vec::new());
        for file in &entry.files {
            // A copy of a package inside of the tarball gives way to the planned one, as npm replaces
            // it.
            if file.path.contains("node_modules/")
                && is_inside_of_another(
                    &format!("{}/{}", package.place, file.path),
                    &package.place,
                    places,
                )
            {
                continue;
            }
            let is_linked = linked.contains(&*file.path);
            let executable = file.executable || is_linked || commands.contains(&*file.path);
            names::check_below(folder, &file.path)
                .map_err(|refusal| refusal.of(&package.artifact.file_name))?;
            if is_linked && file.windows_shebang {
                let content = Content::Bytes(unix_shebang(store, file)?);
                let path = format!("{folder}/{}", file.path);
                rewritten.push(File { path, content, executable });
            } else {
                pieces.push(Piece { path: &file.path, object: file.object, executable });
            }
        }
        if pieces.len() + rewritten.len() < entry.files.len() {
            warnings.push(format!(
                "a copy of another package inside of `{}` was replaced by the planned one",
                package.name
            ));
        }
        Ok(Self { package, pieces, rewritten })
    }

    /// The package's directory in the tree.
    fn inside(&self) -> &'p str {
        inside(&self.package.place)
    }

    /// All of its files, by their paths in the tree.
    fn into_files(self) -> impl Iterator<Item = File> + use<'p> {
        let folder = self.inside();
        let pieces = self.pieces.into_iter().map(move |piece| File {
            path: format!("{folder}/{}", piece.path),
            content: Content::Object(piece.object),
            executable: piece.executable,
        });
        pieces.chain(self.rewritten)
    }
}

/// A path of a project, from its `node_modules`.
fn inside(path: &str) -> &str {
    path.strip_prefix("node_modules/").unwrap_or(path)
}

fn is_inside_of_another(path: &str, own: &str, places: &HashSet<&str>) -> bool {
    let mut rest = path;
    while let Some((parent, _)) = rest.rsplit_once('/') {
        if parent.len() <= own.len() {
            return false;
        }
        if places.contains(parent) {
            return true;
        }
        rest = parent;
    }
    false
}

/// The file with its first line ending as Unix wants it.
fn unix_shebang(store: &Store, file: &StoredFile) -> Result<Vec<u8>> {
    let mut bytes = store.read_object(&file.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?;
    if let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        bytes.remove(end);
    }
    Ok(bytes)
}
