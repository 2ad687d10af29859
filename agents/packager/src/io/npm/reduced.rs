//! The form of packuments that the disk cache keeps: a packument again, so that one parser reads both, with only
//! the fields that are read.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::metadata::Hashes;
use crate::metadata::npm::{Dependencies, Packument, Version};

/// The reduced form, for the disk.
pub(crate) fn reduced(packument: &Packument) -> Vec<u8> {
    let versions = packument.versions.iter().map(|(text, version)| (text, Reduced::of(version)));
    let dated = packument.versions.iter();
    let time = dated.filter_map(|(text, version)| Some((text, version.published.as_deref()?)));
    let form = ReducedPackument {
        name: &packument.name,
        dist_tags: &packument.dist_tags,
        versions: versions.collect(),
        time: time.collect(),
    };
    // Maps with text keys always serialise.
    serde_json::to_vec(&form).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReducedPackument<'a> {
    name: &'a str,
    dist_tags: &'a BTreeMap<String, String>,
    versions: BTreeMap<&'a str, Reduced<'a>>,
    time: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reduced<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dependencies: &'a Dependencies,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    optional_dependencies: &'a Dependencies,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    peer_dependencies: &'a Dependencies,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    peer_dependencies_meta: BTreeMap<&'a str, BTreeMap<&'a str, bool>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    bundle_dependencies: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bin: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    engines: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    os: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cpu: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    libc: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    scripts: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    dist: ReducedDist<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReducedDist<'a> {
    tarball: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    integrity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unpacked_size: Option<u64>,
}

impl<'a> Reduced<'a> {
    fn of(version: &'a Version) -> Self {
        let optional = |name: &'a String| (name.as_str(), BTreeMap::from([("optional", true)]));
        let engines = version.engines_node.iter().map(|node| ("node", node.as_str()));
        // Only whether there is a script matters, so its text is not kept.
        let scripts = version.install_scripts.iter().map(|name| (name.as_str(), "*"));
        Self {
            dependencies: &version.dependencies,
            optional_dependencies: &version.optional_dependencies,
            peer_dependencies: &version.peer_dependencies,
            peer_dependencies_meta: version.optional_peers.iter().map(optional).collect(),
            bundle_dependencies: &version.bundled,
            bin: &version.bin,
            engines: engines.collect(),
            os: &version.os,
            cpu: &version.cpu,
            libc: &version.libc,
            deprecated: version.deprecated.as_deref(),
            scripts: scripts.collect(),
            license: version.license.as_deref(),
            dist: ReducedDist {
                tarball: &version.tarball,
                integrity: sri(&version.hashes),
                unpacked_size: version.unpacked_size,
            },
        }
    }
}

fn sri(hashes: &Hashes) -> String {
    let digests = [("sha512", &hashes.sha512), ("sha256", &hashes.sha256)];
    let words = digests.into_iter().filter_map(|(algorithm, digest)| {
        let digest = digest.as_ref()?;
        let pairs = digest.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        Some(format!("{algorithm}-{}", STANDARD.encode(bytes?)))
    });
    words.collect::<Vec<_>>().join(" ")
}
