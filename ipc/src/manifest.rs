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
}
