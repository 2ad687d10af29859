//! Reading versions one after the other: mostly the members of one stand in the one before, word for word.

use std::rc::Rc;

use serde::de::DeserializeSeed;
use serde_json::{Deserializer, Error};

use super::walk::{Member, Walk, said, text};
use super::{Directories, Dist, RawVersion, Tables, Versions};
use crate::io::lenient::{Accept, Borrow, Fill, Lend, Lenient};
use crate::io::limits::{MEMBERS_MAX, VERSIONS_MAX};

/// Members of the version before among which one is looked for that is not where it is expected.
const AHEAD_MAX: usize = 8;

/// Reads a value into where it belongs.
pub(super) fn fill<T: Accept>(place: &mut T, value: &[u8]) -> Result<(), Error> {
    let mut deserializer = Deserializer::from_slice(value);
    Fill(place).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The same for what keeps texts where they stand.
pub(super) fn lend<'de, T: Borrow<'de>>(place: &mut T, value: &'de [u8]) -> Result<(), Error> {
    let mut deserializer = Deserializer::from_slice(value);
    Lend(place).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// What a member of a version is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Dependencies,
    OptionalDependencies,
    PeerDependencies,
    PeerDependenciesMeta,
    Bundled,
    Bin,
    Engines,
    Os,
    Cpu,
    Libc,
    HasInstallScript,
    Gypfile,
    Scripts,
    License,
    Deprecated,
    Dist,
    /// Registries say in `bin` what comes of it.
    Directories,
    /// Nothing that anybody needs.
    Other,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        match name {
            b"dependencies" => Self::Dependencies,
            b"optionalDependencies" => Self::OptionalDependencies,
            b"peerDependencies" => Self::PeerDependencies,
            b"peerDependenciesMeta" => Self::PeerDependenciesMeta,
            b"bundleDependencies" | b"bundledDependencies" => Self::Bundled,
            b"bin" => Self::Bin,
            b"engines" => Self::Engines,
            b"os" => Self::Os,
            b"cpu" => Self::Cpu,
            b"libc" => Self::Libc,
            b"hasInstallScript" => Self::HasInstallScript,
            b"gypfile" => Self::Gypfile,
            b"scripts" => Self::Scripts,
            b"license" => Self::License,
            b"deprecated" => Self::Deprecated,
            b"dist" => Self::Dist,
            b"directories" => Self::Directories,
            _ => Self::Other,
        }
    }

    /// Whether [`Tables`] has it.
    fn is_of_tables(self) -> bool {
        !matches!(self, Self::Deprecated | Self::Dist | Self::Directories | Self::Other)
    }
}

/// A member as it stood in a version.
struct Stood<'de> {
    member: Member<'de>,
    field: Field,
    /// Whether it stood in the version before, word for word.
    is_again: bool,
}

/// Reads versions one after the other.
#[derive(Default)]
pub(super) struct Reader<'de> {
    /// The members of the version that was read last, and its tables.
    before: Vec<Stood<'de>>,
    tables: Rc<Tables<'de>>,
}

impl<'de> Reader<'de> {
    /// Adds the versions of the object that stands here, if it is one.
    pub(super) fn versions(
        &mut self,
        walk: &mut Walk<'de>,
        versions: &mut Versions<'de>,
    ) -> Result<(), Error> {
        let mut has_more = walk.enter()?;
        while has_more {
            let number = text(walk.name()?)?;
            if versions.len() >= VERSIONS_MAX {
                return Err(too_many(VERSIONS_MAX, "versions"));
            }
            versions.push((number, self.version(walk)?));
            has_more = walk.has_more()?;
        }
        Ok(())
    }

    /// The version that stands here; one of nothing where that is no object.
    pub(super) fn version(&mut self, walk: &mut Walk<'de>) -> Result<RawVersion<'de>, Error> {
        let before = std::mem::take(&mut self.before);
        let mut now: Vec<Stood<'_>> = Vec::with_capacity(before.len());
        let (mut version, mut expected) = (RawVersion::default(), 0);
        let mut has_more = walk.enter()?;
        while has_more {
            if now.len() >= MEMBERS_MAX {
                return Err(too_many(MEMBERS_MAX, "members in a version"));
            }
            let (member, is_expected) = walk.member(before.get(expected).map(|one| one.member))?;
            let mut ahead = before[expected..].iter().take(AHEAD_MAX);
            let known = match is_expected {
                true => Some(0),
                false => ahead.position(|one| one.member.is_named_as(&member)),
            };
            let (field, is_again) = match known.map(|ahead| &before[expected + ahead]) {
                Some(same) => (same.field, is_expected || same.member.value == member.value),
                None => (Field::of(&member.name()?), false),
            };
            expected += known.map_or(0, |ahead| ahead + 1);
            match field {
                Field::Deprecated => fill(&mut version.deprecated, member.value)?,
                Field::Dist => version.dist.read(member.value)?,
                _ => {}
            }
            now.push(Stood { member, field, is_again });
            has_more = walk.has_more()?;
        }
        if !has_same_tables(&before, &now) {
            self.tables = Rc::new(Tables::read(&now)?);
        }
        self.before = now;
        version.tables = Rc::clone(&self.tables);
        Ok(version)
    }

    /// Where the version that was read last has its commands.
    pub(super) fn directories(&self) -> Result<Directories, Error> {
        let mut directories = Directories::default();
        for one in self.before.iter().filter(|one| one.field == Field::Directories) {
            fill(&mut directories, one.member.value)?;
        }
        Ok(directories)
    }
}

fn too_many(count: usize, what: &str) -> Error {
    serde::de::Error::custom(format!("it has more than {count} {what}"))
}

/// Whether the tables of two versions that follow each other consist of the same members.
fn has_same_tables(before: &[Stood<'_>], now: &[Stood<'_>]) -> bool {
    fn of_tables<'a, 'de>(members: &'a [Stood<'de>]) -> impl Iterator<Item = &'a Stood<'de>> {
        members.iter().filter(|one| one.field.is_of_tables())
    }
    of_tables(now).all(|one| one.is_again) && of_tables(now).count() == of_tables(before).count()
}

impl<'de> Tables<'de> {
    fn read(members: &[Stood<'de>]) -> Result<Self, Error> {
        let mut tables = Self::default();
        for Stood { member: Member { value, .. }, field, .. } in members {
            match field {
                Field::Dependencies => lend(&mut tables.dependencies, value)?,
                Field::OptionalDependencies => lend(&mut tables.optional_dependencies, value)?,
                Field::PeerDependencies => lend(&mut tables.peer_dependencies, value)?,
                Field::PeerDependenciesMeta => fill(&mut tables.peer_dependencies_meta, value)?,
                Field::Bundled => fill(&mut tables.bundled, value)?,
                Field::Bin => fill(&mut tables.bin, value)?,
                Field::Engines => fill(&mut tables.engines, value)?,
                Field::Os => fill(&mut tables.os, value)?,
                Field::Cpu => fill(&mut tables.cpu, value)?,
                Field::Libc => fill(&mut tables.libc, value)?,
                Field::HasInstallScript => fill(&mut tables.has_install_script, value)?,
                Field::Gypfile => fill(&mut tables.gypfile, value)?,
                Field::Scripts => fill(&mut tables.scripts, value)?,
                Field::License => fill(&mut tables.license, value)?,
                Field::Deprecated | Field::Dist | Field::Directories | Field::Other => {}
            }
        }
        Ok(tables)
    }
}

impl<'de> Dist<'de> {
    /// What is not a text is no address and no digest.
    fn read(&mut self, value: &'de [u8]) -> Result<(), Error> {
        let mut walk = Walk::new(value);
        let mut has_more = walk.enter()?;
        while has_more {
            let (name, value) = (walk.name()?, walk.value()?);
            let is_text = value.starts_with(b"\"");
            match &*said(name)? {
                b"tarball" if is_text => self.tarball = Some(text(value)?),
                b"integrity" if is_text => self.integrity = Some(text(value)?),
                b"unpackedSize" => {
                    let Lenient(size) = serde_json::from_slice::<Lenient<Option<u64>>>(value)?;
                    self.unpacked_size = size.or(self.unpacked_size);
                }
                _ => {}
            }
            has_more = walk.has_more()?;
        }
        Ok(())
    }
}
