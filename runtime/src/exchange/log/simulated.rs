//! A disk in memory for the tests: processes that die at any call, power that goes at any time,
//! space that runs out, syncs that fail.
//!
//! Every file has what the page cache shows and what the disk has. Power loss leaves of the pages
//! and names that were not synced any subset. A failed sync takes pages for clean that are not on
//! the disk, as Linux does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{SegmentFile, Storage};

const PAGE_BYTES: usize = 4096;

/// Numbers from a seed (splitmix64).
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) struct Chance(pub(in crate::exchange) u64);

impl Chance {
    pub(in crate::exchange) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(in crate::exchange) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[derive(Clone, Debug, Default)]
struct Contents {
    cached: Vec<u8>,
    on_disk: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    names_on_disk: BTreeMap<String, usize>,
    faults: Faults,
    chance: Chance,
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::exchange) struct Faults {
    /// Calls that change something until the process dies in the middle of one.
    pub(in crate::exchange) calls_until_death: Option<u64>,
    /// Calls that write until one writes a part and finds the disk full.
    pub(in crate::exchange) writes_until_full: Option<u64>,
    /// No file can be allocated.
    pub(in crate::exchange) is_full: bool,
    pub(in crate::exchange) syncs_fail: bool,
    pub(in crate::exchange) is_dead: bool,
}

#[derive(Clone, Debug)]
pub(in crate::exchange) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct Handle {
    disk: Disk,
    number: usize,
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl State {
    /// Counts a call; whether it happens, and whether it is the last one.
    fn call(&mut self) -> io::Result<bool> {
        if self.faults.is_dead {
            return Err(dead());
        }
        if let Some(left) = &mut self.faults.calls_until_death {
            if *left == 0 {
                self.faults.is_dead = true;
                return Ok(true);
            }
            *left -= 1;
        }
        Ok(false)
    }

    fn number(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Contents {
    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
    }
}

impl Disk {
    pub(in crate::exchange) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            names_on_disk: BTreeMap::new(),
            faults: Faults::default(),
            chance: Chance(seed),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(in crate::exchange) fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// The calls that change something and are still allowed.
    pub(in crate::exchange) fn is_dead(&self) -> bool {
        self.state().faults.is_dead
    }

    /// A new process sees what the page cache has.
    pub(in crate::exchange) fn start_process(&self) {
        self.state().faults = Faults::default();
    }

    /// The machine starts again with what the disk has, and any part of what it was not asked for.
    pub(in crate::exchange) fn lose_power(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.faults = Faults::default();
        let chance = &mut state.chance;
        // Sometimes all is lost and sometimes nothing, not always a half.
        let odds = chance.below(5);
        let mut survives = || chance.below(4) < odds;
        for contents in &mut state.files {
            let length = if survives() { contents.cached.len() } else { contents.on_disk.len() };
            contents.on_disk.resize(length, 0);
            for page in std::mem::take(&mut contents.dirty) {
                let (start, end) = (page * PAGE_BYTES, ((page + 1) * PAGE_BYTES).min(length));
                if start < end && survives() {
                    let part = contents.cached.get(start..).unwrap_or_default();
                    let count = part.len().min(end - start);
                    contents.on_disk[start..start + count].copy_from_slice(&part[..count]);
                }
            }
            contents.cached = contents.on_disk.clone();
        }
        let all: BTreeSet<String> =
            state.names.keys().chain(state.names_on_disk.keys()).cloned().collect();
        for name in all {
            let (new, old) = (state.names.get(&name), state.names_on_disk.get(&name));
            let kept = if new == old || survives() { new } else { old }.copied();
            match kept {
                Some(number) => state.names_on_disk.insert(name, number),
                None => state.names_on_disk.remove(&name),
            };
        }
        state.names = state.names_on_disk.clone();
    }

    /// The bytes of a file.
    pub(in crate::exchange) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[name]].cached.clone()
    }

    /// Puts a file there, on the disk as well.
    pub(in crate::exchange) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let contents =
            Contents { cached: bytes.to_vec(), on_disk: bytes.to_vec(), dirty: BTreeSet::new() };
        let number = state.files.len();
        state.files.push(contents);
        state.names.insert(name.to_owned(), number);
        state.names_on_disk.insert(name.to_owned(), number);
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let mut state = self.state();
        let dies = state.call()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), number);
        if dies { Err(dead()) } else { Ok(Arc::new(Handle { disk: self.clone(), number })) }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let number = self.state().number(name)?;
        Ok(Arc::new(Handle { disk: self.clone(), number }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.call()?;
        state.number(name)?;
        state.names.remove(name);
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let dies = state.call()?;
        let number = state.number(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), number);
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.call()? {
            return Err(dead());
        }
        if state.faults.syncs_fail {
            return Err(io::Error::from_raw_os_error(5));
        }
        state.names_on_disk = state.names.clone();
        Ok(())
    }
}

impl SegmentFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = state.files[self.number].cached.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.call()?;
        let is_full = match &mut state.faults.writes_until_full {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let mut count = bytes.len();
        if dies || is_full {
            count = state.chance.below(bytes.len() as u64 + 1) as usize;
        }
        state.files[self.number].write(&bytes[..count], offset as usize);
        if dies {
            return Err(dead());
        }
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.call()?;
        if state.faults.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let contents = &mut state.files[self.number];
        if contents.cached.len() < length as usize {
            contents.cached.resize(length as usize, 0);
        }
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let dies = state.call()?;
        let contents = &mut state.files[self.number];
        let pages = length as usize / PAGE_BYTES..contents.cached.len().div_ceil(PAGE_BYTES);
        contents.cached.resize(length as usize, 0);
        contents.dirty.extend(pages);
        if dies { Err(dead()) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.number].cached.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.call()? {
            return Err(dead());
        }
        let fails = state.faults.syncs_fail;
        let contents = &mut state.files[self.number];
        contents.dirty.clear();
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        contents.on_disk = contents.cached.clone();
        Ok(())
    }

    fn descriptor(&self) -> Option<&File> {
        None
    }
}
