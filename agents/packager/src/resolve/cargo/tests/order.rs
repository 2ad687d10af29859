//! In which order crates are decided, where several answers fit: in cargo's.

use super::{Universe, check};

#[test]
fn a_walk_down_one_list_changes_no_order() {
    // `t` is walked down to the version that gets along with what the newest `p` wants. Then `x`, which has the most versions and so
    // comes last, cannot have its newest ones, and everything is decided anew.
    let links =
        |version: &mut crate::metadata::cargo::Version| version.links = Some("k".to_owned());
    let mut universe = Universe::default()
        .with("w", "0.50.0", &[], &[], links)
        .with("w", "0.57.0", &[], &[], links)
        .add("p", "2.0.0", &[], &[])
        .add("p", "2.0.2", &["d =0.6.3"], &[])
        .add("d", "0.6.3", &[], &[])
        .add("d", "0.6.11", &[], &[]);
    for at in 0..20 {
        let need = if at < 3 { "d 0.6.3" } else { "d 0.6.4" };
        universe = universe.add("t", &format!("0.8.{at}"), &[need], &[]);
    }
    for at in 0..30 {
        let need = if at < 25 { "w 0.50" } else { "w 0.57" };
        universe = universe.add("x", &format!("1.{at}.0"), &[need], &[]);
    }
    let needs = ["w 0.50", "p 2", "t 0.8", "x 1"];
    check(&universe, &needs, "d 0.6.3, p 2.0.2, t 0.8.2, w 0.50.0, x 1.24.0");
}
