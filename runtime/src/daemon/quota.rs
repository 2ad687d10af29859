//! What one agent may have of the bus: the limits that the configuration declares, and the memory of a connection as it is
//! used up and given back.
//!
//! Links, offers and descriptors are counted by the router, packets by the connection, what passes through the exchange by
//! the exchange. Lanes that two agents share between them are not slowed down by anybody: their memory is bounded here, and
//! their counters show what went over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::router::subject::{check_pattern, matches};
use crate::exchange::NAME;
use crate::limits::{
    DESCRIPTORS_PER_AGENT_MAX, DESCRIPTORS_PER_LINK, LIMIT_ENTRIES_MAX, LINKS_OF_EXCHANGE_MAX,
    LINKS_PER_AGENT_MAX, PACKETS_PER_SECOND_MAX, SHARED_BYTES_OF_EXCHANGE_MAX,
    SHARED_BYTES_PER_AGENT_MAX,
};

/// What one agent may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AgentLimits {
    /// Links, offered and open.
    pub(crate) links: usize,
    /// Bytes of all segments that it made and that are in use.
    pub(crate) bytes: u64,
    /// Descriptors that the daemon keeps open for it.
    pub(crate) descriptors: usize,
    /// Control packets a second.
    pub(crate) messages: u32,
    /// Messages a second that the exchange takes from it, over all of its links: routed ones, and operations on queues and
    /// logs. 0 is any number.
    pub(crate) passed: u32,
}

/// One line of the configuration: for whom, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    pattern: String,
    settings: Vec<(Setting, u64)>,
}

/// Which of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    Links,
    Bytes,
    Descriptors,
    Messages,
    Passed,
}

/// All that the configuration declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitTable {
    entries: Vec<Entry>,
}

/// Names as they stand in the configuration, in errors and in the metric.
const SETTINGS: [(&str, Setting); 5] = [
    ("links", Setting::Links),
    ("bytes", Setting::Bytes),
    ("descriptors", Setting::Descriptors),
    ("messages", Setting::Messages),
    ("passed", Setting::Passed),
];

impl LimitTable {
    /// Reads `PATTERN: NAME=NUMBER NAME=NUMBER, PATTERN: ...`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let entries = entries.map(parse_entry).collect::<Result<Vec<_>, _>>()?;
        if entries.len() > LIMIT_ENTRIES_MAX {
            return Err(format!("more than {LIMIT_ENTRIES_MAX} entries"));
        }
        Ok(Self { entries })
    }

    /// The same text again, in its plain form.
    pub(crate) fn text(&self) -> String {
        let entries = self.entries.iter().map(|entry| {
            let settings = entry.settings.iter().map(|(setting, number)| {
                let name = SETTINGS.iter().find(|(_, one)| one == setting).map_or("", |one| one.0);
                format!(" {name}={number}")
            });
            format!("{}:{}", entry.pattern, settings.collect::<String>())
        });
        entries.collect::<Vec<_>>().join(", ")
    }

    /// The limits of an agent: the defaults, changed by the first entry whose pattern is its name's.
    pub(crate) fn of(&self, name: &str) -> AgentLimits {
        let mut limits = AgentLimits::of_name(name);
        let entry = self.entries.iter().find(|entry| matches(&entry.pattern, name));
        for (setting, number) in entry.into_iter().flat_map(|entry| &entry.settings) {
            let count = usize::try_from(*number).unwrap_or(usize::MAX);
            let rate = u32::try_from(*number).unwrap_or(u32::MAX);
            match setting {
                // What the daemon itself can bear is not for the configuration to raise.
                Setting::Links => limits.links = count.min(limits.links),
                Setting::Bytes => limits.bytes = *number,
                Setting::Descriptors => limits.descriptors = count.min(limits.descriptors),
                Setting::Messages => limits.messages = rate.max(1),
                Setting::Passed => limits.passed = rate,
            }
        }
        limits
    }
}

impl AgentLimits {
    fn of_name(name: &str) -> Self {
        // The exchange has a link for each of its clients and two for each route.
        let (links, bytes, descriptors) = match name == NAME {
            true => (
                LINKS_OF_EXCHANGE_MAX,
                SHARED_BYTES_OF_EXCHANGE_MAX,
                (LINKS_OF_EXCHANGE_MAX + 1) * DESCRIPTORS_PER_LINK + DESCRIPTORS_PER_AGENT_MAX,
            ),
            false => (LINKS_PER_AGENT_MAX, SHARED_BYTES_PER_AGENT_MAX, DESCRIPTORS_PER_AGENT_MAX),
        };
        Self { links, bytes, descriptors, messages: PACKETS_PER_SECOND_MAX, passed: 0 }
    }
}

fn parse_entry(entry: &str) -> Result<Entry, String> {
    let wanted = "wanted is `PATTERN: NAME=NUMBER ...`";
    let (pattern, rest) = entry.split_once(':').ok_or_else(|| wanted.to_owned())?;
    let pattern = pattern.trim();
    check_pattern(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
    let setting = |word: &str| {
        let (name, number) = word.split_once('=').ok_or_else(|| wanted.to_owned())?;
        let known = SETTINGS.iter().find(|(known, _)| *known == name);
        let (_, setting) = known.ok_or_else(|| {
            let names = SETTINGS.map(|(name, _)| name).join(", ");
            format!("there is no limit `{name}`; there are {names}")
        })?;
        let number = number.parse().map_err(|_| format!("`{number}` is no whole number"))?;
        Ok((*setting, number))
    };
    let settings = rest.split_whitespace().map(setting).collect::<Result<Vec<_>, String>>()?;
    Ok(Entry { pattern: pattern.to_owned(), settings })
}

/// The memory that the segments of one connection take.
#[derive(Debug)]
pub(crate) struct Share {
    used: AtomicU64,
    max: u64,
}

/// Bytes of a share in use, until the last one who needs them drops this.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
}

impl Share {
    /// Nothing used yet.
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), max })
    }

    /// Takes so many bytes; nothing when they are not left. The message for the agent is in the error.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Result<Held, String> {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        // Relaxed: a number, and nothing that stands elsewhere.
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Held { share: Arc::clone(self), bytes }),
            Err(used) => Err(format!(
                "limit `bytes`: {used} bytes of shared memory are in use and {bytes} are asked \
                 for, of {} at most",
                self.max
            )),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_matches_counts_and_the_rest_stays_as_it_is() {
        let text = "test.small: links=2 bytes=4096, test.>: messages=10";
        let table = LimitTable::parse(text).unwrap();
        assert_eq!(table.text(), text);
        let small = table.of("test.small");
        assert_eq!((small.links, small.bytes, small.messages), (2, 4096, PACKETS_PER_SECOND_MAX));
        assert_eq!(table.of("test.other").messages, 10);
        assert_eq!(table.of("elsewhere"), LimitTable::default().of("elsewhere"));
        assert!(table.of(NAME).links > table.of("elsewhere").links);
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_is_wanted() {
        for wrong in ["links=2", "a b: links=2", "a: lanes=2", "a: links=many", "a: links"] {
            assert!(LimitTable::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(LimitTable::parse(" , ").unwrap(), LimitTable::default());
    }

    #[test]
    fn bytes_are_given_back_when_the_last_holder_is_gone() {
        let share = Share::new(100);
        let one = share.take(60).unwrap();
        let refused = share.take(41).unwrap_err();
        assert!(refused.contains("limit `bytes`"), "{refused}");
        drop(one);
        assert!(share.take(100).is_ok());
        assert!(share.take(u64::MAX).is_err());
    }
}
