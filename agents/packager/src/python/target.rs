//! What packages are resolved for where it is not the interpreter at hand: another version of Python, another platform.
//!
//! Names of platforms and what they stand for are uv's, so that one habit does for both.

use pep440_rs::Version;
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder};

use super::tags::{Abi, Libc, Platform, compatible_tags};
use super::{Interpreter, PythonTarget};
use crate::error::{Error, Kind, Result};

/// The glibc that is assumed where a name does not say one.
const GLIBC: (u32, u32) = (2, 28);
/// The musl that is assumed.
const MUSL: (u32, u32) = (1, 2);
/// The macOS that is assumed.
const MACOS: &str = "13.0";
/// The newest glibc that a name may say; beyond it every number would mean the same.
const GLIBC_MINOR_MAX: u32 = 99;

/// A platform as markers and tags see it.
#[derive(Debug)]
struct Named {
    os_name: &'static str,
    sys_platform: &'static str,
    platform_system: &'static str,
    machine: String,
    platform: Platform,
}

impl PythonTarget {
    /// The target of `base` with another version of Python, another platform, or both. What is not known of a foreign
    /// platform (its release, its version) is empty.
    ///
    /// # Errors
    /// `unknown-platform` for a name that is none, `unknown-python` for an implementation whose other versions are not known.
    pub fn elsewhere(
        base: &Interpreter,
        version: Option<&Version>,
        platform: Option<&str>,
    ) -> Result<Self> {
        let markers = &base.target.markers;
        if version.is_none() && platform.is_none() {
            return Ok(base.target.clone());
        }
        if base.implementation != "cpython" {
            let message =
                format!("only of CPython others are known, and this is {}", base.implementation);
            return Err(Error::new(Kind::Usage, "unknown-python", message)
                .hint("name a CPython with `--python`"));
        }
        let python = version.cloned().unwrap_or_else(|| base.target.python.only_release());
        let release = |at: usize| python.release().get(at).copied().unwrap_or(0);
        let full = format!("{}.{}.{}", release(0), release(1), release(2));
        let short = format!("{}.{}", release(0), release(1));
        // The version at hand may be a pre-release, which a marker may ask about.
        let full = if version.is_none() { base.target.python.to_string() } else { full };
        let named = platform.map(named).transpose()?;
        let text = |own: fn(&Named) -> &str, native: &str| match &named {
            Some(named) => own(named).to_owned(),
            None => native.to_owned(),
        };
        let markers = MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: &full,
            os_name: &text(|it| it.os_name, markers.os_name()),
            platform_machine: &text(|it| &it.machine, markers.platform_machine()),
            platform_python_implementation: "CPython",
            platform_release: &text(|_| "", markers.platform_release()),
            platform_system: &text(|it| it.platform_system, markers.platform_system()),
            platform_version: &text(|_| "", markers.platform_version()),
            python_full_version: &full,
            python_version: &short,
            sys_platform: &text(|it| it.sys_platform, markers.sys_platform()),
        });
        let markers = markers.map_err(|error| {
            Error::new(Kind::Usage, "unknown-python", format!("`{full}` is no Python: {error}"))
        })?;
        let abi = Abi {
            implementation: "cpython".to_owned(),
            version: (release(0), release(1)),
            is_debug: false,
            is_free_threaded: false,
            extension_suffix: None,
        };
        let platform = named.as_ref().map_or(&base.native, |named| &named.platform);
        let tags = compatible_tags(&abi, platform);
        let python = full.parse().unwrap_or(python);
        Ok(Self { markers, tags, python })
    }
}

fn named(name: &str) -> Result<Named> {
    known(name).ok_or_else(|| {
        let message = format!("`{name}` is not a platform that is known");
        Error::new(Kind::Usage, "unknown-platform", message).hint(
            "write `linux`, `macos`, `windows`, `x86_64-manylinux_2_28`, `aarch64-unknown-linux-musl` or the like",
        )
    })
}

fn known(name: &str) -> Option<Named> {
    let name = match name {
        "linux" => "x86_64-unknown-linux-gnu",
        "macos" => "aarch64-apple-darwin",
        "windows" => "x86_64-pc-windows-msvc",
        name => name,
    };
    let (machine, system) = name.split_once('-')?;
    match system {
        "pc-windows-msvc" => windows(machine),
        "apple-darwin" => macos(machine),
        "unknown-linux-gnu" => linux(machine, Libc::Glibc(GLIBC.0, GLIBC.1)),
        "unknown-linux-musl" => linux(machine, Libc::Musl(MUSL.0, MUSL.1)),
        "manylinux2014" => linux(machine, Libc::Glibc(2, 17)),
        system => {
            let minor = system.strip_prefix("manylinux_2_")?.parse().ok()?;
            (minor <= GLIBC_MINOR_MAX).then(|| linux(machine, Libc::Glibc(2, minor))).flatten()
        }
    }
}

fn platform(name: String, libc: Option<Libc>) -> Platform {
    Platform { name, is_32bit: false, libc, elf: None, overrides: None }
}

fn linux(machine: &str, libc: Libc) -> Option<Named> {
    let is_known = matches!(machine, "x86_64" | "aarch64" | "ppc64le" | "s390x" | "riscv64");
    is_known.then(|| Named {
        os_name: "posix",
        sys_platform: "linux",
        platform_system: "Linux",
        machine: machine.to_owned(),
        platform: platform(format!("linux-{machine}"), Some(libc)),
    })
}

fn macos(machine: &str) -> Option<Named> {
    let machine = match machine {
        "aarch64" => "arm64",
        "x86_64" => "x86_64",
        _ => return None,
    };
    Some(Named {
        os_name: "posix",
        sys_platform: "darwin",
        platform_system: "Darwin",
        machine: machine.to_owned(),
        platform: platform(format!("macosx-{MACOS}-{machine}"), None),
    })
}

fn windows(machine: &str) -> Option<Named> {
    let (machine, name) = match machine {
        "x86_64" => ("AMD64", "win-amd64"),
        "aarch64" => ("ARM64", "win-arm64"),
        "i686" => ("x86", "win32"),
        _ => return None,
    };
    Some(Named {
        os_name: "nt",
        sys_platform: "win32",
        platform_system: "Windows",
        machine: machine.to_owned(),
        platform: platform(name.to_owned(), None),
    })
}
