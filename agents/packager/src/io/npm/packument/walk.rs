//! Going through JSON without reading it.
//!
//! Of the megabytes of a packument hardly a tenth is ever read: what nobody needs is gone over, and what stood there word for word before
//! is known without a look at its words. Where a value ends is found by its quotes and brackets alone, so one that nobody reads may be
//! no JSON. One that was cut off has no end.

use std::borrow::Cow;

use serde::de::Error as _;
use serde_json::Error;

/// A place in a text.
pub(super) struct Walk<'de> {
    bytes: &'de [u8],
    at: usize,
}

/// A name and its value, as they stand in an object.
#[derive(Clone, Copy)]
pub(super) struct Member<'de> {
    /// From the quote before the name to the end of the value.
    text: &'de [u8],
    /// With its quotes.
    name: &'de [u8],
    pub(super) value: &'de [u8],
}

impl<'de> Walk<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_at_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Goes into the object that stands here, or over what else does; whether it is an object with something in it.
    pub(super) fn enter(&mut self) -> Result<bool, Error> {
        if !self.is_at_object() {
            return self.value().map(|_| false);
        }
        self.at += 1;
        let is_empty = self.peek() == Some(b'}');
        self.at += usize::from(is_empty);
        Ok(!is_empty)
    }

    /// Goes behind a member; whether another one follows it.
    pub(super) fn has_more(&mut self) -> Result<bool, Error> {
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(b'}') => self.at += 1,
            _ => return Err(self.wrong("`,` or `}`")),
        }
        Ok(self.bytes[self.at - 1] == b',')
    }

    /// Goes behind the name of a member, which is given with its quotes.
    pub(super) fn name(&mut self) -> Result<&'de [u8], Error> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a name"));
        }
        let name = self.value()?;
        if self.peek() != Some(b':') {
            return Err(self.wrong("`:`"));
        }
        self.at += 1;
        Ok(name)
    }

    /// Goes behind a value, which is given.
    pub(super) fn value(&mut self) -> Result<&'de [u8], Error> {
        let first = self.peek();
        let begin = self.at;
        let end = match first {
            Some(b'"') => behind_text(self.bytes, begin + 1),
            Some(b'{' | b'[') => behind_brackets(self.bytes, begin),
            _ => Some(behind_word(self.bytes, begin)).filter(|end| *end > begin),
        };
        self.at = end.ok_or_else(|| self.wrong("a value"))?;
        Ok(&self.bytes[begin..self.at])
    }

    /// Goes behind a member, which is given; whether it is this one, word for word.
    pub(super) fn member(
        &mut self,
        probably: Option<Member<'de>>,
    ) -> Result<(Member<'de>, bool), Error> {
        self.peek();
        if let Some(known) = probably
            && self.bytes[self.at..].starts_with(known.text)
            && known.has_own_end()
        {
            let begin = self.at;
            self.at += known.text.len();
            let text = &self.bytes[begin..self.at];
            return Ok((Member { text, ..known }, true));
        }
        let begin = self.at;
        let name = self.name()?;
        let value = self.value()?;
        Ok((Member { text: &self.bytes[begin..self.at], name, value }, false))
    }

    /// Refuses anything else behind what was gone through.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("nothing more")),
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn wrong(&self, expected: &str) -> Error {
        Error::custom(format!("{expected} is missing at byte {}", self.at))
    }
}

impl<'de> Member<'de> {
    /// What its name says.
    pub(super) fn name(&self) -> Result<Cow<'de, [u8]>, Error> {
        said(self.name)
    }

    /// Whether its name is written as it is here.
    pub(super) fn is_named_as(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// Whether it can be seen of the value where it ends, whatever follows.
    fn has_own_end(&self) -> bool {
        matches!(self.value.first(), Some(b'"' | b'{' | b'['))
    }
}

/// What a text in quotes says.
pub(super) fn said(quoted: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    match quoted {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_slice::<String>(quoted).map(|text| Cow::Owned(text.into_bytes())),
    }
}

/// The same as text.
pub(super) fn text(quoted: &[u8]) -> Result<Cow<'_, str>, Error> {
    match quoted {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            std::str::from_utf8(inner).map(Cow::Borrowed).map_err(Error::custom)
        }
        _ => serde_json::from_slice::<String>(quoted).map(Cow::Owned),
    }
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Has the highest bit of the first byte that is this one, and of none before it.
fn first_of(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * u64::from(byte));
    other.wrapping_sub(ONES) & !other & HIGHS
}

/// Behind the quote that ends the text that begins here.
fn behind_text(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        while let Some(eight) = bytes.get(at..)?.first_chunk() {
            let word = u64::from_le_bytes(*eight);
            let found = first_of(word, b'"') | first_of(word, b'\\');
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Behind the bracket that closes the one that stands here.
fn behind_brackets(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b'"' => at = behind_text(bytes, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
}

/// Behind a number or a word.
fn behind_word(bytes: &[u8], at: usize) -> usize {
    let is_end =
        |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':');
    bytes[at..].iter().position(is_end).map_or(bytes.len(), |count| at + count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The members of a whole object, read by a parser one by one.
    fn members(bytes: &[u8]) -> Result<Vec<(String, Value)>, Error> {
        let mut walk = Walk::new(bytes);
        let mut members = Vec::new();
        let mut has_more = walk.enter()?;
        while has_more {
            let (member, _) = walk.member(None)?;
            let name = text(member.name)?.into_owned();
            members.push((name, serde_json::from_slice(member.value)?));
            has_more = walk.has_more()?;
        }
        walk.end().map(|()| members)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            r#"["\\{}\[\],: a]{0,20}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                table(inner).prop_map(Value::Object),
            ]
        })
    }

    fn table(
        inner: impl Strategy<Value = Value>,
    ) -> impl Strategy<Value = serde_json::Map<String, Value>> {
        proptest::collection::vec((r#"["\\{}a-c]{0,9}"#, inner), 0..6)
            .prop_map(|entries| entries.into_iter().collect())
    }

    proptest! {
        #[test]
        fn members_are_those_that_a_parser_sees(table in table(json()), is_pretty: bool) {
            let text = match is_pretty {
                true => serde_json::to_string_pretty(&table).expect("text"),
                false => serde_json::to_string(&table).expect("text"),
            };
            let seen: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("an object");
            assert_eq!(members(text.as_bytes()).expect("an object"), Vec::from_iter(seen));
            for length in 1..text.len() {
                assert!(members(&text.as_bytes()[..length]).is_err(), "{length} bytes of {text}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_stand_still(bytes in r#"["\\{}\[\],: \n1a\u{e9}]{0,40}"#) {
            let _ = members(bytes.as_bytes());
        }

        #[test]
        fn what_is_found_eight_bytes_at_a_time_is_what_is_found_one_by_one(text in r#"["\\a]{0,40}"#) {
            let mut at = 0;
            let expected = loop {
                match text.as_bytes().get(at) {
                    None => break None,
                    Some(b'"') => break Some(at + 1),
                    Some(b'\\') => at += 2,
                    Some(_) => at += 1,
                }
            };
            assert_eq!(behind_text(text.as_bytes(), 0), expected);
        }
    }

    #[test]
    fn a_member_that_only_begins_as_another_is_not_taken_for_it() {
        let mut walk = Walk::new(br#"{"a":1,"a":12,"a":12,"b":"x","b":"x"}"#);
        assert!(walk.enter().expect("an object"));
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let (member, is_same) = walk.member(before).expect("a member");
            seen.push((std::str::from_utf8(member.value).expect("text"), is_same));
            before = Some(member);
            if !walk.has_more().expect("more, or an end") {
                break;
            }
        }
        // Of a number it is only seen behind it where it ends.
        let expected =
            [("1", false), ("12", false), ("12", false), (r#""x""#, false), (r#""x""#, true)];
        assert_eq!(seen, expected);
    }
}
