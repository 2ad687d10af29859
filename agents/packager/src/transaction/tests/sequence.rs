//! Random histories: after every step the tree is the one that was recorded for that state, to the byte, the mode, the owner, the
//! target of each link and the time of each change.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::*;

/// Directories in which names are exchanged. Their times tell when that happened, and nobody takes that back.
const CHANGING: [&str; 3] = ["", "a", "a/b"];

/// All that can be seen of a project but `.bolide`.
fn exactly(world: &World) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![world.project.clone()];
    while let Some(path) = pending.pop() {
        let about = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(&world.project).unwrap().to_owned();
        let content = match about.file_type() {
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_dir() => "directory".to_owned(),
            _ => format!("{:?}", fs::read(&path).unwrap()),
        };
        if about.is_dir() {
            let inside = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            pending.extend(inside.filter(|path| !path.ends_with(".bolide")));
        }
        let is_changing = CHANGING.iter().any(|changing| name == Path::new(changing));
        let time = if is_changing { (0, 0) } else { (about.mtime(), about.mtime_nsec()) };
        let (mode, links) = (about.mode(), about.nlink());
        // A directory's links count its directories, or nothing, as the file system likes.
        let links = if about.is_dir() { 0 } else { links };
        let owner = (about.uid(), about.gid());
        found.insert(name, format!("{mode:o} {owner:?} {links} {time:?} {content}"));
    }
    found
}

/// The names that differ.
fn difference(
    one: &BTreeMap<PathBuf, String>,
    other: &BTreeMap<PathBuf, String>,
) -> Vec<(PathBuf, Option<String>, Option<String>)> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differ = names.into_iter().filter(|name| one.get(*name) != other.get(*name));
    differ.map(|name| (name.clone(), one.get(name).cloned(), other.get(name).cloned())).collect()
}

/// A small generator; the seed is printed when a sequence fails.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const NAMES: [&str; 7] =
    ["node_modules", ".venv", "package.json", "a/b/c.toml", "a/d.toml", "old.txt", "run.sh"];

/// Changes some of the names to something new, or away.
fn random_commit(dice: &mut Dice, session: &mut Session, number: usize) -> String {
    let mut open = session.begin(purpose("install")).unwrap();
    let mut changes = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        match dice.below(4) {
            0 => changes.push(removal(name)),
            1 if index < 2 => {
                let staged = format!("tree-{index}");
                let root = open.staging().join(&staged);
                for file in 0..=dice.below(5) {
                    let file = root.join(format!("{}/{file}", dice.below(3)));
                    fs::create_dir_all(file.parent().unwrap()).unwrap();
                    fs::write(&file, format!("{number}")).unwrap();
                    decorate(dice, &file, number);
                }
                fs::create_dir_all(&root).unwrap();
                changes.push(environment(name, &staged, Ecosystem::Npm));
            }
            1 => {
                let text = format!("{number} {index}");
                let change = open.stage_file(path(name), text.as_bytes(), Expected::Anything);
                changes.push(change.unwrap());
            }
            _ => {}
        }
    }
    let committed = open.commit(&changes, CommitOptions::default()).unwrap();
    assert_eq!(committed.unfinished, None);
    committed.transaction
}

/// Gives a file what packages have: an odd mode, an old time, links to it, a directory that forbids writing.
fn decorate(dice: &mut Dice, file: &Path, number: usize) {
    let mode = [0o644, 0o755, 0o444, 0o600, 0o4755][dice.below(5) as usize];
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    let beside = |name: &str| file.with_file_name(format!("{name}-{number}"));
    match dice.below(6) {
        0 => {
            let _ = std::os::unix::fs::symlink(file.file_name().unwrap(), beside("link"));
        }
        1 => {
            let _ = std::os::unix::fs::symlink("../nowhere at all", beside("dangling"));
        }
        2 => {
            let _ = fs::hard_link(file, beside("hard"));
        }
        3 => {
            let times = fs::FileTimes::new()
                .set_modified(UNIX_EPOCH + Duration::new(499_162_500, 123_456_789));
            fs::File::open(file).unwrap().set_times(times).unwrap();
        }
        4 => {
            let sealed = beside("sealed");
            let _ = fs::create_dir(&sealed);
            fs::set_permissions(&sealed, fs::Permissions::from_mode(0o555)).unwrap();
        }
        _ => {}
    }
}

#[test]
fn a_hundred_random_histories_come_back_to_every_state() {
    let mut steps = 0;
    for seed in 1..=100_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let world = World::quick();
        let (original, everything) = (exactly(&world), world.everything());
        let mut session = world.session();
        // The transactions that stand, each with the tree before it.
        let mut standing: Vec<(String, BTreeMap<PathBuf, String>)> = Vec::new();
        for number in 0..8 {
            steps += 1;
            if standing.is_empty() || dice.below(3) > 0 {
                let before = exactly(&world);
                standing.push((random_commit(&mut dice, &mut session, number), before));
            } else {
                let index = dice.below(standing.len() as u64) as usize;
                let (id, before) = standing[index].clone();
                let undone = match dice.below(2) {
                    0 => session.rollback(Some(&id), "uid 0", false).unwrap(),
                    _ => {
                        // What it may leave is for whoever takes the lock next.
                        let undone = session.rollback_and_leave(
                            Some(&id),
                            "uid 0",
                            false,
                            &agents_contract::Threads(2),
                        );
                        drop(session);
                        session = world.session();
                        undone.unwrap()
                    }
                };
                assert_eq!(undone.unfinished, None, "seed {seed}");
                assert_eq!(undone.taken.len(), standing.len() - index, "seed {seed}");
                let differs = difference(&exactly(&world), &before);
                assert!(differs.is_empty(), "seed {seed}, step {number}: {differs:?}");
                standing.truncate(index);
            }
            world.assert_clean();
        }
        if let Some((id, _)) = standing.first() {
            session.rollback(Some(id), "uid 0", false).unwrap();
        }
        let differs = difference(&exactly(&world), &original);
        assert!(differs.is_empty(), "seed {seed}: {differs:?}");
        assert_eq!(world.everything(), everything, "seed {seed}");
    }
    println!("100 histories, {steps} steps");
}
