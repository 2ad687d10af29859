//! Project pages: the JSON form (PEP 691, 700) here, the HTML form in `page_html`; both end as the same files.
//!
//! The reduced form on disk is the JSON form, so that one parser reads both.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use agents_versions::shorten;
use pep440_rs::VersionSpecifiers;
use pep508_rs::PackageName;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};
use serde::{Serialize, Serializer};
use url::Url;

use super::{core_metadata, file_name, page_html};
use crate::io::lenient::{Accept, Fill, Lenient, Name};
use crate::io::limits::FILES_MAX;
use crate::metadata::Hashes;
use crate::metadata::pypi::{File, Project};
use crate::options::Moment;

/// The media type of the JSON form.
pub(crate) const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// One file as a page lists it, in either form.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub(crate) struct Listed {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) hashes: Hashes,
    pub(super) size: Option<u64>,
    pub(super) requires_python: Option<String>,
    pub(super) yanked: Option<String>,
    pub(super) published: Option<String>,
    pub(super) core_metadata: Option<bool>,
    pub(super) core_metadata_hashes: Hashes,
}

/// Adds what else lists files of the same project to a page of an index. Which file a name is of, the first that has it says.
pub(crate) fn merged(
    name: &PackageName,
    listed: impl Iterator<Item = Listed>,
    page: Option<&Project>,
) -> Project {
    let mut builder = Builder::new(name);
    listed.for_each(|one| builder.add(one));
    let Builder { mut files, mut seen, .. } = builder;
    files.extend(
        page.into_iter().flat_map(Project::files).filter(|it| seen.insert(it.name.clone())),
    );
    Project::new(name.clone(), files)
}

/// Reads a page; `address` is what relative links are relative to. The error says why it is no page.
pub(crate) fn parse(
    bytes: &[u8],
    media_type: &str,
    name: &PackageName,
    address: &Url,
) -> Result<Project, String> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    // Some servers call everything text or a stream of bytes.
    let json =
        media_type.ends_with("json") || (!media_type.contains("html") && first == Some(&b'{'));
    let mut builder = Builder::new(name);
    if json {
        parse_json(bytes, address, &mut builder)?;
    } else {
        page_html::parse(bytes, address, &mut builder)?;
    }
    Ok(Project::new(name.clone(), builder.files))
}

/// Who takes the files that a page lists.
pub(super) trait Collect {
    /// Takes one.
    fn add(&mut self, listed: Listed);
    /// Whether none was of use.
    fn is_empty(&self) -> bool;
}

/// Collects the files that can be used.
pub(super) struct Builder<'a> {
    name: &'a PackageName,
    files: Vec<Arc<File>>,
    seen: HashSet<String>,
    /// Pages repeat the same few texts thousands of times.
    specifiers: BTreeMap<String, Option<VersionSpecifiers>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(name: &'a PackageName) -> Self {
        Self { name, files: Vec::new(), seen: HashSet::new(), specifiers: BTreeMap::new() }
    }

    /// What does not parse is as good as absent, as for pip.
    fn specifiers(&mut self, text: String) -> Option<VersionSpecifiers> {
        if let Some(known) = self.specifiers.get(&text) {
            return known.clone();
        }
        let parsed = core_metadata::specifiers(&text);
        self.specifiers.insert(text, parsed.clone());
        parsed
    }
}

impl Collect for Builder<'_> {
    /// Adds a file, unless it is another project's, of another kind, or there already.
    fn add(&mut self, listed: Listed) {
        if self.files.len() >= FILES_MAX {
            return;
        }
        let Some((version, kind)) = file_name::parse(&listed.name, self.name) else { return };
        if !self.seen.insert(listed.name.clone()) {
            return;
        }
        let requires_python = listed.requires_python.and_then(|text| self.specifiers(text));
        self.files.push(Arc::new(File {
            name: listed.name,
            version,
            kind,
            url: listed.url,
            hashes: listed.hashes,
            size: listed.size,
            requires_python,
            yanked: listed.yanked.as_deref().map(shorten),
            published: listed.published.filter(|text| Moment::parse(text).is_some()),
            core_metadata: listed.core_metadata,
            core_metadata_hashes: listed.core_metadata_hashes,
        }));
    }

    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Keeps the strong digests of a table or fragment, where they have the right form.
pub(super) fn add_hash(hashes: &mut Hashes, algorithm: &str, digest: &str) {
    let (place, length) = match algorithm {
        "sha256" => (&mut hashes.sha256, 64),
        "sha512" => (&mut hashes.sha512, 128),
        _ => return,
    };
    if digest.len() == length && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        *place = Some(digest.to_ascii_lowercase());
    }
}

/// Makes an address absolute and takes the digests out of its fragment; `None` for what cannot be fetched.
pub(crate) fn file_url(link: &str, base: &Url, hashes: &mut Hashes) -> Option<Url> {
    let mut url = base.join(link).ok()?;
    if !matches!(url.scheme(), "https" | "http") {
        return None;
    }
    add_hashes(hashes, url.fragment().unwrap_or_default());
    url.set_fragment(None);
    // Addresses reach plans and lock files, so they must not hold credentials; those come from configuration.
    let _ = crate::io::secret::take_userinfo(&mut url);
    Some(url)
}

/// The address of a file as a text, without the fragment; nearly all are complete as they stand.
pub(super) fn address_of(link: &str, base: &Url, hashes: &mut Hashes) -> Option<String> {
    let (plain, fragment) = link.split_once('#').unwrap_or((link, ""));
    // Checked when it is fetched; parsing thousands takes longer than everything else here.
    let is_plain = |rest: &str| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric())
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"@\\".contains(&byte))
            && !rest.contains("/.")
    };
    if plain.strip_prefix("https://").is_some_and(is_plain) {
        add_hashes(hashes, fragment);
        return Some(plain.to_owned());
    }
    file_url(link, base, hashes).map(Into::into)
}

/// The digests in the fragment of an address that somebody wrote. What stands there is what the file is to be compared with: what
/// cannot be compared is no reason to compare nothing.
///
/// # Errors
/// Why it cannot be followed; the words come after the address.
pub(crate) fn written_hashes(fragment: &str) -> Result<Hashes, String> {
    let mut hashes = Hashes::default();
    for part in fragment.split('&').filter(|part| !part.is_empty()) {
        // Without a key it could be anything, and so it is not repeated.
        let (key, value) = part.split_once('=').ok_or("has what is no digest behind its `#`")?;
        if matches!(key, "egg" | "subdirectory") {
            continue;
        }
        let mut one = Hashes::default();
        add_hash(&mut one, key, value);
        let (found, place) = match key {
            "sha256" => (one.sha256, &mut hashes.sha256),
            "sha512" => (one.sha512, &mut hashes.sha512),
            _ => return Err(format!("has `{}` behind its `#`", shorten(key))),
        };
        match (found, &*place) {
            (None, _) => return Err(format!("has a `{key}` that is none")),
            (Some(new), Some(known)) if new != *known => {
                return Err(format!("has two different `{key}`"));
            }
            (found, _) => *place = found,
        }
    }
    Ok(hashes)
}

pub(crate) fn add_hashes(hashes: &mut Hashes, fragment: &str) {
    for pair in fragment.split('&') {
        if let Some((algorithm, digest)) = pair.split_once('=') {
            add_hash(hashes, algorithm, digest);
        }
    }
}

fn parse_json(bytes: &[u8], address: &Url, builder: &mut Builder<'_>) -> Result<(), String> {
    let mut page = Page { files: Files { is_list: false, address, builder } };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Fill(&mut page).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    if !page.files.is_list {
        return Err("it has no list of files".to_owned());
    }
    Ok(())
}

struct Page<'p, 'b> {
    files: Files<'p, 'b>,
}

impl Accept for Page<'_, '_> {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "files" => object.next_value_seed(Fill(&mut self.files))?,
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Hands on each file as it is read: a page can have a hundred thousand.
struct Files<'p, 'b> {
    /// Whether there is a list at all.
    is_list: bool,
    address: &'p Url,
    builder: &'p mut Builder<'b>,
}

impl Accept for Files<'_, '_> {
    fn accept_list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        self.is_list = true;
        while let Some(Lenient(file)) = list.next_element::<Lenient<JsonFile>>()? {
            if let Some(listed) = file.listed(self.address) {
                self.builder.add(listed);
            }
        }
        Ok(())
    }
}

impl JsonFile {
    fn listed(self, address: &Url) -> Option<Listed> {
        let mut hashes = self.hashes.0;
        let url = address_of(&self.url?, address, &mut hashes)?;
        let advertised = [self.core_metadata, self.dist_info_metadata];
        let advertised = advertised.into_iter().find(|metadata| metadata.present.is_some());
        let advertised = advertised.unwrap_or_default();
        Some(Listed {
            name: self.filename.unwrap_or_default(),
            url,
            hashes,
            size: self.size,
            requires_python: self.requires_python,
            yanked: self.yanked.0,
            published: self.upload_time,
            core_metadata: advertised.present,
            core_metadata_hashes: advertised.hashes,
        })
    }
}

#[derive(Default)]
struct JsonFile {
    filename: Option<String>,
    url: Option<String>,
    hashes: JsonHashes,
    size: Option<u64>,
    requires_python: Option<String>,
    yanked: Yanked,
    upload_time: Option<String>,
    core_metadata: Advertised,
    dist_info_metadata: Advertised,
}

impl Accept for JsonFile {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(field)) = object.next_key()? {
            match &*field {
                "filename" => object.next_value_seed(Fill(&mut self.filename))?,
                "url" => object.next_value_seed(Fill(&mut self.url))?,
                "hashes" => object.next_value_seed(Fill(&mut self.hashes))?,
                "size" => object.next_value_seed(Fill(&mut self.size))?,
                "requires-python" => object.next_value_seed(Fill(&mut self.requires_python))?,
                "yanked" => object.next_value_seed(Fill(&mut self.yanked))?,
                "upload-time" => object.next_value_seed(Fill(&mut self.upload_time))?,
                "core-metadata" => object.next_value_seed(Fill(&mut self.core_metadata))?,
                "dist-info-metadata" => {
                    object.next_value_seed(Fill(&mut self.dist_info_metadata))?
                }
                _ => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct JsonHashes(Hashes);

impl Accept for JsonHashes {
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(algorithm)) = object.next_key()? {
            let mut digest: Option<String> = None;
            object.next_value_seed(Fill(&mut digest))?;
            if let Some(digest) = digest {
                add_hash(&mut self.0, &algorithm, &digest);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Yanked(Option<String>);

impl Accept for Yanked {
    fn accept_flag(&mut self, flag: bool) {
        self.0 = flag.then(String::new);
    }
    fn accept_text(&mut self, text: &str) {
        self.0 = Some(text.to_owned());
    }
}

/// Whether there is a metadata file, and what it hashes to.
#[derive(Default)]
struct Advertised {
    present: Option<bool>,
    hashes: Hashes,
}

impl Accept for Advertised {
    fn accept_flag(&mut self, flag: bool) {
        self.present = Some(flag);
    }
    fn accept_object<'de, A: MapAccess<'de>>(&mut self, object: A) -> Result<(), A::Error> {
        let mut hashes = JsonHashes::default();
        hashes.accept_object(object)?;
        self.present = Some(true);
        self.hashes = hashes.0;
        Ok(())
    }
}

/// The reduced form, for the disk.
pub(crate) fn reduced(project: &Project) -> Vec<u8> {
    // Texts and numbers always serialise.
    serde_json::to_vec(&ReducedPage { files: ReducedFiles(project) }).unwrap_or_default()
}

#[derive(Serialize)]
struct ReducedPage<'a> {
    files: ReducedFiles<'a>,
}

/// One file after the other, so that not all of them are unpacked at once.
struct ReducedFiles<'a>(&'a Project);

impl Serialize for ReducedFiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.files().map(ReducedFile))
    }
}

struct ReducedFile(Arc<File>);

impl Serialize for ReducedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Reduced::of(&self.0).serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Reduced<'a> {
    filename: &'a str,
    url: &'a str,
    hashes: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requires_python: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    yanked: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    core_metadata: Option<ReducedAdvertised<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ReducedAdvertised<'a> {
    Flag(bool),
    Hashes(BTreeMap<&'a str, &'a str>),
}

impl<'a> Reduced<'a> {
    fn of(file: &'a File) -> Self {
        let advertised = |present| match (present, file.core_metadata_hashes.is_empty()) {
            (true, false) => ReducedAdvertised::Hashes(table(&file.core_metadata_hashes)),
            (flag, _) => ReducedAdvertised::Flag(flag),
        };
        Self {
            filename: &file.name,
            url: &file.url,
            hashes: table(&file.hashes),
            size: file.size,
            requires_python: file.requires_python.as_ref().map(ToString::to_string),
            yanked: file.yanked.as_deref(),
            upload_time: file.published.as_deref(),
            core_metadata: file.core_metadata.map(advertised),
        }
    }
}

fn table(hashes: &Hashes) -> BTreeMap<&str, &str> {
    let pairs = [("sha256", &hashes.sha256), ("sha512", &hashes.sha512)];
    pairs.into_iter().filter_map(|(name, digest)| Some((name, digest.as_deref()?))).collect()
}

#[cfg(test)]
mod tests;
