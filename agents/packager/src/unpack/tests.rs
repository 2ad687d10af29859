//! Every class of hostile archive, made by hand; honest ones, made by independent writers; and
//! damage at random.

mod fuzz;
mod random;
mod tarballs;
mod wheels;

use super::{Unpacker, attacks, into};

/// The same through the process that has no rights stands with the program, `runtime/tests/unpack.rs`.
#[test]
fn every_attack_is_refused_in_this_process_too() {
    let scratch = tempfile::tempdir().expect("a directory");
    let outside = scratch.path().join("outside/escaped");
    let (archives, place) = (scratch.path().join("archives"), scratch.path().join("place"));
    for directory in [&archives, &place, &scratch.path().join("outside")] {
        std::fs::create_dir(directory).expect("a directory");
    }
    let is_empty =
        |path: &std::path::Path| std::fs::read_dir(path).expect("there").next().is_none();
    let all = attacks::all(outside.to_str().expect("text"));
    assert!(all.len() > 150, "{}", all.len());
    for attack in all {
        let archive = archives.join(attack.file_name);
        std::fs::write(&archive, &attack.bytes).expect("written");
        let refused = into::unpack(&Unpacker::here(), &archive, &place).expect_err(&attack.name);
        assert_eq!(refused.kind.exit_code(), 6, "{}: {refused:?}", attack.name);
        assert!(refused.message.contains(attack.reason), "{}: {refused}", attack.name);
        assert!(is_empty(&place) && is_empty(&scratch.path().join("outside")), "{}", attack.name);
        // The archives' directory, the place and what lies outside of it, and nothing left of the attempt.
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 3, "{}", attack.name);
    }
}
