//! Others' buses beside ours: starts the programs that `make peers` built (`benches/peers`), asks them for rounds in turn
//! with ours, and collects their figures. What those programs do and how they are talked with is said there.
//!
//! A program removes what it made when its standard input ends, so it cleans up also where this process is killed; it
//! is in a process group of its own, so that an interrupt from the keyboard does not take that from it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use super::super::figures::Figure;
use super::Part;
use crate::bench::median;

/// Longest time that a program may take to start its servers, or for one round.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(90);
/// Longest time to clean up after the end of the input; then the program is killed.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// Where their files are: a place for files that outlast a restart is on a disk, which what is kept must reach.
const SCRATCH_PARENT: &str = "/var/tmp";

/// What a program of `make peers` is asked.
struct Asked {
    program: &'static str,
    /// After the names of its measures.
    suffix: &'static str,
    /// All its processes on one CPU, where a wake-up is a switch and not an interrupt to another CPU.
    on_one_cpu: bool,
    /// With the messages for one thousand of ours.
    measures: &'static [(&'static str, u64)],
}

/// A broker needs a hundred times as long as shared memory, and a disk a thousand times, so that rounds of the same size
/// would take minutes.
const BROKERED: [(&str, u64); 6] = [
    ("nats", 50),
    ("redis", 50),
    ("redis_unix", 50),
    ("jetstream", 10),
    ("redis_everysec", 10),
    ("redis_always", 2),
];

/// Brokers in both placements, because it depends on the machine which is the better one for them.
const ASKED: [Asked; 3] = [
    Asked {
        program: "bolide-peer-iceoryx2",
        suffix: "",
        on_one_cpu: false,
        measures: &[("iceoryx2", 1000), ("iceoryx2_throughput", 5000)],
    },
    Asked { program: "bolide-peer-brokers", suffix: "", on_one_cpu: false, measures: &BROKERED },
    Asked {
        program: "bolide-peer-brokers",
        suffix: "_one_cpu",
        on_one_cpu: true,
        measures: &BROKERED,
    },
];

/// The figures that a round can have.
const FIGURES: [&str; 4] = ["p50_ns", "p99_ns", "p999_ns", "messages_per_s"];

/// A running program.
struct Program {
    process: Child,
    /// Dropped to end it.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    asked: &'static Asked,
    /// Those that it has.
    measures: Vec<String>,
    // Dropped last, after the program that it belongs to.
    _scratch: Scratch,
}

/// A directory for one program, gone with this value where the program did not remove it.
struct Scratch(PathBuf);

/// All that are there, and what they said so far.
#[derive(Default)]
pub(super) struct Peers {
    programs: Vec<Program>,
    rounds: BTreeMap<String, Vec<Value>>,
    why: BTreeMap<String, String>,
    versions: Map<String, Value>,
    /// After the first round, which does not count.
    is_warm: bool,
}

impl Peers {
    /// Starts what is in `directory`. This thread must not be pinned: processes inherit that.
    pub(super) fn start(directory: &Path, cpus: Option<(usize, usize)>) -> Self {
        let mut peers = Self::default();
        for asked in &ASKED {
            match Program::start(directory, asked, cpus) {
                Ok((program, hello)) => peers.welcome(program, &hello),
                Err(error) => {
                    for (measure, _) in asked.measures {
                        peers.why.insert(asked.name(measure), format!("{error:#}"));
                    }
                }
            }
        }
        peers
    }

    fn welcome(&mut self, program: Program, hello: &Value) {
        for (name, version) in hello["versions"].as_object().into_iter().flatten() {
            self.versions.insert(name.clone(), version.clone());
        }
        for (measure, _) in program.asked.measures {
            if let Some(why) = hello["absent"][measure].as_str() {
                self.why.insert(program.asked.name(measure), why.to_owned());
            }
        }
        self.programs.push(program);
    }

    /// One round of everything; `messages` is the size of one of ours. Whatever of this process polls on the measured
    /// CPUs must rest meanwhile.
    fn ask_all(&mut self, messages: u64) {
        for program in &mut self.programs {
            for (measure, thousandths) in program.asked.measures {
                if !program.measures.iter().any(|name| name == measure) {
                    continue;
                }
                let messages = (messages * thousandths / 1000).max(1);
                let name = program.asked.name(measure);
                match program.ask(&format!("{measure} {messages}")) {
                    Ok(figures) => self.rounds.entry(name).or_default().push(figures),
                    Err(error) => {
                        // What failed once is not asked again, and nothing of a program that is gone.
                        program.measures.retain(|name| program.input.is_some() && name != measure);
                        self.why.insert(name, format!("{error:#}"));
                    }
                }
            }
        }
    }

    /// The median of the rounds, figure by figure: `MEASURE_FIGURE`, `null` with a reason in `why` where there is none.
    fn report(&self) -> Value {
        let (mut report, mut spread) = (Map::new(), Map::new());
        let mut why = self.why.clone();
        let names = ASKED.iter().flat_map(|asked| asked.measures.iter().map(|m| asked.name(m.0)));
        for name in names {
            let rounds = self.rounds.get(&name).filter(|_| !self.why.contains_key(&name));
            for figure in FIGURES {
                let of = |round: &Value| round[figure].as_f64();
                let values: Vec<f64> = rounds.into_iter().flatten().filter_map(of).collect();
                if let Some(value) = median(values.clone()) {
                    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    report.insert(format!("{name}_{figure}"), json!(value));
                    spread.insert(format!("{name}_{figure}"), json!([least, greatest]));
                }
            }
            if rounds.is_none() {
                report.insert(format!("{name}_p50_ns"), Value::Null);
                why.entry(name).or_insert_with(|| "the installed program lacks it".to_owned());
            }
        }
        report.insert("spread".to_owned(), Value::Object(spread));
        report.insert("versions".to_owned(), json!(self.versions));
        report.insert("why".to_owned(), json!(why));
        Value::Object(report)
    }
}

/// The figures of each round stay here, because which there are is for the programs to say.
impl Part for Peers {
    fn round(&mut self, messages: u64) -> anyhow::Result<Vec<Figure>> {
        if !self.is_warm {
            self.is_warm = true;
            self.ask_all(messages);
            self.rounds.clear();
            return Ok(Vec::new());
        }
        self.ask_all(messages);
        Ok(Vec::new())
    }

    fn describe(&self, report: &mut Value) {
        report["peers"] = self.report();
        let critical_ns = report["classes"]["critical"]["p50_ns"].as_f64();
        if let (Some(ours), Some(theirs)) =
            (critical_ns, report["peers"]["iceoryx2_p50_ns"].as_f64())
        {
            report["peers"]["critical_to_iceoryx2"] = json!(ours / theirs);
        }
    }
}

impl Asked {
    fn name(&self, measure: &str) -> String {
        format!("{measure}{}", self.suffix)
    }
}

impl Program {
    fn start(
        directory: &Path,
        asked: &'static Asked,
        cpus: Option<(usize, usize)>,
    ) -> anyhow::Result<(Self, Value)> {
        let name = asked.program;
        ensure!(cpus.is_some() || !asked.on_one_cpu, "there is only one CPU anyway");
        let path = std::path::absolute(directory)?.join("bin").join(name);
        ensure!(path.is_file(), "`{name}` is not installed: `make peers` does it");
        let scratch = Scratch::create(name).context("no scratch directory")?;
        let mut command = Command::new(path);
        command.arg("serve").arg(&scratch.0);
        command.args(cpus.map(|(first, second)| {
            format!("{},{second}", if asked.on_one_cpu { second } else { first })
        }));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut process = command.spawn().context("cannot start it")?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let output = BufReader::new(output.context("the program has no output")?);
        let mut program =
            Self { process, input, output, asked, measures: Vec::new(), _scratch: scratch };
        let hello = program.answer()?;
        let measures = hello["measures"].as_array().into_iter().flatten();
        program.measures = measures.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        Ok((program, hello))
    }

    fn ask(&mut self, round: &str) -> anyhow::Result<Value> {
        let input = self.input.as_mut().context("the program was ended")?;
        let answer = writeln!(input, "{round}").map_err(Into::into).and_then(|()| self.answer());
        let Ok(answer) = answer else {
            // Without its input it ends, and nobody waits for it again.
            self.input = None;
            return answer;
        };
        match answer["why"].as_str() {
            Some(why) => bail!("{why}"),
            None => Ok(answer),
        }
    }

    /// One line; the program says nothing unasked, so the reader holds nothing before it.
    fn answer(&mut self) -> anyhow::Result<Value> {
        wait_for(self.output.get_ref(), ANSWER_TIME_MAX)?;
        let mut line = String::new();
        let length = self.output.read_line(&mut line)?;
        ensure!(length > 0, "the program ended early");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.input = None;
        // Its output ends with it. Whatever it says until then is for nobody.
        let _ = wait_for(self.output.get_ref(), END_TIME_MAX);
        // Both fail where the program did what it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Scratch {
    fn create(name: &str) -> std::io::Result<Self> {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(SCRATCH_PARENT).join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Until there is something to read, or the end of it.
fn wait_for(output: &ChildStdout, time: Duration) -> anyhow::Result<()> {
    let time = Timespec { tv_sec: time.as_secs().try_into()?, tv_nsec: 0 };
    let mut polled = [PollFd::new(output, PollFlags::IN)];
    let ready = loop {
        match poll(&mut polled, Some(&time)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => break ready?,
        }
    };
    ensure!(ready > 0, "no answer in {} s", time.tv_sec);
    Ok(())
}

#[cfg(test)]
mod tests;
