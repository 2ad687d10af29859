//! Where the router's socket usually is. The program `bolide` looks in the same places.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// `bolide.sock` in `$BOLIDE_RUNTIME_DIR`, else in `bolide` of the first runtime directory that is this user's own, else in
/// one of the temporary directory.
pub(super) fn usual() -> PathBuf {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = named("BOLIDE_RUNTIME_DIR").unwrap_or_else(|| {
        let uid = rustix::process::getuid().as_raw();
        let own = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| meta.uid() == uid);
        let usual = PathBuf::from(format!("/run/user/{uid}"));
        match [named("XDG_RUNTIME_DIR"), Some(usual)].into_iter().flatten().find(own) {
            Some(parent) => parent.join("bolide"),
            None => named("TMPDIR")
                .unwrap_or_else(|| PathBuf::from("/tmp"))
                .join(format!("bolide-{uid}")),
        }
    });
    directory.join("bolide.sock")
}
