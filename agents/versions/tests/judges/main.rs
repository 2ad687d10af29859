//! Our answers beside those of the families' own clients, on generated questions. Runs where `BOLIDE_JUDGES` names the
//! families (`all`, or `npm,gem`) whose clients are installed; without it there is nothing to do. `BOLIDE_JUDGE_COUNT` sets
//! the number of questions of each kind, `BOLIDE_JUDGE_SEED` which ones; `BOLIDE_JUDGE_SHOW=1` prints what differs on purpose too. `BOLIDE_JUDGES_RECORD=1` writes the answers into the
//! tables that the test `conformance` reads.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "scores are for people")]

mod generate;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agents_versions::{Family, Range, Version};

use generate::Random;

/// Questions of each kind where nothing else is asked for; dpkg needs a process or two for each.
const COUNT: usize = 10_000;
const SEED: u64 = 20;

/// Disagreements that are shown for each family.
const SHOWN_MAX: usize = 20;

struct Question {
    /// `c` compares, `s` asks for membership.
    kind: &'static str,
    left: String,
    right: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The program that answers for a family; none where there is none to ask. `BOLIDE_JUDGE_ALPINE` (or any other family) names
/// one that speaks the same protocol, with its arguments.
fn judge(family: Family) -> Option<Command> {
    let named = variable(&format!("BOLIDE_JUDGE_{}", family.as_str().to_uppercase()));
    if let Some(line) = named {
        let mut words = line.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        return Some(command);
    }
    let script = |name: &str| directory().join("judges").join(name);
    let mut command = match family {
        Family::Npm => Command::new("node"),
        Family::Pypi => Command::new("python3"),
        Family::Debian => Command::new("sh"),
        // The distribution's Python has the module.
        Family::Rpm => Command::new("/usr/bin/python3"),
        Family::Maven => Command::new("java"),
        Family::Gem => Command::new("ruby"),
        Family::Composer => Command::new("php"),
        Family::Cargo | Family::Alpine | Family::Nuget => return None,
    };
    if family == Family::Maven {
        command.args([
            "-cp",
            "/usr/share/java/maven-artifact-3.x.jar:/usr/share/java/commons-lang3.jar",
        ]);
    }
    let name = match family {
        Family::Npm => "npm.mjs",
        Family::Pypi => "pypi.py",
        Family::Debian => "debian.sh",
        Family::Rpm => "ask_rpm.py",
        Family::Maven => "Maven.java",
        Family::Gem => "gem.rb",
        _ => "composer.php",
    };
    command.arg(script(name));
    Some(command)
}

/// The judge's answers; in words why it gives none.
fn ask(mut command: Command, questions: &[Question]) -> Result<Vec<String>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().unwrap();
    let text: String = questions
        .iter()
        .map(|question| format!("{}\t{}\t{}\n", question.kind, question.left, question.right))
        .collect();
    // A judge that ends before it has read all has answered too little, which is seen below.
    let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let answers: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    match answers.len() == questions.len() {
        true => Ok(answers),
        false => Err(format!("{} answers, {}", answers.len(), output.status)),
    }
}

fn own_answer(family: Family, question: &Question) -> String {
    let Ok(left) = Version::parse(family, &question.left) else { return "invalid".to_owned() };
    let answer = match question.kind {
        "c" => Version::parse(family, &question.right).map(|right| match left.cmp(&right) {
            std::cmp::Ordering::Less => "<",
            std::cmp::Ordering::Equal => "=",
            std::cmp::Ordering::Greater => ">",
        }),
        _ => Range::parse(family, &question.right).map(|range| match range.contains(&left) {
            true => "true",
            false => "false",
        }),
    };
    answer.unwrap_or("invalid").to_owned()
}

fn questions(family: Family, count: usize, seed: u64) -> Vec<Question> {
    let mut random = Random::new(seed);
    let mut questions = Vec::with_capacity(count * 2);
    for at in 0..count * 2 {
        let left = generate::version(family, &mut random);
        let (kind, right) = match at < count {
            true => ("c", generate::neighbour(family, &left, &mut random)),
            false => ("s", generate::range(family, &left, &mut random)),
        };
        questions.push(Question { kind, left, right });
    }
    questions
}

/// Where we differ on purpose; each reason stands in the family's module.
fn is_excused(family: Family, question: &Question) -> bool {
    match family {
        // Two branches have no order there; here they have one. Numbers that PHP cannot count up become floats there.
        Family::Composer => {
            let is_branch = |text: &str| {
                let is_default = matches!(text, "master" | "trunk" | "default");
                is_default || text.to_lowercase().starts_with("dev-")
            };
            let both =
                question.kind == "c" && is_branch(&question.left) && is_branch(&question.right);
            both || (question.kind == "s" && generate::has_long_number(&question.right))
        }
        // dpkg warns and goes on.
        Family::Debian => own_answer(family, question) == "invalid",
        // A qualifier between two dots, with which Maven's comparison goes round in circles, and a list in a list.
        Family::Maven => {
            [&question.left, &question.right].iter().any(|text| generate::is_circular(text))
        }
        // apk counts in 64 bits and starts again from zero.
        Family::Alpine => {
            [&question.left, &question.right].iter().any(|text| generate::has_long_number(text))
        }
        _ => false,
    }
}

#[test]
fn clients_agree_on_generated_questions() {
    let Some(wanted) = variable("BOLIDE_JUDGES") else { return };
    let number = |name, default| variable(name).map_or(default, |value| value.parse().unwrap());
    let count = number("BOLIDE_JUDGE_COUNT", COUNT);
    let seed = number("BOLIDE_JUDGE_SEED", SEED as usize) as u64;
    let mut failed = Vec::new();
    for family in Family::ALL {
        if wanted != "all" && !wanted.split(',').any(|name| name == family.as_str()) {
            continue;
        }
        let Some(command) = judge(family) else { continue };
        let questions = questions(family, count, seed);
        let answers = match ask(command, &questions) {
            Ok(answers) => answers,
            Err(why) => {
                println!("{family} has no judge here: {why}");
                // Who asks for all asks for those that are installed.
                failed.extend(Some(family).filter(|_| wanted != "all"));
                continue;
            }
        };
        if !report(family, &questions, &answers) {
            failed.push(family);
        }
        if variable("BOLIDE_JUDGES_RECORD").is_some() {
            record(family, &questions, &answers);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

fn report(family: Family, questions: &[Question], answers: &[String]) -> bool {
    let mut all_agree = true;
    let shows_all = variable("BOLIDE_JUDGE_SHOW").is_some();
    for (kind, name) in [("c", "compare"), ("s", "satisfies")] {
        let (mut asked, mut agreed, mut excused, mut invalid, mut shown) = (0, 0, 0, 0, 0);
        for (question, judged) in questions.iter().zip(answers).filter(|(q, _)| q.kind == kind) {
            let own = own_answer(family, question);
            asked += 1;
            invalid += usize::from(judged == "invalid");
            let is_same = own == *judged;
            let on_purpose = !is_same && is_excused(family, question);
            agreed += usize::from(is_same);
            excused += usize::from(on_purpose);
            shown += usize::from(!is_same && (shows_all || !on_purpose));
            if !is_same && (shows_all || !on_purpose) && shown <= SHOWN_MAX {
                println!(
                    "{family} {name} {:?} {:?}: {judged}, not {own}",
                    question.left, question.right
                );
            }
        }
        println!(
            "{family} {name} {agreed}/{asked} ({excused} differ on purpose, {invalid} invalid)"
        );
        all_agree &= agreed + excused == asked;
    }
    all_agree
}

fn record(family: Family, questions: &[Question], answers: &[String]) {
    let path = directory().join("conformance/tables").join(format!("{family}.tsv"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut text = String::new();
    for (question, answer) in questions.iter().zip(answers) {
        if own_answer(family, question) == *answer || !is_excused(family, question) {
            text +=
                &format!("{}\t{}\t{}\t{answer}\n", question.kind, question.left, question.right);
        }
    }
    std::fs::write(path, text).unwrap();
}
