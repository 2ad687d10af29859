//! Wheels: zip archives with a list of their files.
//!
//! Digests are compared with that `RECORD` while the content passes by; every file must be listed
//! there, as the specification of wheels demands.

use std::collections::HashMap;
use std::io::Read;

use super::record::{self, Line};
use super::source::Source;
use super::zip::{Content, Member, Zip};
use super::{Entry, Refusal};
use crate::limits;

/// What the names inside a wheel say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `name-version`, the stem of `.dist-info`.
    pub stem: String,
    /// The name as the wheel spells it.
    pub name: String,
    /// The version as the wheel spells it.
    pub version: String,
}

/// A wheel whose directory was checked and whose `RECORD` was read.
pub struct Wheel<'a> {
    zip: Zip<'a>,
    identity: Identity,
    record: HashMap<String, Line>,
}

impl<'a> Wheel<'a> {
    /// Reads the directory, compares it with the headers in front of the files, and reads `RECORD`.
    pub fn open(source: Source<'a>) -> Result<Self, Refusal> {
        let zip = Zip::open(source)?;
        let identity = identify(zip.members.iter().map(|member| member.name.as_str()))?;
        let mut wheel = Self { zip, identity, record: HashMap::new() };
        wheel.record = wheel.read_record()?;
        Ok(wheel)
    }

    /// What the names say.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Hands each file to `take`, in the archive's order. Returns the warnings. What `take` does
    /// not read of a file is read and verified nevertheless.
    pub fn read<E: From<Refusal>>(
        mut self,
        mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let info = format!("{}.dist-info/", self.identity.stem);
        let members = std::mem::take(&mut self.zip.members);
        for member in members.iter().filter(|member| !member.is_directory()) {
            let listed = self.record.remove(&member.name);
            let exempt = member
                .name
                .strip_prefix(&info)
                .is_some_and(|name| matches!(name, "RECORD" | "RECORD.jws" | "RECORD.p7s"));
            if listed.is_none() && !exempt {
                return Err(
                    Refusal::Disagree { name: member.name.clone(), what: "the presence" }.into()
                );
            }
            let expected = listed.filter(|_| !exempt);
            if !exempt && expected.as_ref().is_some_and(|line| line.digest.is_none()) {
                self.zip.warnings.push(format!("`RECORD` has no digest for `{}`", member.name));
            }
            let mut content = self.content(member, expected)?;
            take(member.entry(), &mut content)?;
            content.finish()?;
        }
        match self.record.into_keys().next() {
            Some(missing) => Err(Refusal::Layout(format!(
                "`RECORD` lists `{missing}`, which is not in the archive"
            ))
            .into()),
            None => Ok(self.zip.warnings),
        }
    }

    fn read_record(&self) -> Result<HashMap<String, Line>, Refusal> {
        let path = format!("{}.dist-info/RECORD", self.identity.stem);
        let member = self
            .zip
            .members
            .iter()
            .find(|member| member.name == path)
            .ok_or_else(|| Refusal::Layout("it has no `RECORD`".to_owned()))?;
        if member.size > limits::RECORD_BYTES_MAX {
            return Err(Refusal::TooMuch {
                what: "bytes in `RECORD`",
                max: limits::RECORD_BYTES_MAX,
            });
        }
        let mut text = String::new();
        let mut content = self.content(member, None)?;
        content.read_to_string(&mut text).map_err(Refusal::from_read)?;
        content.finish()?;
        let mut lines = HashMap::new();
        for line in record::parse(&text)? {
            if line.path.ends_with('/') {
                continue;
            }
            if let Some(previous) = lines.insert(line.path.clone(), line.clone())
                && previous != line
            {
                return Err(Refusal::Disagree { name: line.path, what: "`RECORD`'s digest" });
            }
        }
        Ok(lines)
    }

    fn content(&self, member: &Member, expected: Option<Line>) -> Result<Content<'a>, Refusal> {
        if expected.as_ref().and_then(|line| line.size).is_some_and(|size| size != member.size) {
            return Err(Refusal::Disagree { name: member.name.clone(), what: "the size" });
        }
        Ok(self.zip.content(member, expected.and_then(|line| line.digest)))
    }
}

/// Exactly one `.dist-info`, and no `.data` but its own: with two, tools pick different ones.
pub(super) fn identify<'n>(
    names: impl Iterator<Item = &'n str> + Clone,
) -> Result<Identity, Refusal> {
    let mut stem: Option<&str> = None;
    let tops = names.filter_map(|name| name.split_once('/')).map(|(top, _)| top);
    for found in tops.clone().filter_map(|top| top.strip_suffix(".dist-info")) {
        if *stem.get_or_insert(found) != found {
            return Err(Refusal::Layout("it has more than one `.dist-info` directory".to_owned()));
        }
    }
    let stem =
        stem.ok_or_else(|| Refusal::Layout("it has no `.dist-info` directory".to_owned()))?;
    if tops.filter_map(|top| top.strip_suffix(".data")).any(|found| found != stem) {
        return Err(Refusal::Layout("it has the `.data` directory of another package".to_owned()));
    }
    let (name, version) = stem
        .split_once('-')
        .filter(|(name, version)| !name.is_empty() && !version.contains('-'))
        .ok_or_else(|| {
            Refusal::Layout("its `.dist-info` directory is not named after a version".to_owned())
        })?;
    Ok(Identity { stem: stem.to_owned(), name: name.to_owned(), version: version.to_owned() })
}
