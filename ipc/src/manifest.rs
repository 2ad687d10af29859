//! What an agent says of itself when it connects.

/// The self-description of an agent. Strings and lists are bounded by `limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentManifest {
    /// A dotted name, unique among the live agents of one router (`packager`, `demo.sibling`).
    pub name: String,
    /// Its own version, semantic.
    pub version: String,
    /// A free word for grouping (`packages`, `security`, `tool`).
    pub category: String,
    /// 1 to 10; orders agents where something must wait.
    pub priority: u8,
    /// What it can do, as words that others search for.
    pub capabilities: Vec<String>,
    /// Tools that it answers, by name (`pkg.plan`).
    pub tools: Vec<String>,
    /// Subjects that it wants from the start, with wildcards.
    pub subscriptions: Vec<String>,
    /// Free words that others filter by.
    pub tags: Vec<String>,
    /// What it wants to be held to.
    pub limits: OwnLimits,
}

/// What an agent wants to be held to, at most. The router's configuration says what it may have, and the tighter of the two
/// counts: a program that is to have one link says so, and a mistake in it that opens a hundred is refused by name. What is not
/// named is the configuration's alone.
///
/// Time and size of the handshake are not here: they bound it before anybody has read a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// Links, offered and open.
    pub links: Option<u64>,
    /// Bytes of all segments that it makes and that are in use.
    pub bytes: Option<u64>,
    /// Descriptors that the router keeps open for it.
    pub descriptors: Option<u64>,
    /// Control packets a second; at least one.
    pub messages: Option<u64>,
    /// Messages a second that the exchange takes from it; at least one.
    pub passed: Option<u64>,
}
