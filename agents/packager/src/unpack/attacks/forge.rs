//! Writers of archives that lie wherever a test wants it. Not a packer: nothing here checks anything.
#![allow(missing_docs, reason = "the fields are those of the formats")]

use std::io::Write;

/// One tar entry.
#[derive(Clone)]
pub struct TarEntry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub size: Option<u64>,
    pub content: Vec<u8>,
    pub magic: [u8; 8],
}

pub fn file(name: &str, content: &[u8]) -> TarEntry {
    TarEntry {
        name: name.as_bytes().to_vec(),
        kind: b'0',
        mode: 0o644,
        size: None,
        content: content.to_vec(),
        magic: *b"ustar\x0000",
    }
}

pub fn entry(kind: u8, name: &str, content: &[u8]) -> TarEntry {
    TarEntry { kind, ..file(name, content) }
}

/// A pax header with these records.
pub fn pax(kind: u8, records: &[(&str, &str)]) -> TarEntry {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        body.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    entry(kind, "PaxHeader/x", &body)
}

impl TarEntry {
    pub fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let name = &self.name[..self.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        let mut put = |range: std::ops::Range<usize>, text: String| {
            block[range.start..range.start + text.len()].copy_from_slice(text.as_bytes());
        };
        put(100..108, format!("{:07o}\0", self.mode));
        put(124..136, format!("{:011o}\0", self.size.unwrap_or(self.content.len() as u64)));
        block[156] = self.kind;
        block[257..265].copy_from_slice(&self.magic);
        seal(&mut block);
        block
    }
}

/// Writes the checksum of a header.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The tar stream without compression and without its end.
pub fn blocks(entries: &[TarEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&entry.header());
        bytes.extend_from_slice(&entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub fn tarball(entries: &[TarEntry]) -> Vec<u8> {
    let mut bytes = blocks(entries);
    bytes.resize(bytes.len() + 1024, 0);
    gzip(&bytes)
}

/// One zip member; the central copy of each field can differ.
#[derive(Clone)]
pub struct ZipEntry {
    pub name: Vec<u8>,
    pub central_name: Option<Vec<u8>>,
    pub flags: u16,
    pub method: u16,
    pub mode: u32,
    pub content: Vec<u8>,
    /// Promised size, where it is not the true one: local and central.
    pub sizes: (Option<u32>, Option<u32>),
    pub crc: Option<u32>,
    pub extra: Vec<u8>,
    /// Bytes between this member and the next.
    pub gap: Vec<u8>,
}

pub fn member(name: &str, content: &[u8]) -> ZipEntry {
    ZipEntry {
        name: name.as_bytes().to_vec(),
        central_name: None,
        flags: 0,
        method: 8,
        mode: 0o100_644,
        content: content.to_vec(),
        sizes: (None, None),
        crc: None,
        extra: Vec::new(),
        gap: Vec::new(),
    }
}

/// How the end of a zip archive lies.
#[derive(Clone, Default)]
pub struct ZipEnd {
    pub before: Vec<u8>,
    pub between: Vec<u8>,
    pub locator: Vec<u8>,
    pub after: Vec<u8>,
    pub comment: Vec<u8>,
    pub entries: Option<u16>,
}

pub fn zip(members: &[ZipEntry], end: &ZipEnd) -> Vec<u8> {
    let mut bytes = end.before.clone();
    let mut central = Vec::new();
    for member in members {
        let start = bytes.len() as u32;
        let packed = match member.method {
            8 => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&member.content).expect("memory");
                encoder.finish().expect("memory")
            }
            _ => member.content.clone(),
        };
        let mut crc = flate2::Crc::new();
        crc.update(&member.content);
        let crc = member.crc.unwrap_or(crc.sum());
        let fields = |bytes: &mut Vec<u8>, name: &[u8], size: Option<u32>| {
            bytes.extend_from_slice(&20_u16.to_le_bytes());
            bytes.extend_from_slice(&member.flags.to_le_bytes());
            bytes.extend_from_slice(&member.method.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&crc.to_le_bytes());
            bytes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&size.unwrap_or(member.content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(member.extra.len() as u16).to_le_bytes());
        };
        bytes.extend_from_slice(b"PK\x03\x04");
        fields(&mut bytes, &member.name, member.sizes.0);
        bytes.extend_from_slice(&member.name);
        bytes.extend_from_slice(&member.extra);
        bytes.extend_from_slice(&packed);
        bytes.extend_from_slice(&member.gap);
        let name = member.central_name.as_ref().unwrap_or(&member.name);
        central.extend_from_slice(b"PK\x01\x02\x14\x03");
        fields(&mut central, name, member.sizes.1);
        central.extend_from_slice(&[0; 6]);
        central.extend_from_slice(&(member.mode << 16).to_le_bytes());
        central.extend_from_slice(&start.to_le_bytes());
        central.extend_from_slice(name);
        central.extend_from_slice(&member.extra);
    }
    bytes.extend_from_slice(&end.between);
    let directory_start = bytes.len() as u32;
    bytes.extend_from_slice(&central);
    bytes.extend_from_slice(&end.locator);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    let entries = end.entries.unwrap_or(members.len() as u16);
    bytes.extend_from_slice(&entries.to_le_bytes());
    bytes.extend_from_slice(&entries.to_le_bytes());
    bytes.extend_from_slice(&(central.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&directory_start.to_le_bytes());
    bytes.extend_from_slice(&(end.comment.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&end.comment);
    bytes.extend_from_slice(&end.after);
    bytes
}

/// The members of a wheel `demo-1.0`, with a right `RECORD` for all of `members`.
pub fn wheel_members(members: &[ZipEntry]) -> Vec<ZipEntry> {
    let mut all = members.to_vec();
    all.push(member("demo-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"));
    all.push(member(
        "demo-1.0.dist-info/METADATA",
        b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
    ));
    let mut record = String::new();
    for member in all.iter().filter(|member| !member.name.ends_with(b"/")) {
        let digest = ring::digest::digest(&ring::digest::SHA256, &member.content);
        let digest: [u8; 32] = digest.as_ref().try_into().expect("32 bytes");
        let name = String::from_utf8_lossy(&member.name);
        crate::unpack::record::push_line(
            &mut record,
            &name,
            Some((&digest, member.content.len() as u64)),
        );
    }
    crate::unpack::record::push_line(&mut record, "demo-1.0.dist-info/RECORD", None);
    all.push(member("demo-1.0.dist-info/RECORD", record.as_bytes()));
    all
}

pub fn wheel(members: &[ZipEntry]) -> Vec<u8> {
    zip(&wheel_members(members), &ZipEnd::default())
}
