//! Hosted agents, seen from inside their own process.

pub(crate) fn is_known_agent(name: &str) -> bool {
    known_agents().any(|known| known == name)
}
pub(crate) fn known_agents() -> impl Iterator<Item = &'static str> {
    ["echo"].into_iter()
}
pub(crate) fn default_agents() -> impl Iterator<Item = &'static str> {
    [].into_iter()
}
pub(crate) fn run(_name: &str, _settings: &crate::config::Settings) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
