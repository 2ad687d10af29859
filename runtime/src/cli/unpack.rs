//! `bolide unpack`: the readers of archives by themselves, in the process that has no rights. Asks no daemon: the files are the
//! caller's, and so are the rights with which they are written.

use std::path::PathBuf;

use agents_contract::ToolError;
use agents_packager::error::{Error, Kind};
use agents_packager::unpack::into::{Unpacked, unpack};
use agents_packager::unpack::unpacker::{Program, Unpacker};
use agents_packager::unpack::{DAMAGED_ARCHIVE, HELPER_FAILED, UNSAFE_ARCHIVE};
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output;

/// `bolide unpack`
#[derive(Debug, clap::Args)]
pub(super) struct Unpack {
    /// A .tar, .tar.gz or .tgz, a .zip, a wheel or a .crate
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory that gets the files: empty, or not there yet. It is empty after a refusal.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// The same with what to do about a file of the caller: it need not be a published package, and nobody said what its digest is.
fn of_a_file(error: Error) -> Error {
    let hint = match &*error.code {
        DAMAGED_ARCHIVE => "nothing was written; get the file once more from where it came",
        UNSAFE_ARCHIVE => {
            "nothing was written; have the archive made without that, if you know who made it, or read it with a tool \
             of your own choice where it can do no harm"
        }
        HELPER_FAILED => {
            "run the command again; `bolide doctor` says whether archives can be read here"
        }
        _ => return error,
    };
    error.hint(hint)
}

impl Unpack {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let unpacker = Unpacker::with(Program::own());
        let unpacked = unpack(&unpacker, &self.file, &self.into);
        if self.json {
            output::print_json(&self.report(&unpacker, &unpacked))?;
        }
        match unpacked {
            Ok(unpacked) => {
                for warning in &unpacked.warnings {
                    output::note(&format!("warning: {warning}"));
                }
                if !self.json {
                    let Unpacked { format, files, bytes, .. } = unpacked;
                    output::print(&format!("{files} files, {bytes} bytes ({format})\n"))?;
                }
                Ok(Exit::Done)
            }
            Err(error) => Err(ToolError::from(of_a_file(error)).into()),
        }
    }

    fn report(&self, unpacker: &Unpacker, unpacked: &Result<Unpacked, Error>) -> Value {
        let done = unpacked.as_ref().ok();
        let refused = unpacked.as_ref().err().filter(|error| error.kind == Kind::Verification);
        json!({
            "schema": "bolide.unpack/1",
            "file": self.file,
            "into": self.into,
            "format": done.map(|done| done.format),
            "files": done.map(|done| done.files),
            "bytes": done.map(|done| done.bytes),
            "warnings": done.map(|done| &done.warnings),
            "error": unpacked.as_ref().err().map(|error| json!({"code": error.code, "message": error.message})),
            "refused": refused.map(|error| &error.message),
            "landlock": unpacker.isolation().map(|isolation| isolation.landlock),
        })
    }
}
