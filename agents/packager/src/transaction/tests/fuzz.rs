//! Journals and records of installed files, changed below checksums that are right again.

use super::super::journal::{self, Begin, Finish, Intent, Journal, Record};
use super::super::{fingerprint::Fingerprint, tree};
use super::*;
use crate::fuzz::{Chance, fuzz};

const JOURNAL_MAGIC_BYTES: usize = 8;

fn framed(number: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(number as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    let digest = tree::digest_of(&bytes);
    bytes.extend_from_slice(&digest[..16]);
    bytes
}

fn payloads(world: &World) -> Vec<Vec<u8>> {
    let begin = Begin {
        id: "tx-1".to_owned(),
        project: "/x".to_owned(),
        identity: Project::open(&world.project).unwrap().identity(),
        had_workshop: true,
        operation: "add".to_owned(),
        digest: Some("sha256:00".to_owned()),
        actor: "uid 0".to_owned(),
        summary: serde_json::json!({"added": ["pkg:npm/a@1"]}),
        started_at_ms: 1,
        holds: Vec::new(),
    };
    let (directories, items) = (vec![path("a/b")], Vec::new());
    let intent = Intent { directories, items, finish: Finish::Keep, system: None, start: None };
    let records = [
        Record::Begin(begin),
        Record::Intent(intent),
        Record::Turn(0),
        Record::Commit,
        Record::Stored,
    ];
    records.iter().map(|record| serde_json::to_vec(record).unwrap()).collect()
}

fn mutated(chance: &mut Chance, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if chance.once_in(2) {
        chance.mutate(&mut payload);
    }
    payload
}

/// The first bytes of every journal.
fn magic(world: &World) -> Vec<u8> {
    let transactions = world.open();
    let inner = &transactions.inner;
    let begin = serde_json::from_slice::<Record>(&payloads(world)[0]).unwrap();
    let Record::Begin(begin) = begin else { panic!("another record") };
    drop(Journal::create(&inner.disk, &inner.journals, begin.clone(), false).unwrap());
    let written = fs::read_dir(inner.journals.path()).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(written.path()).unwrap();
    journal::remove(&inner.disk, &inner.journals, &begin).unwrap();
    bytes[..JOURNAL_MAGIC_BYTES].to_vec()
}

#[test]
fn journals_tell_what_is_whole_in_them() {
    let world = World::quick();
    let (magic, honest) = (magic(&world), payloads(&world));
    fuzz(300, |chance| {
        let mut bytes = magic.clone();
        let mut whole = 0;
        for (number, payload) in honest.iter().enumerate() {
            let record = mutated(chance, payload);
            let is_read = serde_json::from_slice::<Record>(&record).is_ok();
            whole += usize::from(is_read && whole == number);
            bytes.extend(framed(number, &record));
        }
        let (records, left) = journal::decode(&bytes);
        assert_eq!(records.len(), whole);
        assert_eq!(left == 0, whole == honest.len());
        assert!(whole == 0 || !journal::is_torn(&bytes), "what it tells may be needed");
        chance.mutate(&mut bytes);
        let _ = journal::decode(&bytes);
        let _ = journal::is_torn(&bytes);
    });
}

#[test]
fn records_of_installed_files_are_read_or_refused() {
    let world = World::quick();
    let place = world.project.join("tree");
    fs::create_dir_all(place.join("a/b")).unwrap();
    fs::write(place.join("a/b/c"), "content").unwrap();
    std::os::unix::fs::symlink("b/c", place.join("a/d")).unwrap();
    let project = Project::open(&world.project).unwrap();
    let honest = Fingerprint::record_all(project.root(), std::ffi::OsStr::new("tree")).unwrap();
    let encoded = honest.encode();
    let path = Path::new("a record");
    assert_eq!(Fingerprint::decode(&encoded, path).unwrap().encode(), encoded);
    fuzz(500, |chance| {
        let mut bytes = encoded[..encoded.len() - 32].to_vec();
        chance.mutate(&mut bytes);
        let digest = tree::digest_of(&bytes);
        bytes.extend_from_slice(&digest);
        if let Ok(read) = Fingerprint::decode(&bytes, path) {
            assert_eq!(read.encode(), bytes);
        }
    });
}
