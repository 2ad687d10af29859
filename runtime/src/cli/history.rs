//! `bolide history --export FILE`: the log for auditors and programs. All of it, or the file stays as it was.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use agents_packager::api::{HistoryAnswer, HistoryEntry, HistoryRequest};
use agents_packager::error::Error;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output;
use super::packages::Asker;

/// One line.
#[derive(Serialize)]
struct Line<'e> {
    schema: &'static str,
    #[serde(flatten)]
    entry: &'e HistoryEntry,
}

/// Asks for one answer after the other and writes their entries. What begins meanwhile is not in it.
pub(super) fn export(asker: &mut Asker, all: bool, file: &Path) -> Result<Exit, Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&name);
    let failed =
        |error: std::io::Error| agents_contract::ToolError::from(Error::io("write", file, &error));
    let written = write(asker, all, part, &failed).and_then(|count| {
        std::fs::rename(part, file).map_err(failed)?;
        Ok(count)
    });
    match written {
        Ok(count) => {
            output::print(&format!("{count} transactions\n"))?;
            Ok(Exit::Done)
        }
        Err(error) => {
            let _ = std::fs::remove_file(part);
            Err(error.into())
        }
    }
}

fn write(
    asker: &mut Asker,
    all: bool,
    part: &Path,
    failed: &impl Fn(std::io::Error) -> agents_contract::ToolError,
) -> Result<usize, agents_contract::ToolError> {
    // It names people and places: nobody else's business, like the log itself.
    let mut options = OpenOptions::new();
    let opened: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(part).map_err(failed)?;
    let mut writer = BufWriter::new(opened);
    let mut request = HistoryRequest { all, details: true, before: None };
    let mut count = 0;
    loop {
        let answer: HistoryAnswer = asker.ask("pkg.history", &request)?;
        for entry in &answer.transactions {
            let line = Line { schema: "bolide.history-entry/1", entry };
            serde_json::to_writer(&mut writer, &line).map_err(|error| failed(error.into()))?;
            writer.write_all(b"\n").map_err(failed)?;
            count += 1;
        }
        let last = answer.transactions.last();
        match last.filter(|_| answer.has_more) {
            Some(last) => request.before = Some(last.transaction.clone()),
            None => break,
        }
    }
    let opened = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    opened.sync_all().map_err(failed)?;
    Ok(count)
}
