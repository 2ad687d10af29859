//! Indexes that want to cost time, memory or the stack.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Runs on a stack that holds a few hundred frames.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(work);
    thread.expect("a thread starts").join().expect("the stack is enough");
}

#[test]
fn cycles_end() {
    let all = Release { extras: &["x", "y"], ..PLAIN };
    let universe = Universe::default()
        .release("a", "1", &["b", "a", "a[y]; extra == 'x'", "a[x]; extra == 'y'"], all)
        .add("b", "1", &["c[z]"])
        .add("c", "1", &["a[x]", "c[z]"])
        .add("d", "2", &["d<2"])
        .add("d", "1", &[]);
    check(&universe, &["a"], "a[x,y] 1, b 1, c[z] 1");
    // What wants another version of itself cannot be.
    check(&universe, &["d"], "d 1");
}

#[test]
fn a_chain_of_many_packages_does_not_use_the_stack() {
    on_a_small_stack(|| {
        let count = 3_000;
        let mut universe = Universe::default();
        for step in 0..count {
            let next = format!("p{}", step + 1);
            universe = universe.add(&format!("p{step}"), "1", &[&next]);
        }
        let explanation = conflict(&universe, &["p0"]).explanation;
        assert!(explanation.contains("the index does not have it"), "{explanation}");
        let universe = universe.add(&format!("p{count}"), "1", &[]);
        assert_eq!(run(&universe, &["p0"], &[]).expect("solvable").packages.len(), count + 1);
    });
}

#[test]
fn extras_that_lead_to_extras_do_not_use_the_stack() {
    on_a_small_stack(|| {
        let count = 400;
        let needs: Vec<String> = (0..count)
            .map(|step| format!("a[x{}]; extra == 'x{step}'", step + 1))
            .chain([format!("b; extra == 'x{count}'")])
            .collect();
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let universe = Universe::default().add("a", "1", &needs).add("b", "1", &[]);
        let resolution = run(&universe, &["a[x0]"], &[]).expect("solvable");
        assert_eq!(resolution.packages.len(), 2);
        assert_eq!(resolution.packages[0].extras.len(), count + 1);
    });
}

/// A project of many versions, all made from one file.
fn many(universe: &mut Universe, name: &str, count: usize, needs: impl Fn(usize) -> String) {
    *universe = std::mem::take(universe).add(name, "0", &[]);
    let package: PackageName = name.parse().expect("a name");
    let files = universe.projects.get_mut(&package).expect("added");
    let first = Arc::clone(&files[0]);
    let core = Arc::clone(&universe.core[&first.name]);
    for number in 1..=count {
        let version: Version = number.to_string().parse().expect("a version");
        let file_name = format!("{name}-{number}-py3-none-any.whl");
        let file = File { name: file_name.clone(), version: version.clone(), ..(*first).clone() };
        files.push(Arc::new(file));
        let requires_dist = vec![needs(number).parse().expect("a requirement")];
        let core = CoreMetadata { version, requires_dist, ..(*core).clone() };
        universe.core.insert(file_name, Arc::new(core));
    }
}

#[test]
fn the_right_one_among_100_000_versions_is_found() {
    let mut universe = Universe::default().add("b", "1", &[]).add("b", "2", &[]);
    many(&mut universe, "a", 100_000, |number| format!("b=={}", 1 + number % 2));
    check(&universe, &["a"], "a 100000, b 1");
    check(&universe, &["a<77777.5", "b>1"], "a 77777, b 2");
    check_preferring(&universe, &["a"], &[("a", "4711")], "a 4711, b 2");
}

#[test]
fn versions_that_all_fail_end_in_an_explanation() {
    let mut universe = Universe::default().add("b", "1", &[]).add("b", "2", &[]);
    many(&mut universe, "a", 2_000, |_| "b>1".to_owned());
    let explanation = conflict(&universe, &["a>=1", "b<2"]).explanation;
    assert!(explanation.ends_with("the requirements cannot be met."), "{explanation}");
    assert!(explanation.len() < 2_000, "{}", explanation.len());
}

#[test]
fn whoever_asks_can_end_a_search_among_ranges_made_to_explode() {
    // Every version of each package wants another set of versions of each of the others.
    let mut universe = Universe::default();
    for name in ["a", "b", "c"] {
        let other = match name {
            "a" => "b",
            "b" => "c",
            _ => "a",
        };
        many(&mut universe, name, 500, |number| {
            let holes: Vec<_> =
                (0..500).step_by(2 + number % 7).map(|it| format!("!={it}")).collect();
            format!("{other}>{},{}", 500 - number, holes.join(","))
        });
    }
    let asked = AtomicUsize::new(0);
    let (requirements, target) = (["a<400", "b<400", "c<400"], target());
    let requirements = requirements.map(|it| it.parse().expect("a requirement"));
    let request = Request {
        requirements: &requirements,
        target: &target,
        preferred: &BTreeMap::new(),
        policy: &Policy::default(),
        keep_on: &|| match asked.fetch_add(1, Ordering::Relaxed) {
            0..50 => Ok(()),
            _ => Err(crate::resolve::deadline_exceeded()),
        },
    };
    match resolve(&request, &universe) {
        Err(ResolveError::Other(error)) => assert_eq!(error.code, "deadline"),
        // An answer within so few steps is as good.
        other => assert!(asked.load(Ordering::Relaxed) <= 60, "{other:?}"),
    }
}
