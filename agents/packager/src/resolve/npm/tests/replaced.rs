//! Laws for aliases and overrides: who asks for an alias finds that package, who is overridden finds what was put there.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::universe::{Universe, request, root};
use crate::manifest::package_json::Override;
use crate::resolution::Package;
use crate::resolve::ResolveError;
use crate::resolve::npm::resolve;
use agents_versions::npm::{Range, Version};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ALIASES: [&str; 2] = ["x", "b"];
const WANTS: [&str; 5] = ["*", "1", "2", "^1.1.0", "1.0.0"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];

fn wishes() -> impl Strategy<Value = String> {
    let wish = (0..4u8, 0..NAMES.len(), 0..WANTS.len(), 0..ALIASES.len());
    let wish = wish.prop_map(|(kind, name, want, alias)| match kind {
        0 => format!(" {}@npm:{}@{}", ALIASES[alias], NAMES[name], WANTS[want]),
        _ => format!(" {}@{}", NAMES[name], WANTS[want]),
    });
    proptest::collection::vec(wish, 0..4).prop_map(|all| all.concat())
}

fn found<'a>(tree: &BTreeMap<&str, &'a Package>, place: &str, name: &str) -> Option<&'a Package> {
    let mut at = place;
    loop {
        let slash = if at.is_empty() { "" } else { "/" };
        let found = tree.get(format!("{at}{slash}node_modules/{name}").as_str());
        if found.is_some() || at.is_empty() {
            return found.copied();
        }
        at = at.rfind("/node_modules/").map_or("", |end| &at[..end]);
    }
}

/// Whether a package is what a text asks for.
fn meets(package: &Package, text: &str) -> bool {
    let (real, want) = match text.strip_prefix("npm:") {
        Some(alias) => {
            let (real, want) = alias.rsplit_once('@').expect("npm:name@want");
            (Some(real), want)
        }
        None => (None, text),
    };
    let version = Version::parse(&package.version).expect("version");
    let fits = want == "*" || Range::parse(want).expect("range").satisfies(&version);
    // Under a plain name anything that was put there will do.
    fits && real.is_none_or(|real| real == package.name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn aliases_and_overrides_are_kept(
        all in proptest::collection::vec(wishes(), NAMES.len() * VERSIONS.len()),
        of_project in wishes(),
        over in proptest::option::of((0..NAMES.len(), 1..WANTS.len())),
    ) {
        let line = |(at, wishes): (usize, &String)| {
            format!("{}@{}:{wishes}\n", NAMES[at / VERSIONS.len()], VERSIONS[at % VERSIONS.len()])
        };
        let text: String = all.iter().enumerate().map(line).collect();
        let universe = Universe::parse(&text);
        let mut request = request(root(&of_project));
        let over = over
            .map(|(name, want)| (NAMES[name], WANTS[want]))
            .filter(|(name, _)| !request.root.dependencies.contains_key(*name));
        if let Some((name, want)) = over {
            let (key, value) = (name.to_owned(), Some(want.to_owned()));
            request.root.overrides.push(Override { key, value, nested: Vec::new() });
        }
        let resolution = match resolve(&request, &universe) {
            Ok(resolution) => resolution,
            Err(ResolveError::Conflict(_)) => return Ok(()),
            Err(ResolveError::Other(error)) => return Err(TestCaseError::fail(error.message)),
        };
        if !resolution.links.is_empty() {
            return Ok(());
        }
        let tree: BTreeMap<&str, &Package> =
            resolution.packages.iter().map(|one| (one.place.as_str(), one)).collect();
        let wanted = request.root.dependencies.clone().into_iter();
        let wanted = wanted.map(|(name, text)| ("", name, text));
        let of_packages = resolution.packages.iter().flat_map(|one| {
            let entry = universe.packages[&one.name].versions.get(&one.version).expect("there");
            let needs = entry.dependencies.clone().into_iter();
            needs.map(|(name, text)| (one.place.as_str(), name, text))
        });
        for (place, name, text) in wanted.chain(of_packages) {
            let text = match over {
                Some((replaced, want)) if replaced == name => want,
                _ => &*text,
            };
            let to = found(&tree, place, &name);
            prop_assert!(
                to.is_some_and(|to| meets(to, text)),
                "{place} finds {:?} for {name}@{text}",
                to.map(|to| (&to.name, &to.version))
            );
        }
    }
}
