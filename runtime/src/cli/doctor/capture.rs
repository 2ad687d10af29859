//! `bolide doctor --capture`: the files that `doctor` read, of some only what it used, as an archive. Unpacked, it stands for the machine
//! with `--sysfs-root`. It has no times, owners or names but those of the files.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use hw::root::{REFUSED, Recorded};

/// Writes the archive, which must not be there yet.
pub(super) fn write(recorded: &Recorded, path: &Path) -> anyhow::Result<()> {
    let file =
        File::create_new(path).with_context(|| format!("cannot make `{}`", path.display()))?;
    let written = fill(recorded, file);
    if written.is_err() {
        // Half an archive helps nobody.
        let _ = std::fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn fill(recorded: &Recorded, file: File) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let refused = recorded.refused_text();
    let refused = refused.iter().map(|text| (REFUSED, text.as_bytes()));
    let files = recorded.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    for (path, bytes) in files.chain(refused) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, path, bytes)?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    Ok(())
}
