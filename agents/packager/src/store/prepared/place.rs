//! What a file or directory has from the directory that it is made in.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::limits::LABEL_BYTES_MAX;
use crate::store::mode;

/// A rule for all that is made in a directory.
const ACL: &str = "system.posix_acl_default";
const LABEL: &str = "security.selinux";
const SET_GROUP: u32 = 0o2000;

/// All of it. Where it is the same in two directories, what is made in them is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inherited {
    /// Which of the permissions 0777 are left.
    left: u32,
    /// The group of the directory itself, which was made here and so has what is made beside it.
    group: u32,
    label: Vec<u8>,
}

impl Inherited {
    /// What a directory hands on that was made for this; `None` where it hands on more than this, or cannot be asked.
    pub(super) fn read(directory: BorrowedFd<'_>) -> Option<Self> {
        let status = rustix::fs::fstat(directory).ok()?;
        if status.st_mode & SET_GROUP != 0 || attribute(directory, ACL)?.is_some() {
            return None;
        }
        let label = attribute(directory, LABEL)?.unwrap_or_default();
        let left = mode::permissions_left(directory).ok()??;
        Some(Self { left, group: status.st_gid, label })
    }
}

/// The bytes of an attribute, nothing inside where there is no such one; `None` where that cannot be known.
fn attribute(directory: BorrowedFd<'_>, name: &str) -> Option<Option<Vec<u8>>> {
    let mut bytes = vec![0; LABEL_BYTES_MAX];
    match rustix::fs::fgetxattr(directory, name, bytes.as_mut_slice()) {
        Ok(length) => {
            bytes.truncate(length);
            Some(Some(bytes))
        }
        // None, or a file system that has none.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Some(None),
        Err(_) => None,
    }
}
