//! Where each file of a wheel goes in an environment, and what `RECORD` says about it afterwards.

use std::collections::BTreeMap;

use super::scripts::{self, Target};
use super::{Environment, normalize, same_version};
use crate::error::Result;
use crate::limits;
use crate::store::{Content, Entry, File, Store, StoredFile};
use crate::unpack::record::push_line;
use crate::unpack::{Refusal, names};

/// A wheel to lay out.
pub(super) struct Source<'a> {
    pub(super) entry: &'a Entry,
    pub(super) file_name: &'a str,
    /// The name and version that were planned, where they were.
    pub(super) identity: Option<(&'a str, &'a str)>,
    pub(super) installer: &'a str,
    pub(super) requested: bool,
    /// What `direct_url.json` says, for a wheel that the project names by its address.
    pub(super) direct_url: Option<String>,
    /// Commands that replace the declared ones. Empty: the declared ones.
    pub(super) commands: BTreeMap<String, Target>,
}

/// The files of one wheel, with paths relative to the environment.
pub(super) struct Laid {
    pub(super) name: String,
    pub(super) files: Vec<File>,
    pub(super) commands: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Files that describe an installation and so never come from the wheel.
const OWN_FILES: [&str; 6] =
    ["RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"];

/// Maps every file, generates commands, and writes the new `RECORD`.
pub(super) fn layout(
    store: &Store,
    environment: Environment<'_>,
    source: &Source<'_>,
) -> Result<Laid> {
    let entry = source.entry;
    let stem = format!("{}-{}", entry.name, entry.version);
    let refuse = |refusal: Refusal| refusal.of(source.file_name);
    check_descriptions(store, source, &stem)?;
    let site = environment.interpreter.site_packages();
    let info = format!("{stem}.dist-info");
    let mut files = Vec::new();
    for file in &entry.files {
        if file
            .path
            .strip_prefix(&*info)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| OWN_FILES.contains(&name))
        {
            continue;
        }
        let (path, script) =
            destination(environment, entry, &stem, &site, &file.path).map_err(refuse)?;
        files.push(File {
            content: content(store, environment, file, script)?,
            executable: file.executable || script,
            path,
        });
    }
    let mut commands: Vec<String> = Vec::new();
    for (name, target) in declared_commands(store, source, &info)? {
        let content = Content::Bytes(scripts::program(&environment.python(), &target));
        // A script of the same name that the wheel brings along gives way, as with pip.
        files.retain(|file| file.path != format!("bin/{name}"));
        files.push(File { path: format!("bin/{name}"), content, executable: true });
        commands.push(name);
    }
    let own = |name: &str, text: &str| File {
        path: format!("{site}/{info}/{name}"),
        content: Content::Bytes(text.as_bytes().to_vec()),
        executable: false,
    };
    files.push(own("INSTALLER", &format!("{}\n", source.installer)));
    if source.requested {
        files.push(own("REQUESTED", ""));
    }
    if let Some(text) = &source.direct_url {
        files.push(own("direct_url.json", text));
    }
    let record = record(&files, &site, &info);
    files.push(own("RECORD", &record));
    let warnings = entry.warnings.iter().map(|text| format!("`{}`: {text}", entry.name)).collect();
    Ok(Laid { name: entry.name.clone(), files, commands, warnings })
}

/// `WHEEL` must have a version that is understood, and `METADATA` must say what the directory's
/// name says.
fn check_descriptions(store: &Store, source: &Source<'_>, stem: &str) -> Result<()> {
    let refuse = |text: String| Refusal::Layout(text).of(source.file_name);
    let wheel = description(store, source, stem, "WHEEL")?;
    let version = field(&wheel, "Wheel-Version").unwrap_or_default();
    if version.split('.').next() != Some("1") {
        return Err(refuse(format!("its `Wheel-Version` is `{version}`, and only 1 is known")));
    }
    if !matches!(
        field(&wheel, "Root-Is-Purelib").map(str::to_ascii_lowercase).as_deref(),
        Some("true" | "false")
    ) {
        return Err(refuse("its `WHEEL` does not say `Root-Is-Purelib`".to_owned()));
    }
    let metadata = description(store, source, stem, "METADATA")?;
    let (name, version) = (
        field(&metadata, "Name").unwrap_or_default(),
        field(&metadata, "Version").unwrap_or_default(),
    );
    let planned = source.identity.unwrap_or((&source.entry.name, &source.entry.version));
    if normalize(name) != normalize(planned.0) || !same_version(version, planned.1) {
        return Err(refuse(format!(
            "its `METADATA` is that of {name} {version}, not of {} {}",
            planned.0, planned.1
        )));
    }
    Ok(())
}

fn description(store: &Store, source: &Source<'_>, stem: &str, name: &str) -> Result<String> {
    let path = format!("{stem}.dist-info/{name}");
    let file = source
        .entry
        .file(&path)
        .ok_or_else(|| Refusal::Layout(format!("it has no `{name}`")).of(source.file_name))?;
    let bytes = store.read_object(&file.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?;
    // Old packages have descriptions in other encodings; the fields that matter are ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a field in the head of a description.
pub(super) fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let head = text.lines().take_while(|line| !line.trim().is_empty());
    head.filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn declared_commands(
    store: &Store,
    source: &Source<'_>,
    info: &str,
) -> Result<BTreeMap<String, Target>> {
    if !source.commands.is_empty() {
        return Ok(source.commands.clone());
    }
    let Some(file) = source.entry.file(&format!("{info}/entry_points.txt")) else {
        return Ok(BTreeMap::new());
    };
    let bytes = store.read_object(&file.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    scripts::parse(&text).map_err(|refusal| refusal.of(source.file_name))
}

/// Where a file goes, and whether it is a script.
fn destination(
    environment: Environment<'_>,
    entry: &Entry,
    stem: &str,
    site: &str,
    path: &str,
) -> Result<(String, bool), Refusal> {
    let data = path.strip_prefix(stem).and_then(|rest| rest.strip_prefix(".data/"));
    let (placed, script) = match data.map(|rest| rest.split_once('/')) {
        None => (format!("{site}/{path}"), false),
        Some(Some(("purelib" | "platlib", rest))) => (format!("{site}/{rest}"), false),
        Some(Some(("scripts", rest))) => (format!("bin/{rest}"), true),
        Some(Some(("headers", rest))) => {
            let library = &environment.interpreter.library_name;
            (format!("include/site/{library}/{}/{rest}", entry.name), false)
        }
        // `lib64` is a link to `lib`; written this way, conflicts show and no link is followed.
        Some(Some(("data", rest))) => match rest.strip_prefix("lib64/") {
            Some(rest) => (format!("lib/{rest}"), false),
            None => (rest.to_owned(), false),
        },
        Some(_) => return Err(Refusal::name(path, "has no known place in an environment")),
    };
    names::check(&placed)?;
    let own = format!("{stem}.dist-info");
    let top = placed
        .strip_prefix(site)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split('/').next());
    match top {
        Some(top) if top.ends_with(".dist-info") && top != own => {
            Err(Refusal::name(path, "lies in the description of another package"))
        }
        Some(top) if top == own && data.is_some() => {
            Err(Refusal::name(path, "adds to the package's own description"))
        }
        _ => Ok((placed, script)),
    }
}

/// Scripts that begin with `#!python` get the environment's interpreter; all others (programs, too)
/// stay as they are.
fn content(
    store: &Store,
    environment: Environment<'_>,
    file: &StoredFile,
    script: bool,
) -> Result<Content> {
    const MARK: &[u8] = b"#!python";
    let small = file.object.size <= limits::PACKAGE_DESCRIPTION_BYTES_MAX;
    if script && small && store.object_begins_with(&file.object, MARK)? {
        let bytes = store.read_object(&file.object, limits::PACKAGE_DESCRIPTION_BYTES_MAX)?;
        return Ok(Content::Bytes(scripts::rewrite(&environment.python(), &bytes)));
    }
    Ok(Content::Object(file.object))
}

fn record(files: &[File], site: &str, info: &str) -> String {
    let mut lines: Vec<(String, &File)> =
        files.iter().map(|file| (relative(&file.path, site), file)).collect();
    lines.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::with_capacity(lines.len() * 120);
    for (path, file) in lines {
        let object = file.content.object();
        push_line(&mut text, &path, Some((&object.digest, object.size)));
    }
    push_line(&mut text, &format!("{info}/RECORD"), None);
    text
}

/// A path of the environment as seen from `site-packages`, which lies three directories deep.
fn relative(path: &str, site: &str) -> String {
    match path.strip_prefix(site).and_then(|rest| rest.strip_prefix('/')) {
        Some(inside) => inside.to_owned(),
        None => format!("../../../{path}"),
    }
}
