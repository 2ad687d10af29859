//! Sets of classes: what a router allows, what a program can do.

use std::fmt;

use super::Class;

/// Some of the classes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClassSet(u8);

impl ClassSet {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Those that carry the messages of links.
    pub const LINKS: Self = Self::NONE.with(Class::Critical).with(Class::High).with(Class::Normal);
    /// What everybody can do who speaks a protocol before classes were agreed on.
    pub const CRITICAL: Self = Self::NONE.with(Class::Critical);

    /// The same and one more.
    #[must_use]
    pub const fn with(self, class: Class) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    /// The same without one.
    #[must_use]
    pub const fn without(self, class: Class) -> Self {
        Self(self.0 & !(1 << class as u8))
    }

    /// Whether it is one of them.
    pub const fn has(self, class: Class) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    /// What goes over the wire: one bit each.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the wire; bits of classes that this version does not know are left out.
    pub fn from_bits(bits: u8) -> Self {
        let known = Class::ALL.into_iter().filter(|class| Self(bits).has(*class));
        known.fold(Self::NONE, Self::with)
    }

    /// Each of them, the most urgent first.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |class| self.has(*class))
    }
}

impl fmt::Debug for ClassSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_travels_as_bits_and_unknown_ones_are_left_out() {
        let set = ClassSet::LINKS.without(Class::High);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Class::Critical, Class::Normal]);
        assert_eq!(ClassSet::from_bits(set.bits()), set);
        assert_eq!(ClassSet::from_bits(0xe1), ClassSet::CRITICAL);
    }
}
