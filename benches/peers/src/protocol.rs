//! How a program here talks with the bench that started it.
//!
//! 1. The program prints one line of JSON when it is ready: `versions`, `measures` and, for what it cannot measure,
//!    `absent` with the reason.
//! 2. Each line `MEASURE MESSAGES` on standard input asks for one round; one line of JSON answers it, either with
//!    figures or with `why`. Between rounds every process of a program sleeps, so rounds can be taken in turn with
//!    those of others.
//! 3. Standard input ends when the bench does, however it ends. A thread beside the measuring one notices this even
//!    in the middle of a round, removes what the program made, and ends the process.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context;
use serde_json::{Value, json};

/// Rounds that may wait; the bench asks for one at a time.
const ASKED_MAX: usize = 1;

/// Lines of standard input, and the end of the process where they end.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    /// Starts to read; `at_the_end` runs before the process ends. To be called before the calling thread is pinned,
    /// because threads inherit that.
    pub fn of_input(at_the_end: impl FnOnce() + Send + 'static) -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(ASKED_MAX);
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
            at_the_end();
            std::process::exit(0);
        })?;
        Ok(Self(receiver))
    }

    /// The next line; waits without using the CPU. Never returns once the input has ended.
    pub fn next_line(&self) -> String {
        self.0.recv().unwrap_or_else(|_| {
            // The reading thread is about to end the process.
            loop {
                std::thread::park();
            }
        })
    }
}

/// Says `hello`, then answers rounds until the input ends.
pub fn answer_rounds(
    lines: &Lines,
    hello: &Value,
    mut round: impl FnMut(&str, u64) -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    say(hello)?;
    loop {
        let line = lines.next_line();
        let asked = line.split_once(' ').context("expected `MEASURE MESSAGES`");
        let answer = asked.and_then(|(measure, messages)| round(measure, messages.parse()?));
        match answer {
            Ok(figures) => say(&figures)?,
            Err(error) => say(&json!({"why": format!("{error:#}")}))?,
        }
    }
}

/// One line on standard output, at once.
pub fn say(value: &Value) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{value}")?;
    Ok(output.flush()?)
}
