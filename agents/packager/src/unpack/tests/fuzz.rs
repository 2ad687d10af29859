//! Archives of all kinds, changed where their readers look.

use super::random::{honest_tarball, read_all, resealed, unpacked};
use crate::fuzz::fuzz;
use crate::unpack::attacks::forge::{member, wheel};

#[test]
fn archives_are_read_or_refused() {
    let honest = wheel(&[member("demo/a.py", b"abc"), member("demo/b.py", &[7; 3_000])]);
    let (tarball, stream) = (honest_tarball(), unpacked());
    let attacks = crate::unpack::attacks::all("/nowhere");
    fuzz(200, |chance| {
        let mut bytes = match chance.below(4) {
            0 => honest.clone(),
            1 => tarball.clone(),
            2 => stream.clone(),
            _ => chance.pick(&attacks).bytes.clone(),
        };
        chance.mutate(&mut bytes);
        read_all(&bytes);
        read_all(&resealed(bytes));
    });
}
