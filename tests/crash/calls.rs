//! The system calls that change a disk, what each of them changes, and how each of them may fail.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libc::{EACCES, EIO, EMFILE, ENOSPC, c_long, user_regs_struct};
use nix::unistd::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Longest path that a call is asked for.
const PATH_BYTES_MAX: usize = 4096;
/// `ioctl` that makes one file a clone of another one.
const FICLONE: u64 = 0x4004_9409;

/// Which argument names what is changed.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// An open file.
    Open(usize),
    /// A path.
    Path(usize),
    /// A directory and a path.
    At(usize, usize),
}

/// One system call that changes a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    number: c_long,
    pub(crate) name: &'static str,
    place: Place,
    /// Which argument says how many bytes; such a call can do half of it.
    pub(crate) count: Option<usize>,
    /// How it may fail.
    pub(crate) errors: &'static [i32],
}

const WRITES: &[i32] = &[EIO, ENOSPC];
const NAMES: &[i32] = &[EIO, ENOSPC, EACCES];
const OPENS: &[i32] = &[EIO, ENOSPC, EACCES, EMFILE];
const REMOVALS: &[i32] = &[EIO, EACCES];

const fn call(
    number: c_long,
    name: &'static str,
    place: Place,
    count: Option<usize>,
    errors: &'static [i32],
) -> Call {
    Call { number, name, place, count, errors }
}

/// All of them. Opening counts where it is for writing, `ioctl` where it clones.
pub(crate) const CALLS: [Call; 40] = [
    call(libc::SYS_write, "write", Place::Open(0), Some(2), WRITES),
    call(libc::SYS_pwrite64, "pwrite", Place::Open(0), Some(2), WRITES),
    call(libc::SYS_writev, "writev", Place::Open(0), None, WRITES),
    call(libc::SYS_pwritev, "pwritev", Place::Open(0), None, WRITES),
    call(libc::SYS_pwritev2, "pwritev2", Place::Open(0), None, WRITES),
    call(libc::SYS_sendfile, "sendfile", Place::Open(0), Some(3), WRITES),
    call(libc::SYS_copy_file_range, "copy_file_range", Place::Open(2), Some(4), WRITES),
    call(libc::SYS_splice, "splice", Place::Open(2), None, WRITES),
    call(libc::SYS_ioctl, "clone", Place::Open(0), None, WRITES),
    call(libc::SYS_open, "open", Place::Path(0), None, OPENS),
    call(libc::SYS_openat, "open", Place::At(0, 1), None, OPENS),
    call(libc::SYS_openat2, "open", Place::At(0, 1), None, OPENS),
    call(libc::SYS_creat, "open", Place::Path(0), None, OPENS),
    call(libc::SYS_rename, "rename", Place::Path(1), None, NAMES),
    call(libc::SYS_renameat, "rename", Place::At(2, 3), None, NAMES),
    call(libc::SYS_renameat2, "rename", Place::At(2, 3), None, NAMES),
    call(libc::SYS_link, "link", Place::Path(1), None, NAMES),
    call(libc::SYS_linkat, "link", Place::At(2, 3), None, NAMES),
    call(libc::SYS_symlink, "symlink", Place::Path(1), None, NAMES),
    call(libc::SYS_symlinkat, "symlink", Place::At(1, 2), None, NAMES),
    call(libc::SYS_mkdir, "mkdir", Place::Path(0), None, NAMES),
    call(libc::SYS_mkdirat, "mkdir", Place::At(0, 1), None, NAMES),
    call(libc::SYS_unlink, "unlink", Place::Path(0), None, REMOVALS),
    call(libc::SYS_unlinkat, "unlink", Place::At(0, 1), None, REMOVALS),
    call(libc::SYS_rmdir, "rmdir", Place::Path(0), None, REMOVALS),
    call(libc::SYS_fsync, "fsync", Place::Open(0), None, WRITES),
    call(libc::SYS_fdatasync, "fsync", Place::Open(0), None, WRITES),
    call(libc::SYS_syncfs, "fsync", Place::Open(0), None, WRITES),
    call(libc::SYS_sync_file_range, "fsync", Place::Open(0), None, WRITES),
    call(libc::SYS_ftruncate, "truncate", Place::Open(0), None, WRITES),
    call(libc::SYS_truncate, "truncate", Place::Path(0), None, NAMES),
    call(libc::SYS_fallocate, "allocate", Place::Open(0), None, WRITES),
    call(libc::SYS_chmod, "chmod", Place::Path(0), None, REMOVALS),
    call(libc::SYS_fchmod, "chmod", Place::Open(0), None, REMOVALS),
    call(libc::SYS_fchmodat, "chmod", Place::At(0, 1), None, REMOVALS),
    call(libc::SYS_fchown, "chown", Place::Open(0), None, REMOVALS),
    call(libc::SYS_fchownat, "chown", Place::At(0, 1), None, REMOVALS),
    call(libc::SYS_lchown, "chown", Place::Path(0), None, REMOVALS),
    call(libc::SYS_fsetxattr, "attribute", Place::Open(0), None, NAMES),
    call(libc::SYS_utimensat, "times", Place::At(0, 1), None, REMOVALS),
];

/// The filter that stops for the tracer at each of them and lets everything else pass at full speed.
pub(crate) fn filter() -> BpfProgram {
    let is = |argument: u8, mask: i32, value: i32| {
        let operator = SeccompCmpOp::MaskedEq(mask as u64);
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, length, operator, value as u64).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    let opens = |argument| {
        vec![
            is(argument, libc::O_ACCMODE, libc::O_WRONLY),
            is(argument, libc::O_ACCMODE, libc::O_RDWR),
            is(argument, libc::O_CREAT, libc::O_CREAT),
        ]
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in &CALLS {
        let conditions = match call.number {
            libc::SYS_open => opens(1),
            libc::SYS_openat => opens(2),
            libc::SYS_ioctl => {
                let length = SeccompCmpArgLen::Dword;
                let clones = SeccompCondition::new(1, length, SeccompCmpOp::Eq, FICLONE).unwrap();
                vec![SeccompRule::new(vec![clones]).unwrap()]
            }
            _ => Vec::new(),
        };
        rules.insert(call.number, conditions);
    }
    let (others, these) = (SeccompAction::Allow, SeccompAction::Trace(0));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, others, these, architecture).unwrap().try_into().unwrap()
}

fn argument(registers: &user_regs_struct, index: usize) -> u64 {
    [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9][index]
}

/// Sets one argument of a call that is about to be made.
pub(crate) fn set_argument(registers: &mut user_regs_struct, index: usize, value: u64) {
    *[
        &mut registers.rdi,
        &mut registers.rsi,
        &mut registers.rdx,
        &mut registers.r10,
        &mut registers.r8,
        &mut registers.r9,
    ][index] = value;
}

/// How many bytes a call was asked to write.
pub(crate) fn bytes_asked(call: &Call, registers: &user_regs_struct) -> Option<u64> {
    call.count.map(|index| argument(registers, index))
}

/// The call that a thread is about to make and what it changes, where it changes a disk.
pub(crate) fn about_to(thread: Pid, registers: &user_regs_struct) -> Option<(Call, PathBuf)> {
    let call = CALLS.iter().find(|call| call.number == registers.orig_rax as c_long)?;
    if call.number == libc::SYS_openat2 {
        let bytes = memory(thread, argument(registers, 2), 8);
        let flags = u64::from_le_bytes(bytes.try_into().ok()?) as i32;
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
        if !writes || flags & libc::O_PATH != 0 {
            return None;
        }
    }
    let open = |index: usize| {
        let number = argument(registers, index) as i32;
        let link = match number {
            libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
            number => format!("/proc/{thread}/fd/{number}"),
        };
        let path = std::fs::read_link(link).ok()?;
        let text = path.to_string_lossy();
        Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text)))
    };
    let path = match call.place {
        Place::Open(index) => {
            // What is said to people is no change.
            let is_said = call.name == "write" && matches!(argument(registers, index), 1 | 2);
            open(index).filter(|_| !is_said)?
        }
        Place::Path(index) => {
            let at = PathBuf::from(format!("/proc/{thread}/cwd"));
            std::fs::read_link(at).ok()?.join(text(thread, argument(registers, index)))
        }
        Place::At(directory, index) => {
            let name = text(thread, argument(registers, index));
            match Path::new(&name).is_absolute() {
                true => PathBuf::from(name),
                false => open(directory)?.join(name),
            }
        }
    };
    let is_disk = path.is_absolute()
        && !["/dev/null", "/dev/tty", "/proc", "/sys"].iter().any(|no| path.starts_with(no))
        && !path.to_string_lossy().starts_with("/memfd:");
    is_disk.then_some((*call, path))
}

/// A path in the memory of a process; nothing where there is none.
fn text(thread: Pid, address: u64) -> String {
    if address == 0 {
        return String::new();
    }
    let bytes = memory(thread, address, PATH_BYTES_MAX);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn memory(thread: Pid, address: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let Ok(file) = std::fs::File::open(format!("/proc/{thread}/mem")) else { return Vec::new() };
    // A page behind the string may not be there: what is before its end is read.
    let page_rest = 4096 - (address % 4096) as usize;
    let first = page_rest.min(count);
    let mut filled = file.read_at(&mut bytes[..first], address).unwrap_or(0);
    if filled == first && first < count {
        let rest = file.read_at(&mut bytes[first..], address + first as u64);
        filled += rest.unwrap_or(0);
    }
    bytes.truncate(filled);
    bytes
}
