//! Package names as small numbers, and the order in which npm visits them.
//!
//! npm sorts with the collation of the `en` locale and treats names that differ only in case as the same folder.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::texts::{Numbers, digest};
use crate::limits::{NPM_NAME_BYTES_MAX, NPM_NAMES_MAX};

/// A name in the tree (an alias counts as a name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NameId(u32);

impl NameId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A folder name without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Folder(NameId);

impl Folder {
    /// The name of the folder, in lower case.
    pub(super) fn name(self) -> NameId {
        self.0
    }
}

/// A name with what follows from its text.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: Arc<str>,
    digest: u64,
    /// The folder's name, where it is another text.
    lower: Option<Arc<Name>>,
    /// By what it sorts.
    key: Box<[u8]>,
}

/// Names that were seen before. One that is here twice is two objects of one text, which costs time and nothing else.
static SEEN: LazyLock<Mutex<HashMap<Arc<str>, Arc<Name>>>> = LazyLock::new(Mutex::default);

impl Name {
    fn new(text: &str) -> Self {
        let is_lower = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        let lower = if is_lower { None } else { Some(text.to_lowercase()) };
        let lower = lower.filter(|lower| lower != text);
        Self {
            text: text.into(),
            digest: digest(text),
            // Lowering twice may change a text once more; the first is the folder's.
            lower: lower.map(|lower| {
                let (key, digest) = (sort_key(&lower), digest(&lower));
                Arc::new(Name { text: lower.into(), digest, lower: None, key })
            }),
            key: sort_key(text),
        }
    }

    /// The same as a new one, once for every text.
    pub(super) fn shared(text: &str) -> Arc<Self> {
        if text.len() > NPM_NAME_BYTES_MAX {
            return Arc::new(Self::new(text));
        }
        let seen = || SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = seen().get(text) {
            return Arc::clone(name);
        }
        let name = Arc::new(Self::new(text));
        let mut seen = seen();
        // What is still used comes back by itself; nothing has to be known of who was used last.
        if seen.len() >= NPM_NAMES_MAX {
            seen.clear();
        }
        seen.insert(Arc::clone(&name.text), Arc::clone(&name));
        name
    }

    /// What a folder of that name is called.
    pub(super) fn folder(&self) -> &str {
        self.lower.as_ref().map_or(&*self.text, |lower| &*lower.text)
    }
}

/// The names of one resolution.
pub(super) struct Names {
    ids: Numbers<NameId>,
    names: Vec<Arc<Name>>,
    folders: Vec<Folder>,
    /// What the texts take, about.
    bytes: usize,
}

impl Names {
    pub(super) fn with_room_for(count: usize) -> Self {
        Self {
            ids: Numbers::with_room_for(count),
            names: Vec::with_capacity(count),
            folders: Vec::with_capacity(count),
            bytes: 0,
        }
    }

    /// What the texts and their keys take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn intern(&mut self, text: &str) -> NameId {
        match self.known(text) {
            Some(id) => id,
            None => self.take(&Name::shared(text)),
        }
    }

    pub(super) fn take(&mut self, name: &Arc<Name>) -> NameId {
        let is_it = |id: NameId| {
            let other = &self.names[id.index()];
            Arc::ptr_eq(other, name) || other.text == name.text
        };
        if let Some(id) = self.ids.get(name.digest, &name.text, is_it) {
            return id;
        }
        let id = NameId(u32::try_from(self.names.len()).expect("names are bounded by packages"));
        self.ids.insert(name.digest, &name.text, id);
        self.bytes += name.text.len() + name.key.len();
        self.names.push(Arc::clone(name));
        self.folders.push(Folder(id));
        if let Some(lower) = &name.lower {
            let lower = self.take(lower);
            self.folders[id.index()] = Folder(lower);
        }
        id
    }

    pub(super) fn known(&self, text: &str) -> Option<NameId> {
        self.ids.get(digest(text), text, |id| *self.names[id.index()].text == *text)
    }

    pub(super) fn text(&self, id: NameId) -> Arc<str> {
        Arc::clone(&self.names[id.index()].text)
    }

    pub(super) fn text_ref(&self, id: NameId) -> &str {
        &self.names[id.index()].text
    }

    /// The key by which it sorts.
    pub(super) fn key(&self, id: NameId) -> &[u8] {
        &self.names[id.index()].key
    }

    pub(super) fn folder(&self, id: NameId) -> Folder {
        self.folders[id.index()]
    }
}

/// Punctuation in the order of the collation, before digits and letters.
const PUNCTUATION: &[u8] = b" _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

/// What each byte sorts by.
const WEIGHTS: [u8; 256] = weights();

const fn weights() -> [u8; 256] {
    let mut weights = [0; 256];
    let mut byte = 0;
    while byte < weights.len() {
        weights[byte] = match byte as u8 {
            digit @ b'0'..=b'9' => 64 + (digit - b'0'),
            letter @ b'a'..=b'z' => 96 + (letter - b'a'),
            letter @ b'A'..=b'Z' => 96 + (letter - b'A'),
            other if other < 128 => 128,
            other => other,
        };
        byte += 1;
    }
    let mut at = 0;
    while at < PUNCTUATION.len() {
        weights[PUNCTUATION[at] as usize] = at as u8 + 1;
        at += 1;
    }
    weights
}

/// A key whose bytes sort as npm sorts the text: letters without regard to case, then lower case first.
pub(crate) fn sort_key(text: &str) -> Box<[u8]> {
    let mut key = Vec::with_capacity(text.len() * 2 + 1);
    put_sort_key(&mut key, text);
    key.into_boxed_slice()
}

/// The same behind what is in `key`.
pub(super) fn put_sort_key(key: &mut Vec<u8>, text: &str) {
    key.extend(text.bytes().map(|byte| WEIGHTS[usize::from(byte)]));
    key.push(0);
    key.extend(text.bytes().map(|byte| u8::from(byte.is_ascii_uppercase())));
}
