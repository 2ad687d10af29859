//! The options of a resolution on the command line, named as pip and uv name them. Files are read here, because the daemon may
//! not see what the caller sees; what everything means is the Packager's matter.

use std::io::Read;
use std::path::{Path, PathBuf};

use agents_contract::ToolError;
use agents_packager::limits::OPTION_FILE_BYTES_MAX;
use agents_packager::options::{Mode, OptionFile, Options, Prerelease};

use super::packages::tool_error;

/// What is wanted of a resolution beside its packages.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of a resolution")]
pub(crate) struct Resolution {
    /// Resolve Python packages for this version of Python, `3.12` or `3.12.4`.
    #[arg(long, value_name = "VERSION")]
    python_version: Option<String>,
    /// Resolve Python packages for this platform, as uv names them.
    #[arg(long, value_name = "PLATFORM")]
    python_platform: Option<String>,
    /// Which pre-releases count: `allow`, `disallow` or `if-necessary`.
    #[arg(long, value_name = "WHICH")]
    prerelease: Option<Prerelease>,
    /// Which of the versions that fit: `highest`, `lowest` or `lowest-direct`.
    #[arg(long, value_name = "WHICH")]
    resolution: Option<Mode>,
    /// Use no source archives of this Python package, or of `:all:`.
    #[arg(long, value_name = "NAME")]
    only_binary: Vec<String>,
    /// Use no wheels of this Python package, or of `:all:`.
    #[arg(long, value_name = "NAME")]
    no_binary: Vec<String>,
    /// Build this Python package from source, in a sandbox, where no wheel of it fits.
    #[arg(long, value_name = "NAME")]
    build: Vec<String>,
    /// Resolve Python packages for every platform at once.
    #[arg(long)]
    universal: bool,
    /// Only what was published up to this day (in UTC) or before this moment (RFC 3339).
    #[arg(long, value_name = "DATE")]
    exclude_newer: Option<String>,
    /// Only what was published at least so long ago: `3d`, `12h`. The configuration may ask for more.
    #[arg(long, value_name = "AGE", value_parser = minimum_age)]
    minimum_age: Option<u64>,
    /// Let this package be as new as it likes: `npm:express`. The plan says so.
    #[arg(long, value_name = "PACKAGE")]
    allow_new: Vec<String>,
    /// Keep packages that are needed anyway within the requirements of this file.
    #[arg(long, value_name = "FILE")]
    constraint: Vec<PathBuf>,
    /// Replace what any package requires by the requirements of this file.
    #[arg(long = "override", value_name = "FILE")]
    overrides: Vec<PathBuf>,
    /// Only what `bolide.lock` says; fail where the manifests say otherwise.
    #[arg(long)]
    frozen: bool,
}

impl Resolution {
    /// Nothing else said than whether only the lock counts.
    pub(super) fn frozen(frozen: bool) -> Self {
        Self { frozen, ..Self::default() }
    }

    /// The same with the contents of the files.
    pub(super) fn options(&self) -> Result<Options, ToolError> {
        let read = |files: &[PathBuf]| -> Result<Vec<OptionFile>, ToolError> {
            files.iter().map(|path| file(path)).collect()
        };
        Ok(Options {
            python_version: self.python_version.clone(),
            python_platform: self.python_platform.clone(),
            prerelease: self.prerelease,
            resolution: self.resolution,
            only_binary: self.only_binary.clone(),
            no_binary: self.no_binary.clone(),
            build: self.build.clone(),
            universal: self.universal,
            exclude_newer: self.exclude_newer.clone(),
            minimum_age_s: self.minimum_age,
            allow_new: self.allow_new.clone(),
            constraints: read(&self.constraint)?,
            overrides: read(&self.overrides)?,
            frozen: self.frozen,
        })
    }
}

fn minimum_age(text: &str) -> Result<u64, String> {
    let age = crate::config::age(text).ok_or("write it as `3d` or `12h`")?;
    Ok(age.as_secs())
}

/// Reads a file that a flag names; never more of it than the Packager takes.
fn file(path: &Path) -> Result<OptionFile, ToolError> {
    let name = path.display().to_string();
    let refused = |why: &dyn std::fmt::Display| {
        let message = format!("cannot read `{name}`: {why}");
        tool_error(2, "bad-option", &message, "name a file of requirements")
    };
    let file = std::fs::File::open(path).map_err(|error| refused(&error))?;
    let mut text = String::new();
    let most = OPTION_FILE_BYTES_MAX as u64;
    file.take(most + 1).read_to_string(&mut text).map_err(|error| refused(&error))?;
    if text.len() as u64 > most {
        return Err(refused(&format!("it has more than {most} bytes")));
    }
    Ok(OptionFile { name, text })
}
