//! Two days of work with one store, and what of it had to be fetched: how often the store has what is asked of it.
//!
//! The store begins empty, as on a new machine: that is the first day. The second one is an ordinary day, which begins with what
//! the day before has left and has something new in it, too. The steps are those of a person with a few projects of one language:
//! clone, check out anew, look at a branch in a second directory, let the tests run from a clean checkout, go to the next project.
//! What is counted is artefacts: those that each installation needed, and those that it fetched.

use std::path::Path;

use agents_packager::ecosystem::Ecosystem;
use anyhow::Context as _;
use serde_json::{Value, json};

use super::lay_out;
use super::mirror::Mirror;
use super::tools;

/// What is done, which project is installed for it, and how often from a clean directory.
type Step = (&'static str, &'static str, usize);

const FIRST: [Step; 12] = [
    ("the service, cloned in the morning", "express", 1),
    ("its tests from clean checkouts", "express", 3),
    ("the front end, cloned", "webpack", 1),
    ("a branch of it in a second directory", "webpack", 1),
    ("its linters, a project of their own", "eslint", 1),
    ("both from clean checkouts, before a review", "webpack", 2),
    ("the linters again", "eslint", 2),
    ("a colleague's service, cloned", "service", 1),
    ("everything once more in the evening: the service", "express", 1),
    ("the front end", "webpack", 1),
    ("the linters", "eslint", 1),
    ("the colleague's service", "service", 1),
];

const ORDINARY: [Step; 8] = [
    ("the service's tests from clean checkouts", "express", 3),
    ("a branch of the front end in a second directory", "webpack", 1),
    ("a third project, cloned", "rollup", 1),
    ("its tests from a clean checkout", "rollup", 1),
    ("a tool for it, cloned", "mocha", 1),
    ("the front end and", "webpack", 1),
    ("its linters from clean checkouts, before a review", "eslint", 2),
    ("the third project once more in the evening", "rollup", 1),
];

/// Lives both days.
pub(super) fn live(recordings: &Path, scratch: &Path) -> anyhow::Result<Value> {
    let mirror = Mirror::start(Ecosystem::Npm, recordings.join("npm"))?;
    let day = |name: &str, steps: &[Step]| live_one(&mirror, recordings, scratch, name, steps);
    Ok(json!({ "first": day("first", &FIRST)?, "ordinary": day("ordinary", &ORDINARY)? }))
}

fn live_one(
    mirror: &Mirror,
    recordings: &Path,
    scratch: &Path,
    name: &str,
    day: &[Step],
) -> anyhow::Result<Value> {
    let (mut needed_all, mut fetched_all) = (0, 0);
    let mut steps = Vec::new();
    for (what, project, times) in day {
        let template = scratch.join("templates").join(project);
        lay_out(&recordings.join("npm/.projects").join(project), &template, mirror)
            .with_context(|| format!("`make installed ECOSYSTEM=npm` records `{project}`"))?;
        // All projects have one home, and so one store.
        let mut tool = tools::bolide(Ecosystem::Npm, scratch, &template, &mirror.url());
        let (mut needed, mut fetched) = (0, 0);
        for time in 0..*times {
            let place = scratch.join("projects").join(format!("{name}-{}-{time}", steps.len()));
            mirror.forget();
            tool.install_into(&place)?;
            needed += artefacts(&template)?;
            fetched += mirror.archives();
        }
        needed_all += needed;
        fetched_all += fetched;
        steps.push(json!({"what": what, "times": times, "needed": needed, "fetched": fetched}));
    }
    Ok(json!({
        "steps": steps,
        "needed": needed_all,
        "fetched": fetched_all,
        "hit_rate": 1.0 - fetched_all as f64 / needed_all as f64,
    }))
}

/// Different artefacts that the lock of a project names.
fn artefacts(project: &Path) -> anyhow::Result<u64> {
    let lock: toml::Table = std::fs::read_to_string(project.join("bolide.lock"))?.parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let hashes = packages.into_iter().flatten().filter_map(|package| package.get("hashes"));
    Ok(hashes.map(ToString::to_string).collect::<std::collections::BTreeSet<_>>().len() as u64)
}
