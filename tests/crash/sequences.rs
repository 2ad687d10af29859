//! Random sequences of the program's operations on three ecosystems: whatever is taken back is as it was, to the byte, the mode and
//! the time.

use serde_json::Value;

use super::look::{self, Tree};
use super::world::{Outcome, World};

/// Sequences in a sample.
const SAMPLE_SEQUENCES: u64 = 2;
const STEPS: usize = 7;

const SPECS: [&str; 11] = [
    "npm:leaf@1.0.0",
    "npm:leaf@^1",
    "npm:leaf@2",
    "npm:tree@1",
    "npm:tree@2",
    "pypi:stone==1.0",
    "pypi:stone>=2",
    "pypi:wall",
    "cargo:grain@0.1",
    "cargo:grain@0.2",
    "cargo:bread",
];
const NAMES: [&str; 6] =
    ["npm:leaf", "npm:tree", "pypi:stone", "pypi:wall", "cargo:grain", "cargo:bread"];

/// What may be said to such a step instead of carrying it out: what was asked for makes no sense in this project (2), or the versions
/// exclude each other (5).
const SENSELESS: [&str; 3] =
    ["there is no manifest for it", "is not a direct dependency", "is named twice"];

fn is_refusal(outcome: &Outcome, arguments: &[&str]) -> bool {
    match outcome.code {
        2 => SENSELESS.iter().any(|words| outcome.stderr.contains(words)),
        5 => arguments.iter().any(|it| *it == "pypi:wall" || *it == "pypi:stone>=2"),
        _ => false,
    }
}

/// A small generator; the seed is printed when a sequence fails.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// What is asked for in a step that changes something.
fn change(dice: &mut Dice) -> Vec<&'static str> {
    match dice.below(6) {
        0 => vec!["remove", NAMES[dice.below(NAMES.len())], "--yes"],
        1 => vec!["update", "--yes"],
        2 => vec!["install", "--yes"],
        _ => {
            let mut arguments = vec!["add", SPECS[dice.below(SPECS.len())]];
            arguments.push(SPECS[dice.below(SPECS.len())]);
            if dice.below(3) == 0 {
                arguments.extend(["--resolution", "lowest"]);
            }
            arguments.push("--yes");
            arguments
        }
    }
}

fn one(seed: u64) -> usize {
    let world = World::quick();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let look = || look::tree(&world.project(), true);
    let original = look();
    // Each transaction that stands, with the tree before it.
    let mut standing: Vec<(String, Tree)> = Vec::new();
    let mut done = 0;
    for step in 0..STEPS {
        let before = look();
        if standing.is_empty() || dice.below(3) > 0 {
            let arguments = change(&mut dice);
            let json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
            let outcome = world.bolide(&json);
            let transaction = match outcome.code {
                0 => outcome.json()["transaction"].as_str().map(str::to_owned),
                _ => {
                    let is_expected = is_refusal(&outcome, &arguments);
                    assert!(is_expected, "seed {seed}, {arguments:?}: {outcome:?}");
                    None
                }
            };
            match transaction {
                Some(transaction) => {
                    standing.push((transaction, before));
                    done += 1;
                }
                // A conflict, or nothing to do: nothing may have changed.
                None => {
                    let differs = look::difference(&look(), &before);
                    assert!(differs.is_empty(), "seed {seed}, {arguments:?}: {differs}");
                }
            }
            continue;
        }
        let index = dice.below(standing.len());
        let (id, wanted) = standing[index].clone();
        let undone = world.bolide(&["rollback", &id, "--yes", "--json"]).succeeds().json();
        assert_eq!(undone["undone"].as_array().map(Vec::len), Some(standing.len() - index));
        let differs = look::difference(&look(), &wanted);
        assert!(differs.is_empty(), "seed {seed}, step {step}: {differs}");
        standing.truncate(index);
        done += 1;
        check_log(&world.bolide(&["history", "--json"]).succeeds(), &standing);
    }
    if let Some((id, _)) = standing.first() {
        world.bolide(&["rollback", id, "--yes"]).succeeds();
    }
    let differs = look::difference(&look(), &original);
    assert!(differs.is_empty(), "seed {seed}: {differs}");
    assert!(!world.project().join(".bolide").exists(), "seed {seed}");
    done
}

/// What the log says to stand is what stands.
fn check_log(history: &Outcome, standing: &[(String, Tree)]) {
    let answer = history.json();
    let entries = answer["transactions"].as_array().unwrap();
    let is_standing =
        |entry: &&Value| entry["state"] == "committed" && entry["operation"] != "rollback";
    let mut told: Vec<&str> =
        entries.iter().filter(is_standing).filter_map(|it| it["transaction"].as_str()).collect();
    told.reverse();
    let known: Vec<&str> = standing.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(told, known);
}

#[test]
fn random_sequences_of_operations_come_back_to_every_state() {
    let count = std::env::var("BOLIDE_SEQUENCES").ok().and_then(|text| text.parse().ok());
    let count = count.unwrap_or(SAMPLE_SEQUENCES);
    let done: usize = (1..=count).map(one).sum();
    println!("{count} sequences, {done} operations that changed something");
    // A single one may meet refusals only.
    assert!(done as u64 >= count, "hardly anything was changed");
}
