//! Random histories: after every step the tree is the one that was recorded for that state.

use super::*;

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
                    fs::write(file, format!("{number}")).unwrap();
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
    open.commit(&changes, CommitOptions::default()).unwrap().transaction
}

#[test]
fn a_hundred_random_histories_come_back_to_every_state() {
    let mut steps = 0;
    for seed in 1..=100_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let world = World::quick();
        let original = world.everything();
        let mut session = world.session();
        // The transactions that stand, each with the tree before it.
        let mut standing: Vec<(String, String)> = Vec::new();
        for number in 0..8 {
            steps += 1;
            if standing.is_empty() || dice.below(3) > 0 {
                let before = world.visible();
                standing.push((random_commit(&mut dice, &mut session, number), before));
            } else {
                let index = dice.below(standing.len() as u64) as usize;
                let (id, before) = standing[index].clone();
                let undone = session.rollback(Some(&id), "uid 0", false).unwrap();
                assert_eq!(undone.taken.len(), standing.len() - index, "seed {seed}");
                assert_eq!(world.visible(), before, "seed {seed}, step {number}");
                standing.truncate(index);
            }
            world.assert_clean();
        }
        if let Some((id, _)) = standing.first() {
            session.rollback(Some(id), "uid 0", false).unwrap();
        }
        assert_eq!(world.everything(), original, "seed {seed}");
    }
    println!("100 histories, {steps} steps");
}
