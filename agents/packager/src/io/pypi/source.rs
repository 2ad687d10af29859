//! What a source archive says of itself: PKG-INFO, where it may be believed without a build (PEP 643).
//!
//! Nothing of the archive is run or kept. The archive was checked against its digest before it comes here.

use std::io::Read;

use bytes::Bytes;

use super::core_metadata;
use crate::error::{Error, Kind};
use crate::io::limits::CORE_METADATA_BYTES_MAX;
use crate::unpack::{ArchiveKind, Contents, Refusal, Source, Unpacker};

/// Fields that decide what a distribution needs; if one may change in a build, only a build tells.
const DECIDING: [&str; 3] = ["requires-dist", "requires-python", "provides-extra"];
/// The first version of the format that says which fields may change in a build.
const FIRST_STATIC: (u32, u32) = (2, 2);

/// The error for an archive that has to be built before anybody knows what it needs.
pub(super) fn needs_build(file_name: &str) -> Error {
    let message = format!("`{file_name}` has to be built before its dependencies are known");
    Error::new(Kind::Failed, "needs-build", message)
        .hint("choose a version that has a wheel for this platform")
}

/// The PKG-INFO of a `.tar.gz`.
pub(super) fn package_info(
    unpacker: &Unpacker,
    archive: &[u8],
    file_name: &str,
) -> Result<Bytes, Error> {
    if !file_name.ends_with(".tar.gz") {
        // Older kinds of archive are from before the format that could be believed.
        return Err(needs_build(file_name));
    }
    // Everything lies in one folder, as npm's packages do. Links are left out.
    let (source, wanted) = (Source::Bytes(archive), Contents::Only("PKG-INFO"));
    let read = || -> Result<Option<Vec<u8>>, Refusal> {
        let mut found = None;
        unpacker.read(source, ArchiveKind::Npm, wanted, |_, content| -> Result<(), Refusal> {
            let mut text = Vec::new();
            let limit = CORE_METADATA_BYTES_MAX as u64;
            content.take(limit + 1).read_to_end(&mut text).map_err(Refusal::from_read)?;
            if text.len() as u64 > limit {
                return Err(Refusal::Layout("its PKG-INFO is too large".to_owned()));
            }
            found = Some(text);
            Ok(())
        })?;
        Ok(found)
    };
    let read = match read() {
        // It says nothing about the archive: another process reads it from the beginning.
        Err(Refusal::Helper(_)) => read(),
        read => read,
    };
    match read {
        Ok(Some(text)) => Ok(text.into()),
        Ok(None) => Err(needs_build(file_name)),
        Err(refusal @ Refusal::Helper(_)) => Err(refusal.of(file_name)),
        Err(refusal) => Err(core_metadata::bad(file_name, &refusal.to_string())),
    }
}

/// Whether the headers may be believed without a build.
pub(crate) fn is_static(headers: &[u8]) -> bool {
    let text = String::from_utf8_lossy(headers);
    let fields = || {
        text.lines().filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            Some((field.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase()))
        })
    };
    let version = fields().find(|(field, _)| field == "metadata-version").and_then(|(_, value)| {
        let (major, minor) = value.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let is_dynamic =
        |(field, value): (String, String)| field == "dynamic" && DECIDING.contains(&value.as_str());
    version.is_some_and(|version| version >= FIRST_STATIC) && !fields().any(is_dynamic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_format_that_promises_it_is_believed() {
        let head = "Metadata-Version: 2.2\nName: a\nVersion: 1\n";
        assert!(is_static(head.as_bytes()));
        assert!(is_static(format!("{head}Dynamic: License\n").as_bytes()));
        assert!(is_static(head.replace("2.2", "2.10").as_bytes()));
        assert!(is_static(head.replace("2.2", "3.0").as_bytes()));
        for text in [
            format!("{head}Dynamic: Requires-Dist\n"),
            format!("{head}dynamic:  requires-python \n"),
            format!("{head}Dynamic: License\nDynamic: Provides-Extra\n"),
            head.replace("2.2", "2.1"),
            head.replace("2.2", "two"),
            "Name: a\nVersion: 1\n".to_owned(),
            String::new(),
        ] {
            assert!(!is_static(text.as_bytes()), "{text}");
        }
    }
}
