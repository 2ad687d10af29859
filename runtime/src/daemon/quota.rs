//! What one agent may have of the bus: the limits that the configuration declares, and the memory of a connection as it is
//! used up and given back.
//!
//! Links, offers and descriptors are counted by the router, packets by the connection, what passes through the exchange by
//! the exchange. Lanes that two agents share between them are not slowed down by anybody: their memory is bounded here, and
//! their counters show what went over them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc::manifest::OwnLimits;

use super::router::subject::{check_pattern, matches};
use crate::exchange::NAME;
use crate::limits::{
    DESCRIPTORS_PER_AGENT_MAX, DESCRIPTORS_PER_LINK, LIMIT_ENTRIES_MAX, LINKS_OF_EXCHANGE_MAX,
    LINKS_PER_AGENT_MAX, PACKETS_PER_SECOND_MAX, SHARED_BYTES_OF_EXCHANGE_MAX,
    SHARED_BYTES_PER_AGENT_MAX,
};

/// What one agent may have: the tighter of what the configuration says and what its own manifest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentLimits {
    /// Links, offered and open.
    pub(crate) links: Limit,
    /// Bytes of all segments that it made and that are in use.
    pub(crate) bytes: Limit,
    /// Descriptors that the daemon keeps open for it.
    pub(crate) descriptors: Limit,
    /// Control packets a second.
    pub(crate) messages: Limit,
    /// Messages a second that the exchange takes from it, over all of its links: routed ones, and operations on queues and
    /// logs. 0 is any number.
    pub(crate) passed: Limit,
}

/// One limit, and where somebody has to go who wants another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How much.
    pub(crate) value: u64,
    /// Who said so.
    pub(crate) set_by: SetBy,
}

/// Who set a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SetBy {
    /// Nobody: it is what the daemon bears.
    BuiltIn,
    /// The configuration's `bus.limits`, in the entry for this pattern.
    Configuration(Arc<str>),
    /// The agent's own manifest.
    Manifest,
}

/// One line of the configuration: for whom, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    pattern: Arc<str>,
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

    /// The limits of an agent: the defaults, changed by the first entry whose pattern is its name's, then by what it asks for
    /// itself, which is never more.
    pub(crate) fn of(&self, name: &str, asked: &OwnLimits) -> AgentLimits {
        let mut limits = AgentLimits::of_name(name);
        let entry = self.entries.iter().find(|entry| matches(&entry.pattern, name));
        for (entry, (setting, number)) in
            entry.into_iter().flat_map(|entry| entry.settings.iter().map(move |one| (entry, one)))
        {
            let by = SetBy::Configuration(Arc::clone(&entry.pattern));
            match setting {
                // What the daemon itself can bear is not for the configuration to raise.
                Setting::Links => limits.links.tighten(*number, by),
                Setting::Descriptors => limits.descriptors.tighten(*number, by),
                Setting::Bytes => limits.bytes = Limit { value: *number, set_by: by },
                Setting::Messages => {
                    limits.messages = Limit { value: (*number).max(1), set_by: by };
                }
                Setting::Passed => limits.passed = Limit { value: *number, set_by: by },
            }
        }
        let own = |limit: &mut Limit, asked: Option<u64>| {
            if let Some(number) = asked {
                limit.tighten(number, SetBy::Manifest);
            }
        };
        own(&mut limits.links, asked.links);
        own(&mut limits.bytes, asked.bytes);
        own(&mut limits.descriptors, asked.descriptors);
        own(&mut limits.messages, asked.messages.map(|rate| rate.max(1)));
        // 0 is any number here, of which nobody can ask for more.
        if let Some(rate) = asked.passed.map(|rate| rate.max(1)) {
            match limits.passed.value {
                0 => limits.passed = Limit { value: rate, set_by: SetBy::Manifest },
                _ => limits.passed.tighten(rate, SetBy::Manifest),
            }
        }
        limits
    }
}

impl Limit {
    fn built_in(value: u64) -> Self {
        Self { value, set_by: SetBy::BuiltIn }
    }

    fn tighten(&mut self, value: u64, set_by: SetBy) {
        if value < self.value {
            *self = Self { value, set_by };
        }
    }

    /// As a rate of messages a second.
    pub(crate) fn rate(&self) -> u32 {
        u32::try_from(self.value).unwrap_or(u32::MAX)
    }

    /// Whether so many are more than it.
    pub(crate) fn is_exceeded_by(&self, count: usize) -> bool {
        count as u64 > self.value
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.value, self.set_by)
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built in"),
            Self::Configuration(pattern) => {
                write!(formatter, "set by `bus.limits` for `{pattern}`")
            }
            Self::Manifest => formatter.write_str("set by its own manifest"),
        }
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
        Self {
            links: Limit::built_in(links as u64),
            bytes: Limit::built_in(bytes),
            descriptors: Limit::built_in(descriptors as u64),
            messages: Limit::built_in(PACKETS_PER_SECOND_MAX.into()),
            passed: Limit::built_in(0),
        }
    }

    /// Each of them by the name that it has in the configuration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Limit)> {
        SETTINGS.iter().map(|(name, setting)| {
            let limit = match setting {
                Setting::Links => &self.links,
                Setting::Bytes => &self.bytes,
                Setting::Descriptors => &self.descriptors,
                Setting::Messages => &self.messages,
                Setting::Passed => &self.passed,
            };
            (*name, limit)
        })
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
    Ok(Entry { pattern: pattern.into(), settings })
}

/// The memory that the segments of one connection take.
#[derive(Debug)]
pub(crate) struct Share {
    used: AtomicU64,
    max: Limit,
}

/// Bytes of a share in use, until the last one who needs them drops this.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
}

impl Share {
    /// Nothing used yet.
    pub(crate) fn new(max: Limit) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), max })
    }

    /// Takes so many bytes; nothing when they are not left. The message for the agent is in the error.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Result<Held, String> {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max.value);
        // Relaxed: a number, and nothing that stands elsewhere.
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Held { share: Arc::clone(self), bytes }),
            Err(used) => Err(format!(
                "limit `bytes`: {used} bytes of shared memory are in use and {bytes} are asked \
                 for, of at most {}",
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
        let of = |name| table.of(name, &OwnLimits::default());
        let small = of("test.small");
        let set_by = SetBy::Configuration("test.small".into());
        assert_eq!(small.links, Limit { value: 2, set_by: set_by.clone() });
        assert_eq!(small.bytes, Limit { value: 4096, set_by });
        assert_eq!(small.messages, Limit::built_in(PACKETS_PER_SECOND_MAX.into()));
        assert_eq!(of("test.other").messages.to_string(), "10 (set by `bus.limits` for `test.>`)");
        let plain = LimitTable::default().of("elsewhere", &OwnLimits::default());
        assert_eq!(of("elsewhere"), plain);
        assert!(of(NAME).links.value > of("elsewhere").links.value);
    }

    #[test]
    fn a_manifest_only_ever_tightens() {
        let table = LimitTable::parse("a: links=5 bytes=4096 messages=10 passed=10").unwrap();
        let values = |limits: AgentLimits| -> Vec<u64> {
            limits.iter().map(|(_, limit)| limit.value).collect()
        };
        let configured = values(table.of("a", &OwnLimits::default()));
        let all = |number| OwnLimits {
            links: Some(number),
            bytes: Some(number),
            descriptors: Some(number),
            messages: Some(number),
            passed: Some(number),
        };
        let more = table.of("a", &all(u64::MAX));
        assert_eq!(values(more.clone()), configured);
        assert!(more.iter().all(|(_, limit)| limit.set_by != SetBy::Manifest));
        let less = table.of("a", &all(3));
        assert_eq!(values(less.clone()), [3; 5]);
        assert!(less.iter().all(|(_, limit)| limit.set_by == SetBy::Manifest));
        // A rate of nothing would hold an agent for ever.
        assert_eq!(values(table.of("a", &all(0))), [0, 0, 0, 1, 1]);
        // Where the configuration has none, any rate is tighter.
        let own = OwnLimits { passed: Some(7), ..OwnLimits::default() };
        assert_eq!(table.of("b", &own).passed, Limit { value: 7, set_by: SetBy::Manifest });
        assert_eq!(table.of("b", &OwnLimits::default()).passed.value, 0);
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
        let share = Share::new(Limit { value: 100, set_by: SetBy::Manifest });
        let one = share.take(60).unwrap();
        let refused = share.take(41).unwrap_err();
        assert!(refused.contains("limit `bytes`"), "{refused}");
        assert!(refused.ends_with("of at most 100 (set by its own manifest)"), "{refused}");
        drop(one);
        assert!(share.take(100).is_ok());
        assert!(share.take(u64::MAX).is_err());
    }
}
