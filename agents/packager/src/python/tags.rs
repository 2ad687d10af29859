//! Compatibility tags in the order in which installers prefer them: PEP 425, 600 and 656, as `packaging` has it.

use serde::Deserialize;

use crate::limits::TAGS_MAX;

/// What decides the interpreter and ABI parts of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abi {
    /// `sys.implementation.name`.
    pub implementation: String,
    /// Major and minor.
    pub version: (u64, u64),
    /// Whether it was built with `Py_DEBUG`.
    pub is_debug: bool,
    /// Whether it was built without the global lock.
    pub is_free_threaded: bool,
    /// `EXT_SUFFIX`, from which other implementations' ABI is read.
    pub extension_suffix: Option<String>,
}

/// What decides the platform part of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `sysconfig.get_platform()`.
    pub name: String,
    /// Whether the interpreter is a 32-bit program.
    pub is_32bit: bool,
    /// The C library.
    pub libc: Option<Libc>,
    /// The executable's header.
    pub elf: Option<Elf>,
    /// What the distribution vetoes.
    pub overrides: Option<Overrides>,
}

/// A C library with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// glibc, major and minor.
    Glibc(u32, u32),
    /// musl, major and minor.
    Musl(u32, u32),
}

/// What the interpreter's ELF header says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Elf {
    /// 32 or 64.
    pub bits: u32,
    /// `e_machine`.
    pub machine: u32,
    /// `e_flags`.
    pub flags: u32,
}

/// The answers of a `_manylinux` module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Overrides {
    /// Versions of glibc that are vetoed.
    #[serde(default)]
    pub versions: Vec<(u32, u32)>,
    /// Whether manylinux1 is fine.
    pub manylinux1_compatible: Option<bool>,
    /// Whether manylinux2010 is fine.
    pub manylinux2010_compatible: Option<bool>,
    /// Whether manylinux2014 is fine.
    pub manylinux2014_compatible: Option<bool>,
}

impl Libc {
    /// From `2.36` (a vendor's suffix is ignored).
    pub(super) fn glibc(text: &str) -> Option<Self> {
        version(text).map(|(major, minor)| Libc::Glibc(major, minor))
    }

    /// From `1.2.3`.
    pub(super) fn musl(text: &str) -> Option<Self> {
        version(text).map(|(major, minor)| Libc::Musl(major, minor))
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim().split_once('.')?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

/// Every tag that a wheel may have, the best first, without repetition.
pub fn compatible_tags(abi: &Abi, platform: &Platform) -> Vec<String> {
    let platforms = platforms(platform);
    let mut tags = Tags { tags: Vec::new(), seen: std::collections::HashSet::new() };
    let (major, minor) = abi.version;
    let (short, is_cpython) = match abi.implementation.as_str() {
        "cpython" => ("cp", true),
        "pypy" => ("pp", false),
        "ironpython" => ("ip", false),
        "jython" => ("jy", false),
        "python" => ("py", false),
        other => (other, false),
    };
    let interpreter = format!("{short}{major}{minor}");
    if is_cpython {
        cpython(abi, &interpreter, &platforms, &mut tags);
    } else {
        let own = abi.extension_suffix.as_deref().and_then(generic_abi);
        for abi in own.as_deref().into_iter().chain(["none"]) {
            tags.each(&interpreter, abi, &platforms);
        }
    }
    let versions: Vec<_> = std::iter::once(format!("py{major}{minor}"))
        .chain([format!("py{major}")])
        .chain((0..minor).rev().map(|minor| format!("py{major}{minor}")))
        .collect();
    for version in &versions {
        tags.each(version, "none", &platforms);
    }
    let own = match abi.implementation.as_str() {
        "cpython" => Some(interpreter),
        "pypy" => Some("pp3".to_owned()),
        _ => None,
    };
    for version in own.iter().chain(&versions) {
        tags.push(format!("{version}-none-any"));
    }
    tags.tags
}

struct Tags {
    tags: Vec<String>,
    seen: std::collections::HashSet<String>,
}

impl Tags {
    fn push(&mut self, tag: String) {
        if self.tags.len() < TAGS_MAX && self.seen.insert(tag.clone()) {
            self.tags.push(tag);
        }
    }

    fn each(&mut self, interpreter: &str, abi: &str, platforms: &[String]) {
        for platform in platforms {
            self.push(format!("{interpreter}-{abi}-{platform}"));
        }
    }
}

fn cpython(abi: &Abi, interpreter: &str, platforms: &[String], tags: &mut Tags) {
    let (major, minor) = abi.version;
    let threading = if abi.is_free_threaded && minor >= 13 { "t" } else { "" };
    // Until 3.7 the allocator was part of the ABI's name.
    let allocator = if minor < 8 { "m" } else { "" };
    if abi.is_debug {
        tags.each(interpreter, &format!("{interpreter}{threading}d{allocator}"), platforms);
    }
    if !abi.is_debug || minor >= 8 {
        tags.each(interpreter, &format!("{interpreter}{threading}{allocator}"), platforms);
    }
    let has_stable_abi = threading.is_empty();
    if has_stable_abi {
        tags.each(interpreter, "abi3", platforms);
    }
    tags.each(interpreter, "none", platforms);
    if has_stable_abi {
        for older in (2..minor).rev() {
            tags.each(&format!("cp{major}{older}"), "abi3", platforms);
        }
    }
}

/// `.pypy310-pp73-x86_64-linux-gnu.so` names the ABI `pypy310_pp73`; `.graalpy-38-native-...` `graalpy_38_native`.
fn generic_abi(suffix: &str) -> Option<String> {
    let tag = suffix.strip_prefix('.')?.split('.').next()?;
    let parts: Vec<_> = tag.split('-').collect();
    let length = match parts.first()? {
        first if first.starts_with("pypy") => 2,
        first if first.starts_with("graalpy") => 3,
        first if !first.is_empty() => 1,
        _ => return None,
    };
    Some(parts.get(..length)?.join("_").replace('.', "_"))
}

/// `macosx_13_0_arm64`: what runs there, down to the oldest system. From 11 on, only the first number counts.
fn macos(name: &str) -> Option<Vec<String>> {
    let mut parts = name.strip_prefix("macosx_")?.splitn(3, '_');
    let (major, minor) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let machine = parts.next()?;
    let formats: &[&str] = match machine {
        "x86_64" => &["x86_64", "intel", "fat64", "fat32", "universal2", "universal"],
        "arm64" => &["arm64", "universal2"],
        _ => return None,
    };
    // Systems of the tenth line before 10.4 did not run on these machines.
    let tenth = |from: u32| (4..=from).rev().map(|minor| (10, minor));
    let versions: Vec<(u32, u32)> = match major {
        10 => tenth(minor).collect(),
        11..=99 => (11..=major).rev().map(|major| (major, 0)).chain(tenth(16)).collect(),
        _ => return None,
    };
    let mut found = Vec::new();
    for (major, minor) in versions {
        for format in formats {
            // Machines of the newer kind run what was made for the tenth line only where it was made for both.
            if machine == "arm64" && major == 10 && *format != "universal2" {
                continue;
            }
            found.push(format!("macosx_{major}_{minor}_{format}"));
        }
    }
    Some(found)
}

/// glibc versions whose manylinux has a name of its own, newest first.
const LEGACY: [((u32, u32), &str); 3] =
    [((2, 17), "manylinux2014"), ((2, 12), "manylinux2010"), ((2, 5), "manylinux1")];

fn platforms(platform: &Platform) -> Vec<String> {
    let name = platform.name.replace(['-', '.', ' '], "_");
    let Some(machine) = name.strip_prefix("linux_") else {
        return macos(&name).unwrap_or_else(|| vec![name]);
    };
    let machine = match (machine, platform.is_32bit) {
        ("x86_64", true) => "i686",
        ("aarch64", true) => "armv8l",
        (machine, _) => machine,
    };
    let machines: &[&str] = if machine == "armv8l" { &["armv8l", "armv7l"] } else { &[machine] };
    let mut found = Vec::new();
    match platform.libc {
        Some(Libc::Glibc(major, minor)) if has_manylinux_abi(machine, platform.elf.as_ref()) => {
            let is_intel = machines.iter().any(|machine| matches!(*machine, "x86_64" | "i686"));
            // Nothing older was ever built for.
            let oldest = if is_intel { 5 } else { 17 };
            for machine in machines {
                manylinux(machine, (major, minor), oldest, platform.overrides.as_ref(), &mut found);
            }
        }
        Some(Libc::Musl(major, minor)) => {
            for machine in machines {
                let tag = |minor| format!("musllinux_{major}_{minor}_{machine}");
                found.extend((0..=minor).rev().map(tag));
            }
        }
        _ => {}
    }
    found.extend(machines.iter().map(|machine| format!("linux_{machine}")));
    found
}

fn manylinux(
    machine: &str,
    (major, minor): (u32, u32),
    oldest: u32,
    overrides: Option<&Overrides>,
    found: &mut Vec<String>,
) {
    for minor in (oldest..=minor).rev() {
        let version = (major, minor);
        let legacy = LEGACY.iter().find(|(legacy, _)| *legacy == version);
        if is_vetoed(version, overrides) {
            continue;
        }
        found.push(format!("manylinux_{major}_{minor}_{machine}"));
        if let Some((_, name)) = legacy {
            found.push(format!("{name}_{machine}"));
        }
    }
}

fn is_vetoed(version: (u32, u32), overrides: Option<&Overrides>) -> bool {
    let Some(overrides) = overrides else { return false };
    let named = match version {
        (2, 5) => overrides.manylinux1_compatible,
        (2, 12) => overrides.manylinux2010_compatible,
        (2, 17) => overrides.manylinux2014_compatible,
        _ => None,
    };
    overrides.versions.contains(&version) || named == Some(false)
}

/// Whether the interpreter is built as manylinux wheels expect: for 32 bits, the right calling convention.
fn has_manylinux_abi(machine: &str, elf: Option<&Elf>) -> bool {
    const EM_386: u32 = 3;
    const EM_ARM: u32 = 40;
    const ARM_EABI5_HARD_FLOAT: u32 = 0x0500_0400;
    match machine {
        "armv7l" | "armv8l" => elf.is_some_and(|elf| {
            let eabi = elf.flags & ARM_EABI5_HARD_FLOAT == ARM_EABI5_HARD_FLOAT;
            elf.bits == 32 && elf.machine == EM_ARM && eabi
        }),
        "i686" => elf.is_some_and(|elf| elf.bits == 32 && elf.machine == EM_386),
        "x86_64" | "aarch64" | "ppc64" | "ppc64le" | "s390x" | "loongarch64" | "riscv64" => true,
        _ => false,
    }
}
