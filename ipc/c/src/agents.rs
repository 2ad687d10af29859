//! Agents as C sees them: texts that end with NUL, and the structure that points to them.
#![allow(unsafe_code, reason = "says that what points into itself may move between threads")]

use std::ffi::{CString, c_char};

use ipc::control::AgentInfo;

use crate::border::text_for_c;
use crate::shapes::Agent;

/// One agent, and everything that its structure points to.
#[derive(Debug)]
pub(crate) struct AgentTexts {
    agent: Agent,
    /// Held, because `agent` points into them. Their bytes do not move when this does.
    _words: [CString; 3],
    _lists: [List; 4],
}

#[derive(Debug)]
struct List {
    pointers: Vec<*const c_char>,
    _words: Vec<CString>,
}

// SAFETY: the pointers go to heap memory that belongs to the same value and that nobody changes.
unsafe impl Send for AgentTexts {}

impl AgentTexts {
    pub(crate) fn new(info: &AgentInfo) -> Self {
        let manifest = &info.manifest;
        let words = [&manifest.name, &manifest.version, &manifest.category];
        let words = words.map(|word| text_for_c(word));
        let lists =
            [&manifest.capabilities, &manifest.tools, &manifest.subscriptions, &manifest.tags];
        let lists = lists.map(|words| List::new(words));
        let agent = Agent {
            id: info.id.0,
            pid: info.pid,
            uid: info.uid,
            priority: manifest.priority,
            name: words[0].as_ptr(),
            version: words[1].as_ptr(),
            category: words[2].as_ptr(),
            capabilities: lists[0].pointers.as_ptr(),
            tools: lists[1].pointers.as_ptr(),
            subscriptions: lists[2].pointers.as_ptr(),
            tags: lists[3].pointers.as_ptr(),
        };
        Self { agent, _words: words, _lists: lists }
    }

    /// The structure; valid as long as this value, and where it lies.
    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }
}

impl List {
    fn new(words: &[String]) -> Self {
        let words: Vec<CString> = words.iter().map(|word| text_for_c(word)).collect();
        let end = std::iter::once(std::ptr::null());
        let pointers = words.iter().map(|word| word.as_ptr()).chain(end).collect();
        Self { pointers, _words: words }
    }
}
