//! One tar header and the extension headers before it, with every contradiction between them
//! refused. Pure.

use super::BLOCK_BYTES;
use crate::unpack::{Refusal, printable};

/// What an entry is, as far as a package may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Directory,
    Link,
    Pax,
    PaxGlobal,
    GnuLongName,
    GnuLongLink,
}

/// The fields that matter.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) kind: Type,
    pub(super) size: u64,
    pub(super) mode: u32,
    path: Vec<u8>,
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Self, Refusal> {
        verify_checksum(block)?;
        let name = until_nul(&block[..100]);
        let ustar = &block[257..265] == b"ustar\x0000";
        let gnu = &block[257..265] == b"ustar  \0";
        if !ustar && !gnu && block[257..265].iter().any(|byte| *byte != 0) {
            return Err(Refusal::malformed("a header has an unknown format"));
        }
        let prefix = if ustar { until_nul(&block[345..500]) } else { &[] };
        let path = match prefix {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        };
        let kind = match block[156] {
            // Archives from before POSIX mark a directory by the end of its name only. For a '0' it is the whole name
            // that counts, which comes with the extensions: what stands here may be cut behind a slash.
            0 if path.ends_with(b"/") => Type::Directory,
            0 | b'0' => Type::File,
            b'5' => Type::Directory,
            b'1' | b'2' => Type::Link,
            b'x' => Type::Pax,
            b'g' => Type::PaxGlobal,
            b'L' => Type::GnuLongName,
            b'K' => Type::GnuLongLink,
            other => return Err(not_a_file(&path, other)),
        };
        let size = octal(&block[124..136])
            .ok_or_else(|| Refusal::malformed("a header has an unusable size"))?;
        let mode = octal(&block[100..108]).unwrap_or(0o644) as u32;
        Ok(Self { kind, size, mode, path })
    }
}

fn not_a_file(path: &[u8], kind: u8) -> Refusal {
    let what = match kind {
        b'3' | b'4' => "device",
        b'6' => "named pipe",
        b'S' => "sparse file",
        b'M' => "continuation of another volume",
        _ => "thing of an unknown type",
    };
    Refusal::NotAFile { name: printable(path), what }
}

/// What the extension headers before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Extension {
    pax: bool,
    pax_path: Option<Vec<u8>>,
    pax_size: Option<u64>,
    gnu_path: Option<Vec<u8>>,
    gnu_link: bool,
}

impl Extension {
    /// Takes in a pax header. Of what it may say only the path and the size matter for a package.
    pub(super) fn pax(&mut self, body: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.pax, true) {
            return Err(Refusal::malformed("an entry has two extended headers"));
        }
        for record in records(body) {
            let (key, value) = record?;
            match key {
                b"path" => set(&mut self.pax_path, value.to_vec())?,
                b"size" => {
                    let size = decimal(value).ok_or_else(|| {
                        Refusal::malformed("an extended header has an unusable size")
                    })?;
                    set(&mut self.pax_size, size)?;
                }
                b"hdrcharset" if value != b"ISO-IR 10646 2000 UTF-8" => {
                    return Err(Refusal::malformed(
                        "an extended header has another character set than UTF-8",
                    ));
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Refusal::malformed("an extended header describes a sparse file"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn gnu_long_name(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let path = body.strip_suffix(b"\0").unwrap_or(body);
        set(&mut self.gnu_path, path.to_vec())
    }

    pub(super) fn gnu_long_link(&mut self) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.gnu_link, true) {
            true => Err(Refusal::malformed("an entry has two long link names")),
            false => Ok(()),
        }
    }

    /// Extensions describe the next entry, so the end of the archive must not come instead of it.
    pub(super) fn nothing_pending(&self) -> Result<(), Refusal> {
        if self.pax || self.gnu_path.is_some() || self.gnu_link {
            return Err(Refusal::malformed("an extended header has no entry"));
        }
        Ok(())
    }

    /// The path of the entry, after all of its headers agreed; and whether it is a directory by its name.
    pub(super) fn apply(self, header: &mut Header) -> Result<Vec<u8>, Refusal> {
        let is_long = self.pax_path.is_some() || self.gnu_path.is_some();
        let path = match (self.pax_path, self.gnu_path) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                return Err(Refusal::Disagree { name: printable(&pax), what: "the name" });
            }
            (Some(path), _) | (None, Some(path)) => path,
            (None, None) => header.path.clone(),
        };
        if self.pax_size.is_some_and(|size| size != header.size) {
            return Err(Refusal::Disagree { name: printable(&path), what: "the size" });
        }
        if header.kind == Type::File && path.ends_with(b"/") {
            // Whoever looks at the short name only sees a file.
            if is_long {
                return Err(Refusal::name(&path, "is a file that is named like a directory"));
            }
            header.kind = Type::Directory;
        }
        Ok(path)
    }
}

/// A global header may carry a comment (git writes the commit there), but nothing that changes
/// entries.
pub(super) fn global(body: &[u8]) -> Result<(), Refusal> {
    for record in records(body) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset")
            || key.starts_with(b"GNU.sparse")
        {
            return Err(Refusal::malformed("a global header changes all entries"));
        }
    }
    Ok(())
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        Some(_) => Err(Refusal::malformed("an extended header says the same thing twice")),
        None => Ok(()),
    }
}

/// The records `LENGTH KEY=VALUE\n`, where LENGTH counts all of the record.
fn records(mut body: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Refusal>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let record = split_record(body);
        match record {
            Some((key, value, rest)) => {
                body = rest;
                Some(Ok((key, value)))
            }
            None => {
                body = &[];
                Some(Err(Refusal::malformed("an extended header cannot be read")))
            }
        }
    })
}

fn split_record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&body[..space])?).ok()?;
    let record = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &body[length..]))
}

fn verify_checksum(block: &[u8; BLOCK_BYTES]) -> Result<(), Refusal> {
    let counted = block.iter().enumerate().map(|(index, byte)| match index {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    match octal(&block[148..156]) {
        Some(expected) if expected == counted.sum::<u64>() => Ok(()),
        _ => Err(Refusal::malformed("a header has a wrong checksum")),
    }
}

/// An octal number with blanks before and blanks or NULs behind. The binary form is refused: it
/// exists for files of more than 8 GiB.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| *byte != b' ')?;
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    if end == 0 || digits[end..].iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits[..end].iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}
