//! The npm registry's own search. Of its answer only names, versions and one line of description are taken; the order is the
//! registry's opinion. A registry without a search says so.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use super::{NpmClient, Resolved};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::io::cache::memory::Value;
use crate::io::cache::{Entry, Key};
use crate::io::http::{Request, Urgency, Validators, nonsense};
use crate::io::limits::SEARCH_BYTES_MAX;
use crate::io::resource::{Answer, Fetched, Parsed, Resource};
use crate::limits::{SEARCH_DESCRIPTION_CHARS_MAX, SEARCH_RESULTS_MAX};
use crate::spec::check_name;

/// One package that a registry offers for some words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
}

impl NpmClient {
    /// What the registry finds for some words. Blocks.
    pub(crate) fn search(&self, words: &str) -> Result<Arc<Vec<Found>>> {
        let resolved = Arc::clone(self.resolved()?);
        let registry = resolved.endpoint.default.clone();
        let mut url = registry.join("-/v1/search").map_err(|error| nonsense(&registry, error))?;
        let most = SEARCH_RESULTS_MAX.to_string();
        url.query_pairs_mut().append_pair("text", words).append_pair("size", &most);
        let credentials = &resolved.endpoint.credentials;
        let key = Key::new("npm-search", &registry, Some(credentials), words);
        let key = resolved.http.mirrors.key(key, credentials);
        match self.session.ask(Arc::new(SearchResource { key, url, resolved }))? {
            Value::Search(found) => Ok(found),
            _ => Err(crate::io::resource::wrong_kind()),
        }
    }
}

struct SearchResource {
    key: Key,
    url: Url,
    resolved: Arc<Resolved>,
}

impl Resource for SearchResource {
    fn key(&self) -> Key {
        self.key
    }

    fn title(&self) -> String {
        "npm's search".to_owned()
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let credentials = &self.resolved.endpoint.credentials;
            let mut request = Request::new(self.url.clone(), Some(credentials), SEARCH_BYTES_MAX);
            request.accept = Some("application/json");
            request.validators = validators;
            Fetched::of(self.resolved.http.get(&request, urgency).await?)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let found = parse(&answer.body).map_err(|error| nonsense(&answer.url, error))?;
        let value = Value::Search(Arc::new(found));
        let body = answer.body.clone();
        Ok(Parsed { value, stored: Box::new(|| body), packed: Bytes::new() })
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let found = parse(&entry.body).map_err(|error| nonsense(&self.url, error))?;
        Ok(Value::Search(Arc::new(found)))
    }

    fn missing(&self, _near: &[String]) -> Error {
        let registry = crate::io::secret::shown(&self.resolved.endpoint.default);
        let message = format!("the npm registry at `{registry}` has no search");
        Error::new(Kind::Failed, "no-search", message)
    }
}

#[derive(Deserialize)]
struct Results {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
}

/// At most as many as were asked for; what has no usable name is left out.
fn parse(body: &[u8]) -> Result<Vec<Found>, serde_json::Error> {
    let results: Results = serde_json::from_slice(body)?;
    let packages = results.objects.into_iter().map(|object| object.package);
    let usable = packages.filter(|package| check_name(Ecosystem::Npm, &package.name).is_ok());
    let found = usable.take(SEARCH_RESULTS_MAX).map(|package| Found {
        name: package.name,
        version: package.version.chars().take(SEARCH_DESCRIPTION_CHARS_MAX).collect(),
        description: package.description.map(|text| one_line(&text)),
    });
    Ok(found.collect())
}

fn one_line(text: &str) -> String {
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.chars().filter(|c| !c.is_control()).take(SEARCH_DESCRIPTION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_what_can_be_asked_for_is_found() {
        let body = br#"{"objects": [
            {"package": {"name": "leaf", "version": "1.0.0", "description": "green\n\u001b[2J  thing", "links": {}}},
            {"package": {"name": "../evil", "version": "1.0.0"}},
            {"package": {"name": "@s/tree", "version": "2.0.0"}}
        ], "total": 3}"#;
        let found = parse(body).expect("results");
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["leaf", "@s/tree"]);
        assert_eq!(found[0].description.as_deref(), Some("green [2J thing"));
        parse(b"<html>").expect_err("not JSON");
    }
}
