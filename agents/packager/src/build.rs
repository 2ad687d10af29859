//! Wheels made of source archives, where somebody asked for that by name: whoever published the archive decides what runs then, so it runs
//! in a sandbox and nowhere else. Not who decides what is built, and of what: that is [`operations`](crate::operations)'.
//!
//! Three processes, one inside of the other:
//! 1. The Packager starts [`helper`] and tells it what to run ([`Order`]); it hears how that ended ([`Report`]), and no more.
//! 2. The helper goes into name spaces of its own, or ends, starts the worker, reads what it prints, looks after time,
//!    files and processes, and ends all of them. It ends when the Packager lets go of its standard input, as it does by dying.
//! 3. The worker locks itself in ([`sandbox`]) and becomes the interpreter. It dies with the helper.
//!
//! What comes out is a directory in which anything may lie. Nothing in it is opened before all processes have ended, and the wheel
//! found there is read like any that a stranger published.

pub mod helper;
pub(crate) mod project;
pub(crate) mod remembered;
pub mod run;
pub(crate) mod said;
mod sandbox;
pub(crate) mod tree;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What is to be run, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The only directory in which it may write; absolute, without links.
    pub work: PathBuf,
    /// Where it begins; below [`Self::work`].
    pub directory: PathBuf,
    /// Where [`Self::directory`] is to be seen, too, and begun: the place of which it is a copy.
    pub shown: Option<PathBuf>,
    /// What it may read and run beside the system's own programs and libraries.
    pub readable: Vec<PathBuf>,
    /// All of its environment variables.
    pub variables: Vec<(String, String)>,
}

/// What a build may take.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Processor time of each process.
    pub processor_seconds: u64,
    /// Memory of each process.
    pub memory_bytes: u64,
    /// One file.
    pub file_bytes: u64,
    /// All files together.
    pub disk_bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Processes at once.
    pub processes: usize,
    /// What it prints.
    pub output_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            time: limits::BUILD_TIME_MAX,
            processor_seconds: limits::BUILD_PROCESSOR_SECONDS_MAX,
            memory_bytes: limits::BUILD_MEMORY_BYTES_MAX,
            file_bytes: limits::BUILD_FILE_BYTES_MAX,
            disk_bytes: limits::BUILD_DISK_BYTES_MAX,
            files: limits::BUILD_FILES_MAX,
            processes: limits::BUILD_PROCESSES_MAX,
            output_bytes: limits::BUILD_OUTPUT_BYTES_MAX,
        }
    }
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How.
    pub ended: Ended,
    /// The end of what it printed.
    pub tail: String,
}

/// Why a build is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It took more than it may; of what.
    Limit(String),
    /// There is no sandbox, and nothing was run; why.
    Unable(String),
}
