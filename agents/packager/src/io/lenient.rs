//! JSON as registries really write it: a field of an unexpected type is as good as absent, and never spoils the
//! rest. Streaming, so that the megabytes of a packument that nobody needs are skipped and not stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::limits::TABLE_ENTRIES_MAX;

/// Something that takes the JSON types that it understands and ignores the others.
pub(crate) trait Accept {
    /// A string.
    fn accept_text(&mut self, _text: &str) {}
    /// `true` or `false`.
    fn accept_flag(&mut self, _flag: bool) {}
    /// A whole number that is not negative.
    fn accept_number(&mut self, _number: u64) {}
    /// A list; must be read to its end.
    fn accept_list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    /// An object; must be read to its end.
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Lets a type be read with [`Accept`].
#[derive(Default)]
pub(crate) struct Lenient<T>(pub(crate) T);

impl<'de, T: Accept + Default> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = T::default();
        Fill(&mut value).deserialize(deserializer)?;
        Ok(Self(value))
    }
}

/// Reads into a value that already exists and may borrow from elsewhere.
pub(crate) struct Fill<'a, T>(pub(crate) &'a mut T);

impl<'de, T: Accept> DeserializeSeed<'de> for Fill<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Accept> Visitor<'de> for Fill<'_, T> {
    type Value = ();
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }
    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.0.accept_flag(flag);
        Ok(())
    }
    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.accept_number(number);
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.accept_text(text);
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.0.accept_list(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        self.0.accept_object(object)
    }
}

/// Something that keeps texts where they stand in the answer. Types that it does not understand it ignores.
pub(crate) trait Borrow<'de> {
    /// A string.
    fn borrow_text(&mut self, _text: Cow<'de, str>) {}
    /// An object; must be read to its end.
    fn borrow_object<A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Reads into a value that keeps texts where they stand.
pub(crate) struct Lend<'a, T>(pub(crate) &'a mut T);

impl<'de, T: Borrow<'de>> DeserializeSeed<'de> for Lend<'_, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Borrow<'de>> Visitor<'de> for Lend<'_, T> {
    type Value = ();
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.0.borrow_text(Cow::Borrowed(text));
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.borrow_text(Cow::Owned(text.to_owned()));
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<(), A::Error> {
        self.0.borrow_object(object)
    }
}

/// A string, or nothing.
impl<'de> Borrow<'de> for Option<Cow<'de, str>> {
    fn borrow_text(&mut self, text: Cow<'de, str>) {
        *self = Some(text);
    }
}

/// The entries of an object whose value is a text, in the order in which they stand there; others stand there as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs<'de>(Vec<(Cow<'de, str>, Option<Cow<'de, str>>)>);

impl<'de> Borrow<'de> for Pairs<'de> {
    fn borrow_object<A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = object.next_key()? {
            let mut text = None;
            object.next_value_seed(Lend(&mut text))?;
            if self.0.len() < TABLE_ENTRIES_MAX {
                self.0.push((name, text));
            }
        }
        Ok(())
    }
}

impl Pairs<'_> {
    /// How many entries stand there.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// As a table, in which of a name that stands there twice the last counts.
    pub(crate) fn table(&self) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for (name, text) in &self.0 {
            match text {
                Some(text) => table.insert(name.clone().into_owned(), text.clone().into_owned()),
                None => table.remove(&**name),
            };
        }
        table
    }
}

/// The name of a field, borrowed where it has no escapes.
pub(crate) struct Name<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor<'de>(PhantomData<&'de ()>);
        impl<'de> Visitor<'de> for NameVisitor<'de> {
            type Value = Name<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor(PhantomData))
    }
}

/// A string, or nothing.
impl Accept for Option<String> {
    fn accept_text(&mut self, text: &str) {
        *self = Some(text.to_owned());
    }
}

/// A flag, or nothing.
impl Accept for Option<bool> {
    fn accept_flag(&mut self, flag: bool) {
        *self = Some(flag);
    }
}

/// A number, or nothing.
impl Accept for Option<u64> {
    fn accept_number(&mut self, number: u64) {
        *self = Some(number);
    }
}

/// The strings of a list; a single string is a list of one.
impl Accept for Vec<String> {
    fn accept_text(&mut self, text: &str) {
        self.push(text.to_owned());
    }
    fn accept_list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(Lenient(text)) = list.next_element::<Lenient<Option<String>>>()? {
            if self.len() < TABLE_ENTRIES_MAX {
                self.extend(text);
            }
        }
        Ok(())
    }
}

/// The entries of an object that `T` understands something of.
impl<T: Accept + Default> Accept for BTreeMap<String, T> {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = object.next_key()? {
            let Lenient(value) = object.next_value::<Lenient<T>>()?;
            if self.len() < TABLE_ENTRIES_MAX {
                self.insert(name.into_owned(), value);
            }
        }
        Ok(())
    }
}

/// The entries of an object whose value is a text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) BTreeMap<String, String>);

impl Accept for Table {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = object.next_key()? {
            match object.next_value::<Lenient<Option<String>>>()? {
                Lenient(Some(text)) if self.0.len() < TABLE_ENTRIES_MAX => {
                    self.0.insert(name.into_owned(), text);
                }
                Lenient(Some(_)) => {}
                // Of a name that stands there twice the last counts.
                Lenient(None) => {
                    self.0.remove(&*name);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_another_type_is_absent() {
        let table: Lenient<BTreeMap<String, Option<String>>> = serde_json::from_str(
            r#"{"a":"x","b":1,"c":null,"d":[{"e":"y"}],"f":-1.5,"g":{"h":[]}}"#,
        )
        .expect("valid JSON");
        let present = table.0.into_iter().filter_map(|(name, value)| Some((name, value?)));
        assert_eq!(
            BTreeMap::from_iter(present),
            BTreeMap::from([("a".to_owned(), "x".to_owned())])
        );
        let table: Lenient<Table> =
            serde_json::from_str(r#"{"a":"x","b":1,"c":"y","c":[],"d":null}"#).expect("valid JSON");
        assert_eq!(table.0.0, BTreeMap::from([("a".to_owned(), "x".to_owned())]));
    }

    #[test]
    fn a_text_with_escapes_is_read_and_an_unneeded_broken_one_is_skipped() {
        let table: Lenient<BTreeMap<String, Vec<String>>> =
            serde_json::from_str(r#"{"\u0061":["\n",7,"b"],"c":"d"}"#).expect("valid JSON");
        assert_eq!(table.0["a"], ["\n", "b"]);
        assert_eq!(table.0["c"], ["d"]);
    }
}
