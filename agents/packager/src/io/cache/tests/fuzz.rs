//! Packs with any bytes in them: an answer is one that was written under its name, or none.

use super::*;
use crate::fuzz::fuzz;

#[test]
fn no_bytes_of_a_pack_give_another_answer() {
    let honest = tempfile::tempdir().expect("a directory");
    let names = ["a", "b", "c"];
    let first = disk(honest.path(), Duration::ZERO);
    for name in names {
        write(&first, name, format!("first {name}").as_bytes());
        write(&first, name, format!("second {name}").as_bytes());
    }
    first.remove(key("c"));
    drop(first);
    let metadata = honest.path().join("metadata");
    let files: Vec<_> = std::fs::read_dir(&metadata)
        .expect("there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && length(path) > 0)
        .map(|path| {
            (path.file_name().expect("a name").to_owned(), std::fs::read(&path).expect("read"))
        })
        .collect();
    assert!(files.len() >= 2, "an index and its data");
    fuzz(150, |chance| {
        let place = tempfile::tempdir().expect("a directory");
        let metadata = place.path().join("metadata");
        std::fs::create_dir(&metadata).expect("a directory");
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            if chance.once_in(2) {
                chance.mutate(&mut bytes);
            }
            std::fs::write(metadata.join(name), bytes).expect("written");
        }
        let disk = disk(place.path(), Duration::ZERO);
        for name in names {
            let is_known = |body: &Vec<u8>| {
                ["first", "second"].iter().any(|word| *body == format!("{word} {name}").as_bytes())
            };
            assert!(body(&disk, name).as_ref().is_none_or(is_known), "{name}");
            write(&disk, name, b"later");
            assert_eq!(body(&disk, name).as_deref(), Some(&b"later"[..]));
        }
        disk.sweep();
    });
}
