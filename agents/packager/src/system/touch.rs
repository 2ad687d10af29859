//! Whether a transaction has touched its system: a value, and the record of it that outlives whoever made it.
//!
//! A tool may live longer than the process that started it, so what it is about to do and that it began are two names of one
//! file in the state directory, and a name is renamed or removed, never both.
//!
//! # The protocol
//! 1. *Armed*: `expected-TRANSACTION-NONCE` says what a tool that is about to be started may do. No two starts share a name.
//! 2. *Touched*: in the moment before its first change, under its own lock, the tool's hook compares, and where it agrees renames
//!    that file to `touched-TRANSACTION` and waits until the device has it. Where one of the three fails the tool does nothing.
//!    For a tool without such a hook, [`Touch::record`] makes the record before the tool is started.
//! 3. Whoever ends a transaction removes what it is armed with, and only then looks for the record ([`Touch::look`]). Without it
//!    the transaction has never touched the system and never will, whatever still waits for a lock.
//! 4. The record goes, and that is on the device, when the system was seen to be back ([`Touch::forget`]), or after the commit.
//!
//! A record without a change is possible: the tool itself was killed between its hook and its first change. So the record says
//! that there may be something to bring back, and the tool is asked what.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::files::Files;
use crate::error::{Error, Kind, Result};
use crate::hex::hex;

/// See the module.
pub(crate) struct Touch {
    state: PathBuf,
    transaction: String,
}

/// Whether a transaction's tool has changed something of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// It has not, and no tool of it ever will.
    Never,
    /// It may have.
    Perhaps,
}

impl Touch {
    /// That of a transaction, in the directory `state` of ours.
    pub(crate) fn of(state: &Path, transaction: &str) -> Result<Self> {
        // It becomes a part of names that a shell reads.
        let is_plain = |one: char| one.is_ascii_alphanumeric() || one == '-';
        if transaction.is_empty() || !transaction.chars().all(is_plain) {
            let message = format!("`{}` is no transaction of ours", transaction.escape_debug());
            return Err(Error::new(Kind::Failed, "bad-transaction", message));
        }
        Ok(Self { state: state.to_owned(), transaction: transaction.to_owned() })
    }

    /// The directory that the names are in.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The name that a hook gives to what it has agreed to.
    pub(super) fn path(&self) -> PathBuf {
        self.state.join(format!("touched-{}", self.transaction))
    }

    fn armed(&self) -> String {
        format!("expected-{}-", self.transaction)
    }

    /// Says what the next tool may do; where.
    pub(super) fn arm(&self, files: &Files, expected: &str) -> Result<PathBuf> {
        let mut nonce = [0_u8; 8];
        SystemRandom::new().fill(&mut nonce).map_err(|_| {
            Error::new(Kind::Failed, "no-randomness", "the kernel gives no random numbers")
        })?;
        let path = self.state.join(self.armed() + &hex(&nonce));
        files.write(&path, expected)?;
        ipc::fault::point("system.armed");
        Ok(path)
    }

    /// Whether the system was touched. From here on no tool of this transaction begins that has not begun yet.
    pub(crate) fn look(&self) -> Result<Touched> {
        self.disarm()?;
        match self.path().symlink_metadata() {
            Ok(_) => Ok(Touched::Perhaps),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Touched::Never),
            Err(error) => Err(Error::io("look at", &self.path(), &error)),
        }
    }

    /// Says before a tool without a hook is started that it may have been; on the device when this returns.
    pub(super) fn record(&self) -> Result<()> {
        let path = self.path();
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let written = options.open(&path).and_then(|file| file.sync_all());
        written.and_then(|()| self.sync()).map_err(|error| Error::io("write", &path, &error))?;
        ipc::fault::point("system.recorded");
        Ok(())
    }

    /// Starts a tool without a hook. One that says that it has changed nothing leaves no record, where that is so to see.
    pub(super) fn around(
        &self,
        start: impl FnOnce() -> Result<()>,
        is_unchanged: impl FnOnce() -> bool,
    ) -> Result<()> {
        self.record()?;
        match start() {
            Err(error) if error.code == "system-busy" && is_unchanged() => {
                self.forget()?;
                Err(error)
            }
            done => done,
        }
    }

    /// Says that nothing of the transaction is to be brought back in the system; on the device when this returns.
    pub(crate) fn forget(&self) -> Result<()> {
        self.disarm()?;
        let path = self.path();
        // Gone already, it may still be there on the device.
        remove(&path)
            .and_then(|()| self.sync())
            .map_err(|error| Error::io("remove", &path, &error))?;
        ipc::fault::point("system.forgotten");
        Ok(())
    }

    fn disarm(&self) -> Result<()> {
        let failed = |error: io::Error| Error::io("tidy", &self.state, &error);
        let prefix = self.armed();
        for entry in std::fs::read_dir(&self.state).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                remove(&entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.state)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_is_never_begun_and_what_was_begun_is_seen() {
        let state = tempfile::tempdir().unwrap();
        let files = Files::open(state.path()).unwrap();
        let touch = Touch::of(state.path(), "tx-1").unwrap();
        let other = Touch::of(state.path(), "tx-2").unwrap();
        let (one, two) = (touch.arm(&files, "a").unwrap(), touch.arm(&files, "a").unwrap());
        let others = other.arm(&files, "a").unwrap();
        assert_ne!(one, two, "a tool that is late takes nothing that is another one's");
        assert_eq!(touch.look().unwrap(), Touched::Never);
        assert!(!one.exists() && !two.exists() && others.exists());
        // What a hook does.
        std::fs::rename(others, other.path()).unwrap();
        assert_eq!(other.look().unwrap(), Touched::Perhaps);
        assert_eq!(touch.look().unwrap(), Touched::Never, "another one's record");
        other.forget().unwrap();
        assert_eq!(other.look().unwrap(), Touched::Never);
        other.record().unwrap();
        other.record().unwrap();
        assert_eq!(other.look().unwrap(), Touched::Perhaps);
    }

    #[test]
    fn a_record_is_not_forgotten_because_somebody_says_so() {
        let state = tempfile::tempdir().unwrap();
        let touch = Touch::of(state.path(), "tx-1").unwrap();
        let busy = || Err(Error::new(Kind::Failed, "system-busy", "busy"));
        assert!(touch.around(busy, || false).is_err());
        assert_eq!(touch.look().unwrap(), Touched::Perhaps);
        assert!(touch.around(busy, || true).is_err());
        assert_eq!(touch.look().unwrap(), Touched::Never);
    }

    #[test]
    fn a_transaction_is_named_without_what_a_shell_or_a_path_would_obey() {
        let state = Path::new("/nowhere");
        for name in ["", "../x", "a'b", "a b", "a;b", "a\nb"] {
            assert!(Touch::of(state, name).is_err(), "{name:?}");
        }
    }
}
