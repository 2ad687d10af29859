//! A real process that is killed while it appends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

/// Set for the process that is killed: where its log is.
const DIRECTORY: &str = "BOLIDE_TEST_LOG_DIRECTORY";

/// More than is written in one call.
const LONG: usize = 100_000;

fn length(position: u64) -> usize {
    // Some cross pages, some are written in two calls.
    if position % 50 == 49 { LONG } else { (position * 131 % 6_000) as usize }
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs only in the process that is killed: says each position once it is stored.
#[test]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let committer = Committer::start(Mechanism::Best).unwrap();
    let (mut log, _) = Log::open(path.as_ref(), "jobs", small(), &committer, 1).unwrap();
    let mut output = std::io::stdout();
    // Ends by the kill, or by the pipe when the test has ended.
    loop {
        let position = log.next_position();
        append(&mut log, length(position)).unwrap();
        if writeln!(output, "\nstored {position}").and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

#[test]
fn what_was_stored_survives_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("jobs");
    let mut stored_before = 0;
    for round in 1..6 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "exchange::log::tests::killed::the_process_that_is_killed"]);
        command.args(["--nocapture", "--test-threads=1"]).env(DIRECTORY, &path);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut victim = Victim(child);
        let output = BufReader::new(victim.0.stdout.take().unwrap());
        let (mut stored, mut left) = (None, 100 * round);
        for line in output.lines() {
            // A line that was torn by the kill says nothing.
            let Ok(line) = line else { break };
            let Some(position) = line.strip_prefix("stored ") else { continue };
            stored = position.parse::<u64>().ok().filter(|given| Some(*given) > stored).or(stored);
            left -= 1;
            if left == 0 {
                victim.0.kill().unwrap();
            }
        }
        victim.0.wait().unwrap();
        let stored = stored.unwrap() + 1;
        assert!(stored > stored_before);
        let (log, recovered) = Log::open(&path, "jobs", small(), &Committer::absent(), 1).unwrap();
        assert!(recovered.gap_count == 0, "{recovered:?}");
        let next = log.next_position();
        // Of a record that takes two calls the header comes last: without it nobody knows what the rest was.
        let was_long = length(next) == LONG;
        let is_cut_off = recovered.cut.as_ref().is_none_or(|cut| was_long || cut.aside.is_none());
        assert!(is_cut_off, "{recovered:?} at {next}");
        assert!(next == stored || next == stored + 1, "{next} after {stored}");
        let (records, _) = read_all(&log, 0);
        assert!(records.iter().map(|record| record.0).eq(0..next));
        assert!(records.iter().all(|(at, bytes)| *bytes == payload(*at, length(*at))));
        stored_before = next;
    }
}
