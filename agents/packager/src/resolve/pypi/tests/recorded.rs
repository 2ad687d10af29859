//! Small universes that `make differential` cut out of real indexes, with the answers that were found there.
//!
//! Each has the projects of one set of requirements, with the versions that a resolution looks at and a few around them.

use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Recorded {
    requirements: Vec<String>,
    markers: MarkerEnvironment,
    /// The version of each package; nothing where there is no solution.
    answer: Option<BTreeMap<String, String>>,
    projects: BTreeMap<String, BTreeMap<String, Recording>>,
}

/// One version of a project.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    /// Its metadata; absent where the interpreter or the platform excludes it.
    #[serde(default)]
    needs: Vec<String>,
    python: Option<String>,
    #[serde(default)]
    yanked: bool,
    /// Whether no wheel of it is for the platform.
    #[serde(default)]
    unfit: bool,
}

impl Recorded {
    fn universe(&self) -> Universe {
        let mut universe = Universe::default();
        for (name, versions) in &self.projects {
            for (version, recording) in versions {
                let needs: Vec<_> = recording.needs.iter().map(String::as_str).collect();
                let release = Release {
                    tags: if recording.unfit { &["cp27-cp27m-win32"] } else { PLAIN.tags },
                    // As long as the tests, which is not long.
                    requires_python: recording.python.clone().map(|text| &*text.leak()),
                    yanked: recording.yanked,
                    ..PLAIN
                };
                universe = universe.release(name, version, &needs, release);
            }
        }
        universe
    }

    fn resolve(&self) -> Result<BTreeMap<String, String>, ResolveError> {
        let parsed = self.requirements.iter().map(|it| requirement(it).expect("a requirement"));
        let python = self.markers.python_full_version().to_string();
        let target = PythonTarget {
            markers: self.markers.clone(),
            tags: target().tags,
            python: python.parse().expect("a version"),
        };
        let request = Request {
            requirements: &parsed.collect::<Vec<_>>(),
            target: &target,
            preferred: &BTreeMap::new(),
            policy: &Policy::default(),
            keep_on: &|| Ok(()),
        };
        let resolution = resolve(&request, &self.universe())?;
        Ok(resolution.packages.into_iter().map(|it| (it.name, it.version)).collect())
    }
}

#[test]
fn recorded_universes_have_the_answers_that_were_found_in_full_ones() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resolve/pypi/tests/recorded");
    let mut count = 0;
    for file in place.read_dir().expect("a directory") {
        let path = file.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a recording");
        let recorded: Recorded = serde_json::from_str(&text).expect("a recording");
        match (recorded.resolve(), &recorded.answer) {
            (Ok(found), Some(expected)) => assert_eq!(found, *expected, "{}", path.display()),
            (Err(ResolveError::Conflict(_)), None) => {}
            (other, _) => panic!("{}: {other:?}", path.display()),
        }
        count += 1;
    }
    assert!(count >= 10, "{count}");
}
