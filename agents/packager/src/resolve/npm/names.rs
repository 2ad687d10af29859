//! Package names as small numbers, and the order in which npm visits them.
//!
//! npm sorts with the collation of the `en` locale and treats names that differ only in case as the same folder.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A name in the tree (an alias counts as a name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NameId(u32);

/// A folder name without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Folder(NameId);

#[derive(Default)]
pub(super) struct Names {
    ids: HashMap<Rc<str>, NameId>,
    texts: Vec<Rc<str>>,
    folders: Vec<Folder>,
    keys: Vec<OnceCell<Rc<[u8]>>>,
}

impl Names {
    pub(super) fn intern(&mut self, text: &str) -> NameId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = NameId(u32::try_from(self.texts.len()).expect("names are bounded by packages"));
        let shared: Rc<str> = text.into();
        self.ids.insert(Rc::clone(&shared), id);
        self.texts.push(shared);
        self.folders.push(Folder(id));
        self.keys.push(OnceCell::new());
        let is_lower = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if is_lower {
            return id;
        }
        let lower = text.to_lowercase();
        if lower != text {
            let lower = self.intern(&lower);
            self.folders[id.0 as usize] = Folder(lower);
        }
        id
    }

    pub(super) fn known(&self, text: &str) -> Option<NameId> {
        self.ids.get(text).copied()
    }

    pub(super) fn text(&self, id: NameId) -> Rc<str> {
        Rc::clone(&self.texts[id.0 as usize])
    }

    /// The key by which it sorts.
    pub(super) fn key(&self, id: NameId) -> Rc<[u8]> {
        let at = id.0 as usize;
        Rc::clone(self.keys[at].get_or_init(|| sort_key(&self.texts[at]).into()))
    }

    pub(super) fn folder(&self, id: NameId) -> Folder {
        self.folders[id.0 as usize]
    }
}

/// Punctuation in the order of the collation, before digits and letters.
const PUNCTUATION: &[u8] = b" _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// A key whose bytes sort as npm sorts the text: letters without regard to case, then lower case first.
pub(crate) fn sort_key(text: &str) -> Box<[u8]> {
    let mut key = Vec::with_capacity(text.len() * 2 + 1);
    for byte in text.bytes() {
        key.push(match byte {
            b'0'..=b'9' => 64 + (byte - b'0'),
            b'a'..=b'z' => 96 + (byte - b'a'),
            b'A'..=b'Z' => 96 + (byte - b'A'),
            _ => match PUNCTUATION.iter().position(|&mark| mark == byte) {
                Some(at) => u8::try_from(at + 1).unwrap_or(63),
                None => byte.max(128),
            },
        });
    }
    key.push(0);
    key.extend(text.bytes().map(|byte| u8::from(byte.is_ascii_uppercase())));
    key.into_boxed_slice()
}
