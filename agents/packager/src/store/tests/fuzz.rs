//! Lists of an artefact's files, changed below a digest that is right again.

use super::super::entry::{Entry, StoredFile, decode, encode};
use super::super::object::Object;
use super::*;
use crate::fuzz::fuzz;

#[test]
fn lists_are_read_or_refused() {
    let file = |path: &str, executable: bool| StoredFile {
        path: path.into(),
        object: Object { digest: [7; 32], size: 3 },
        executable,
        windows_shebang: false,
    };
    let entry = Entry {
        form: Form::Npm,
        name: "a".to_owned(),
        version: "1.0.0".to_owned(),
        warnings: vec!["odd".to_owned()],
        files: vec![file("package.json", false), file("bin/a.js", true)],
    };
    let encoded = encode(&entry);
    assert_eq!(encode(&decode(&encoded).expect("whole")), encoded);
    fuzz(500, |chance| {
        let mut bytes = encoded[..encoded.len() - 32].to_vec();
        chance.mutate(&mut bytes);
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        bytes.extend_from_slice(digest.as_ref());
        let Some(read) = decode(&bytes) else { return };
        assert!(read.files.iter().all(|file| crate::unpack::names::check(&file.path).is_ok()));
        assert_eq!(encode(&decode(&encode(&read)).expect("whole")), encode(&read));
    });
}
