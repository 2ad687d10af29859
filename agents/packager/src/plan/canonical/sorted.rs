//! JSON without spaces whose objects have their keys in the order of their bytes, written in one pass: where an object
//! ends whose fields came in another order, its entries are put in order. Structures of which there are many are declared
//! in that order, since what lies in objects inside each other would be moved once for each.
//!
//! Recursion is as deep as the types of what is written, not as deep as some input.

mod key;

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{self, Error as _};
use serde_json::Error;

use key::Key;

/// Appends a value.
#[cfg(test)]
pub(super) fn append(bytes: Vec<u8>, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut sink = Sink::new(bytes);
    value.serialize(Writer(&mut sink))?;
    Ok(sink.bytes)
}

/// What is written so far.
pub(super) struct Sink {
    bytes: Vec<u8>,
    /// Where an object is put in order.
    aside: Vec<u8>,
    /// Of the objects that are open, the outermost first: the keys, and where the entry of each begins.
    entries: Vec<(Cow<'static, str>, usize)>,
}

impl Sink {
    /// Goes on behind what is there.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, aside: Vec::new(), entries: Vec::new() }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends what is JSON as it is.
    pub(super) fn put(&mut self, json: &str) {
        self.put_bytes(json.as_bytes());
    }

    /// A key, with what is before and behind it, and its value.
    pub(super) fn field(&mut self, key: &str, value: &impl Serialize) -> Result<(), Error> {
        self.put(key);
        value.serialize(Writer(self))
    }

    pub(super) fn number(&mut self, mut number: u64) {
        /// As many as the largest has.
        const DIGITS_MAX: usize = 20;
        let mut digits = [b'0'; DIGITS_MAX];
        let mut begin = DIGITS_MAX;
        loop {
            begin -= 1;
            digits[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[begin..]);
    }

    /// Appends what is JSON already.
    pub(super) fn put_bytes(&mut self, json: &[u8]) {
        self.bytes.extend_from_slice(json);
    }

    /// What JSON writes in one way only: whole numbers, truth values and nothing.
    fn plain(&mut self, value: &impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(&mut self.bytes, value)
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes.reserve(text.len() + 2);
        self.bytes.push(b'"');
        self.piece(text)?;
        self.bytes.push(b'"');
        Ok(())
    }

    /// Some of a text.
    fn piece(&mut self, text: &str) -> Result<(), Error> {
        // Nearly all texts are as they are. Looking at all bytes, whatever is found, is a few of them at a time.
        let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if !text.bytes().fold(false, |found, byte| found | is_special(byte)) {
            self.bytes.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        // What JSON writes of it stands between two quotes that are not wanted.
        let start = self.bytes.len();
        serde_json::to_writer(&mut self.bytes, text)?;
        self.bytes.pop();
        self.bytes.remove(start);
        Ok(())
    }
}

/// A text that is written piece by piece.
struct Pieces<'a> {
    sink: &'a mut Sink,
    problem: Option<Error>,
}

impl std::fmt::Write for Pieces<'_> {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.sink.piece(piece).map_err(|problem| {
            self.problem = Some(problem);
            std::fmt::Error
        })
    }
}

struct Writer<'a>(&'a mut Sink);

/// An object or a list of which the beginning is written.
struct Open<'a> {
    sink: &'a mut Sink,
    start: usize,
    /// Where its entries begin among all.
    first: usize,
    /// What closes it after the object itself: that of an enum.
    is_wrapped: bool,
}

impl Open<'_> {
    fn entry(
        &mut self,
        key: Cow<'static, str>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        let is_first = self.sink.entries.len() == self.first;
        self.sink.bytes.push(if is_first { b'{' } else { b',' });
        let begin = self.sink.bytes.len();
        self.sink.text(&key)?;
        self.sink.bytes.push(b':');
        self.sink.entries.push((key, begin));
        value.serialize(Writer(self.sink))
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        if self.sink.bytes.len() > self.start {
            self.sink.bytes.push(b',');
        }
        value.serialize(Writer(self.sink))
    }

    fn close_object(self) {
        let Self { sink, start, first, is_wrapped } = self;
        let entries = &sink.entries[first..];
        if entries.is_empty() {
            sink.bytes.push(b'{');
        }
        if !entries.is_sorted_by(|left, right| left.0.as_bytes() <= right.0.as_bytes()) {
            let ends = entries.iter().skip(1).map(|(_, begin)| begin - 1);
            let ends = ends.chain([sink.bytes.len()]);
            let mut order: Vec<(&str, std::ops::Range<usize>)> =
                entries.iter().zip(ends).map(|((key, begin), end)| (&**key, *begin..end)).collect();
            order.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
            sink.aside.clear();
            for (at, (_, place)) in order.into_iter().enumerate() {
                sink.aside.push(if at == 0 { b'{' } else { b',' });
                sink.aside.extend_from_slice(&sink.bytes[place]);
            }
            sink.bytes.truncate(start);
            sink.bytes.extend_from_slice(&sink.aside);
        }
        sink.entries.truncate(first);
        sink.bytes.extend_from_slice(if is_wrapped { b"}}" } else { b"}" });
    }

    fn close_list(self) {
        self.sink.bytes.extend_from_slice(if self.is_wrapped { b"]}" } else { b"]" });
    }
}

impl<'a> Writer<'a> {
    fn open(self, is_wrapped: bool) -> Open<'a> {
        let (start, first) = (self.0.bytes.len(), self.0.entries.len());
        Open { sink: self.0, start, first, is_wrapped }
    }

    fn open_list(self, is_wrapped: bool) -> Open<'a> {
        self.0.bytes.push(b'[');
        self.open(is_wrapped)
    }

    fn wrap(&mut self, variant: &'static str) -> Result<(), Error> {
        self.0.bytes.push(b'{');
        self.0.text(variant)?;
        self.0.bytes.push(b':');
        Ok(())
    }
}

macro_rules! plain {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, value: $type) -> Result<(), Error> {
            self.0.plain(&value)
        })*
    };
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    plain!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32);
    plain!(serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32);
    plain!(serialize_u64: u64, serialize_char: char);

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.0.text(text)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.0.bytes.push(b'"');
        let mut pieces = Pieces { sink: self.0, problem: None };
        let written = std::fmt::write(&mut pieces, format_args!("{value}"));
        match (written, pieces.problem.take()) {
            (Ok(()), None) => pieces.sink.bytes.push(b'"'),
            (_, Some(problem)) => return Err(problem),
            (Err(_), None) => return Err(Error::custom("a value that cannot be written as text")),
        }
        Ok(())
    }

    fn serialize_f32(self, _value: f32) -> Result<(), Error> {
        Err(Error::custom("a fractional number"))
    }

    fn serialize_f64(self, _value: f64) -> Result<(), Error> {
        Err(Error::custom("a fractional number"))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.plain(&())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.wrap(variant)?;
        value.serialize(Writer(self.0))?;
        self.0.bytes.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Open<'a>, Error> {
        Ok(self.open_list(false))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Open<'a>, Error> {
        Ok(self.open_list(false))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Open<'a>, Error> {
        Ok(self.open_list(false))
    }

    fn serialize_tuple_variant(
        mut self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Open<'a>, Error> {
        self.wrap(variant)?;
        Ok(self.open_list(true))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Map<'a>, Error> {
        Ok(Map { open: self.open(false), key: None })
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Open<'a>, Error> {
        Ok(self.open(false))
    }

    fn serialize_struct_variant(
        mut self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Open<'a>, Error> {
        self.wrap(variant)?;
        Ok(self.open(true))
    }
}

impl ser::SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close_list();
        Ok(())
    }
}

macro_rules! lists {
    ($($kind:ident $item:ident),*) => {
        $(impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close_list();
                Ok(())
            }
        })*
    };
}

macro_rules! objects {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.entry(Cow::Borrowed(key), value)
            }

            fn end(self) -> Result<(), Error> {
                self.close_object();
                Ok(())
            }
        })*
    };
}

lists!(SerializeTuple serialize_element, SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);
objects!(SerializeStruct, SerializeStructVariant);

/// A map, whose keys are texts.
struct Map<'a> {
    open: Open<'a>,
    key: Option<String>,
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(key.serialize(Key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value without a key"))?;
        self.open.entry(Cow::Owned(key), value)
    }

    fn end(self) -> Result<(), Error> {
        self.open.close_object();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Variant {
        Unit,
        New(u8),
        Pair(u8, u8),
        Fields { z: (), a: u8 },
    }

    #[derive(Serialize)]
    struct Value {
        z: Vec<Variant>,
        a: BTreeMap<String, Option<i64>>,
        m: (bool, char),
        empty: BTreeMap<String, ()>,
        none: Vec<u8>,
    }

    #[test]
    fn keys_are_sorted_by_their_bytes_at_every_depth() {
        let keys = ["b", "a", "\"", "\u{e9}", "\n", "["];
        let value = Value {
            z: vec![
                Variant::Unit,
                Variant::New(1),
                Variant::Pair(1, 2),
                Variant::Fields { z: (), a: 1 },
            ],
            a: keys.iter().map(|key| ((*key).to_owned(), Some(-1))).collect(),
            m: (true, '\u{1}'),
            empty: BTreeMap::new(),
            none: Vec::new(),
        };
        let bytes = append(Vec::new(), &value).expect("written");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(
            text,
            concat!(
                r#"{"a":{"\n":-1,"\"":-1,"[":-1,"a":-1,"b":-1,"é":-1},"empty":{},"#,
                r#""m":[true,"\u0001"],"none":[],"z":["unit",{"new":1},{"pair":[1,2]},"#,
                r#"{"fields":{"a":1,"z":null}}]}"#
            )
        );
        let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, serde_json::to_value(&value).expect("a value"));
    }

    #[test]
    fn a_text_in_pieces_is_one_text() {
        struct Pieces;
        impl Serialize for Pieces {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&format_args!("{}\"{}\n", "a", 'b'))
            }
        }
        let bytes = append(Vec::new(), &Pieces).expect("written");
        assert_eq!(bytes, br#""a\"b\n""#);
    }

    #[test]
    fn what_has_several_spellings_is_refused() {
        assert!(append(Vec::new(), &json!({"a": 0.5})).is_err());
        assert!(append(Vec::new(), &BTreeMap::from([(1, 2)])).is_err());
    }
}
