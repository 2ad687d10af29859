//! A set of CPU numbers and the kernel's list format (`0-1,10-19`). Not the kernel's mask format.

use std::fmt;

use crate::limits::CPU_NUMBER_MAX;

/// CPU numbers below [`CPU_NUMBER_MAX`], ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet {
    /// One bit per number; never with an empty word at the end, so that equal sets are equal values.
    words: Vec<u64>,
}

impl CpuSet {
    /// Reads the kernel's list format; `None` for anything else, for a number out of bounds or a range that runs
    /// backwards. White space around the whole is the kernel's line end; an empty text is the empty set.
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Some(set);
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            set.insert_range(first, last);
        }
        Some(set)
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < u64::BITS).then_some(index * 64 + bit as usize)
            })
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The smallest number.
    pub fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// Whether it holds `cpu`.
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }

    /// Whether it holds every number of `other`.
    pub fn covers(&self, other: &Self) -> bool {
        other.difference(self).is_empty()
    }

    /// The numbers in both.
    pub fn intersection(&self, other: &Self) -> Self {
        Self::from_words(self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect())
    }

    /// The numbers in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        Self::from_words(self.words.iter().zip(others).map(|(a, b)| a & !b).collect())
    }

    /// The numbers in either.
    pub fn union(&self, other: &Self) -> Self {
        let (long, short) = match self.words.len() >= other.words.len() {
            true => (self, other),
            false => (other, self),
        };
        let others = short.words.iter().copied().chain(std::iter::repeat(0));
        Self::from_words(long.words.iter().zip(others).map(|(a, b)| a | b).collect())
    }

    fn from_words(mut words: Vec<u64>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    /// Both ends are in, and below the bound. A list that repeats its longest range as often as fits in a file costs
    /// a word per 64 numbers each time, not a step per number.
    fn insert_range(&mut self, first: usize, last: usize) {
        if self.words.len() <= last / 64 {
            self.words.resize(last / 64 + 1, 0);
        }
        for index in first / 64..=last / 64 {
            let from = first.saturating_sub(index * 64);
            let to = (last - index * 64).min(63);
            self.words[index] |= (u64::MAX >> (63 - to)) & (u64::MAX << from);
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number < CPU_NUMBER_MAX)
}

impl FromIterator<usize> for CpuSet {
    /// Numbers that no kernel has are left out.
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut set = Self::default();
        for cpu in numbers.into_iter().filter(|cpu| *cpu < CPU_NUMBER_MAX) {
            set.insert_range(cpu, cpu);
        }
        set
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.next_if(|next| *next == last + 1).is_some() {
                last += 1;
            }
            match first == last {
                true => write!(formatter, "{separator}{first}")?,
                false => write!(formatter, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::CpuSet;
    use crate::limits::CPU_NUMBER_MAX;

    #[test]
    fn lists_round_trip() {
        for text in ["", "0", "0-1", "0-1,10-19", "3,5,7-9", "0-63", "64-127,1023-1025", "0-8191"] {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(CpuSet::parse("7-9,3,5,8\n").unwrap().to_string(), "3,5,7-9");
    }

    #[test]
    fn nonsense_is_refused() {
        let texts = [
            "a",
            "1-",
            "-1",
            "5-3",
            "0-99999999999",
            "0-8192",
            "1 2",
            ",",
            "0,,1",
            "0,",
            "+1",
            "1-+2",
            "0-31:2/4",
            "0x3",
            "0-1-2",
            "18446744073709551616",
            "١",
            "1\u{0}",
        ];
        for text in texts {
            assert_eq!(CpuSet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_range_again_and_again_is_that_range() {
        let list = vec!["0-8191"; 2000].join(",");
        assert_eq!(CpuSet::parse(&list).unwrap().len(), CPU_NUMBER_MAX);
    }

    proptest! {
        #[test]
        fn a_set_is_what_a_slow_one_is(
            a in vec(any::<(u16, u8)>(), 0..6),
            b in vec(any::<(u16, u8)>(), 0..6),
            cpu in any::<u16>(),
        ) {
            let slow = |ranges: &[(u16, u8)]| -> BTreeSet<usize> {
                let numbers = |(first, more): &(u16, u8)| {
                    let first = usize::from(*first) % CPU_NUMBER_MAX;
                    first..=(first + usize::from(*more)).min(CPU_NUMBER_MAX - 1)
                };
                ranges.iter().flat_map(numbers).collect()
            };
            let list = |ranges: &[(u16, u8)]| {
                let text = |(first, more): &(u16, u8)| {
                    let first = usize::from(*first) % CPU_NUMBER_MAX;
                    format!("{first}-{}", (first + usize::from(*more)).min(CPU_NUMBER_MAX - 1))
                };
                CpuSet::parse(&ranges.iter().map(text).collect::<Vec<_>>().join(",")).unwrap()
            };
            let (slow_a, slow_b, a, b) = (slow(&a), slow(&b), list(&a), list(&b));
            let same = |fast: &CpuSet, slow: BTreeSet<usize>| {
                assert_eq!(fast, &slow.iter().copied().collect());
                assert!(fast.iter().eq(slow.iter().copied()));
                assert_eq!((fast.len(), fast.is_empty()), (slow.len(), slow.is_empty()));
                assert_eq!(CpuSet::parse(&fast.to_string()).as_ref(), Some(fast));
            };
            assert_eq!(a.contains(cpu.into()), slow_a.contains(&cpu.into()));
            assert_eq!(a.covers(&b), slow_a.is_superset(&slow_b));
            same(&a.intersection(&b), slow_a.intersection(&slow_b).copied().collect());
            same(&a.difference(&b), slow_a.difference(&slow_b).copied().collect());
            same(&a.union(&b), slow_a.union(&slow_b).copied().collect());
            same(&a, slow_a);
        }
    }
}
