//! Parsed metadata in memory, bounded by bytes; what was used longest ago goes first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Key;
use crate::error::Error;
use crate::io::cargo::RegistryConfig;
use crate::io::npm::search::Found;
use crate::io::pypi::links::Linked;
use crate::metadata::{cargo, npm, pypi};

/// Something parsed, of any of the kinds that registries give.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Packument(Arc<npm::Packument>),
    Project(Arc<pypi::Project>),
    Links(Arc<Linked>),
    CoreMetadata(Arc<pypi::CoreMetadata>),
    Crate(Arc<cargo::Crate>),
    RegistryConfig(Arc<RegistryConfig>),
    Search(Arc<Vec<Found>>),
}

#[derive(Debug)]
struct Slot {
    /// A value, or the error that says that there is no such package.
    value: Result<Value, Error>,
    /// For near names in hints, with where these are looked for; `None` for what has none.
    name: Option<(Key, String)>,
    confirmed: SystemTime,
    weight: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Slots {
    map: HashMap<Key, Slot>,
    weight: usize,
    clock: u64,
    /// How often something was put in or taken out.
    changes: u64,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The memory cache of the process.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Which one of this process.
    number: u64,
    slots: Mutex<Slots>,
    bytes_max: usize,
}

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        // Relaxed: only that none is given twice counts.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { number, slots: Mutex::default(), bytes_max }
    }

    /// Other numbers for whatever else is known by now, here or in another one.
    pub(crate) fn edition(&self) -> [u64; 2] {
        [self.number, self.slots.lock().unwrap_or_else(PoisonError::into_inner).changes]
    }

    /// What is known, and how old it is.
    pub(crate) fn get(
        &self,
        key: Key,
        now: SystemTime,
    ) -> Option<(Result<Value, Error>, Duration)> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let clock = slots.clock;
        let slot = slots.map.get_mut(&key)?;
        slot.used = clock;
        let age = now.duration_since(slot.confirmed).unwrap_or(Duration::MAX);
        Some((slot.value.clone(), age))
    }

    /// Remembers; `weight` is the size of the disk form.
    pub(crate) fn put(
        &self,
        key: Key,
        value: Result<Value, Error>,
        name: Option<(Key, String)>,
        confirmed: SystemTime,
        weight: usize,
    ) {
        let weight = weight + 256;
        if weight > self.bytes_max {
            return;
        }
        let mut dropped = Vec::new();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        slots.changes += 1;
        let used = slots.clock;
        let old = slots.map.insert(key, Slot { value, name, confirmed, weight, used });
        slots.weight += weight;
        slots.weight -= old.as_ref().map_or(0, |old| old.weight);
        dropped.extend(old);
        if slots.weight > self.bytes_max {
            slots.evict(self.bytes_max / 10 * 9, &mut dropped);
        }
        // Freeing big trees takes its time; nobody should wait for it.
        drop(slots);
        drop(dropped);
    }

    /// Forgets what is known.
    pub(crate) fn remove(&self, key: Key) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.changes += 1;
        let old = slots.map.remove(&key);
        slots.weight -= old.as_ref().map_or(0, |old| old.weight);
    }

    /// Known names (`npm:express`) that contain `text`, at most so many.
    pub(crate) fn names_with(&self, text: &str, most: usize) -> Vec<String> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.map.values().filter(|slot| slot.value.is_ok());
        let names = known.filter_map(|slot| slot.name.as_ref().map(|(_, name)| &**name));
        let is_meant =
            |name: &&str| name.split_once(':').is_some_and(|(_, name)| name.contains(text));
        names.filter(is_meant).take(most).map(str::to_owned).collect()
    }

    /// Known names with `prefix` at that place that look like `name`, at most three.
    pub(crate) fn near_names(&self, place: Key, prefix: &str, name: &str) -> Vec<String> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots
            .map
            .values()
            .filter(|slot| slot.value.is_ok())
            .filter_map(|slot| slot.name.as_ref().filter(|(of, _)| *of == place));
        let known = known.map(|(_, name)| &**name);
        let known = known.filter_map(|known| known.strip_prefix(prefix));
        let mut near: Vec<(usize, &str)> = known
            .map(|known| (distance(known, name), known))
            .filter(|(distance, known)| *distance <= 2 && *distance * 3 <= known.len())
            .collect();
        near.sort();
        near.dedup();
        near.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
    }
}

impl Slots {
    fn evict(&mut self, target: usize, dropped: &mut Vec<Slot>) {
        let mut order: Vec<(u64, Key)> =
            self.map.iter().map(|(key, slot)| (slot.used, *key)).collect();
        order.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in order {
            if self.weight <= target {
                break;
            }
            if let Some(slot) = self.map.remove(&key) {
                self.weight -= slot.weight;
                dropped.push(slot);
            }
        }
    }
}

/// Edits (insert, remove, replace) between two names; gives up beyond a difference in length of 2.
fn distance(left: &str, right: &str) -> usize {
    if left.len().abs_diff(right.len()) > 2 {
        return usize::MAX / 4;
    }
    let right: Vec<u8> = right.bytes().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, byte) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn key(name: &str) -> Key {
        let url = url::Url::parse("https://r.example.invalid/").expect("an address");
        Key::new("test", &url, None, name)
    }

    fn value(name: &str) -> Result<Value, Error> {
        Ok(Value::Packument(Arc::new(npm::Packument {
            name: name.to_owned(),
            ..Default::default()
        })))
    }

    #[test]
    fn an_edition_ends_with_every_change_and_is_of_one_memory() {
        let (memory, other) = (Memory::new(4_000), Memory::new(4_000));
        let mut editions = vec![memory.edition(), other.edition()];
        memory.put(key("a"), value("a"), None, SystemTime::now(), 100);
        editions.push(memory.edition());
        assert!(memory.get(key("a"), SystemTime::now()).is_some());
        assert_eq!(memory.edition(), editions[2], "a look changes nothing");
        memory.remove(key("a"));
        editions.push(memory.edition());
        editions.sort_unstable();
        editions.dedup();
        assert_eq!(editions.len(), 4);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let memory = Memory::new(4_000);
        let now = SystemTime::now();
        for name in ["a", "b", "c"] {
            memory.put(key(name), value(name), None, now, 1_000);
        }
        assert!(memory.get(key("a"), now).is_some());
        memory.put(key("d"), value("d"), None, now, 1_000);
        assert!(memory.get(key("a"), now).is_some());
        assert!(memory.get(key("b"), now).is_none());
        assert!(memory.get(key("d"), now).is_some());
    }

    #[test]
    fn something_larger_than_everything_is_not_kept() {
        let memory = Memory::new(1_000);
        memory.put(key("a"), value("a"), None, SystemTime::now(), 5_000);
        assert!(memory.get(key("a"), SystemTime::now()).is_none());
    }

    #[test]
    fn near_names_are_known_ones_within_two_edits() {
        let memory = Memory::new(100_000);
        let now = SystemTime::now();
        for name in ["npm:express", "npm:expresso", "npm:lodash", "pypi:expres"] {
            memory.put(key(name), value(name), Some((key("one"), name.to_owned())), now, 10);
        }
        let elsewhere = Some((key("another"), "npm:exprese".to_owned()));
        memory.put(key("npm:exprese"), value("npm:exprese"), elsewhere, now, 10);
        let missing = Error::new(Kind::Failed, "unknown-package", "no");
        memory.put(
            key("npm:exprss"),
            Err(missing),
            Some((key("one"), "npm:exprss".to_owned())),
            now,
            10,
        );
        assert_eq!(memory.near_names(key("one"), "npm:", "expres"), ["express", "expresso"]);
        assert!(memory.near_names(key("one"), "npm:", "zzz").is_empty());
    }
}
