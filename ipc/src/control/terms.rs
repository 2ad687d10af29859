//! How the messages of a link travel, as the two sides and the router agree on it.
//!
//! The opener names the class that it wants and the best that it can still have. The router, then the acceptor, take it as it
//! is or go down, one class at a time, and say why; the opener may find last that it cannot reach the acceptor's ring, closes
//! the link and asks for the next class down. So a link's class is never better than anybody along the way can do, and the
//! reason is known at both ends.
//!
//! Not here: what each class needs (`class`), and who decides what is allowed (`runtime`).

use super::codec::{DecodeError, EncodeError};
use super::fields::{Reader, Writer};
use crate::class::{Class, ClassSet};
use crate::limits::TEXT_BYTES_MAX;

/// The protocol version of the control plane from which on links have classes.
pub const CLASSES_SINCE: (u16, u16) = (1, 2);

/// In the place of a ring's number where there is none: no process has so many descriptors.
const NO_RING: u32 = u32::MAX;

/// How the messages of a link travel, and why not as its opener wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The class: in a request the best that can still be had, in an answer the one that it is.
    pub class: Class,
    /// What the opener wanted at first.
    pub wanted: Class,
    /// For class HIGH: the number of the sender's ring in its process.
    pub ring: Option<u32>,
    /// Why the class is not the one that was wanted; empty where it is.
    pub reason: String,
}

/// There is no class further down that carries a link; the reasons are in the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoClass;

impl Default for Terms {
    /// What is meant by whoever does not say: a protocol before classes were agreed on.
    fn default() -> Self {
        Self::wanted(Class::Critical)
    }
}

impl Terms {
    /// Nothing but a wish.
    pub fn wanted(class: Class) -> Self {
        Self { class, wanted: class, ring: None, reason: String::new() }
    }

    /// Goes one class down, because of `why`.
    pub fn fall(&mut self, why: &str) -> Result<(), NoClass> {
        if !self.reason.is_empty() {
            self.reason.push_str("; ");
        }
        let plain = why.chars().filter(|letter| !letter.is_control());
        self.reason.push_str(self.class.name());
        self.reason.push_str(": ");
        self.reason.extend(plain);
        let mut end = self.reason.len().min(TEXT_BYTES_MAX);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        self.reason.truncate(end);
        match self.class.next_down().filter(|class| ClassSet::LINKS.has(*class)) {
            Some(class) if ClassSet::LINKS.has(self.class) => {
                self.class = class;
                Ok(())
            }
            _ => Err(NoClass),
        }
    }

    /// Goes down to the first class for which `refusal` has no objection.
    pub fn settle(&mut self, refusal: impl Fn(Class) -> Option<String>) -> Result<(), NoClass> {
        while let Some(why) = refusal(self.class) {
            self.fall(&why)?;
        }
        Ok(())
    }

    /// Whether it is another class than was wanted.
    pub fn has_fallen(&self) -> bool {
        self.class != self.wanted
    }

    /// How many descriptors go along besides those of every link: the process whose ring is to be fetched.
    pub(super) fn descriptors(&self) -> usize {
        usize::from(self.class == Class::High)
    }
}

pub(super) fn write_terms(out: &mut Writer, terms: &Terms) -> Result<(), EncodeError> {
    out.extensible("terms", |out| {
        out.u8(terms.class as u8);
        out.u8(terms.wanted as u8);
        out.u32(terms.ring.unwrap_or(NO_RING));
        out.block("reason", terms.reason.as_bytes(), TEXT_BYTES_MAX)
    })
}

/// Messages of an earlier version end before their terms.
pub(super) fn read_terms(fields: &mut Reader<'_>) -> Result<Terms, DecodeError> {
    if fields.is_empty() {
        return Ok(Terms::default());
    }
    let mut fields = fields.extensible("terms")?;
    let class = read_class(&mut fields)?;
    let wanted = read_class(&mut fields)?;
    let ring = fields.u32("ring")?;
    let reason = fields.text("reason", TEXT_BYTES_MAX)?;
    Ok(Terms { class, wanted, ring: (ring != NO_RING).then_some(ring), reason })
}

fn read_class(fields: &mut Reader<'_>) -> Result<Class, DecodeError> {
    let number = fields.u8("class")?;
    Class::from_number(number).ok_or(DecodeError::Value { field: "class", got: number.into() })
}

/// What a router allows; one of an earlier version knows critical links only.
pub(super) fn read_classes(fields: &mut Reader<'_>) -> Result<ClassSet, DecodeError> {
    match fields.is_empty() {
        true => Ok(ClassSet::CRITICAL),
        false => fields.u8("classes").map(ClassSet::from_bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_goes_one_class_down_and_keeps_every_reason() {
        let mut terms = Terms::wanted(Class::Critical);
        terms.fall("not\nallowed").unwrap();
        assert_eq!((terms.class, terms.has_fallen()), (Class::High, true));
        terms.fall("no rings").unwrap();
        assert_eq!(terms.class, Class::Normal);
        assert_eq!(terms.reason, "critical: notallowed; high: no rings");
        assert_eq!(terms.fall("no sockets"), Err(NoClass));
        assert_eq!(terms.wanted, Class::Critical);
    }

    #[test]
    fn reasons_stay_within_a_text() {
        let mut terms = Terms::wanted(Class::Critical);
        terms.fall(&"ß".repeat(TEXT_BYTES_MAX)).unwrap();
        assert!(terms.reason.len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn what_carries_no_links_cannot_be_settled_on() {
        for class in [Class::Low, Class::Batch] {
            let refusal = |class| (!ClassSet::LINKS.has(class)).then(String::new);
            assert_eq!(Terms::wanted(class).settle(refusal), Err(NoClass));
        }
    }
}
