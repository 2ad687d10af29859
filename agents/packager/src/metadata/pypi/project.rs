//! All files of one project, grouped by version: in order once for everybody, and where they come from an archive, unpacked
//! version by version.
//!
//! A project has hundreds of versions with some files each, of which a resolution looks at a few. So what choosing looks at
//! (the order, what was withdrawn) lies apart from the files, and those of a version are unpacked when somebody looks at
//! them, once for all requests that share the project.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ipc::archive::{self, ArchiveError, Layout};
use pep440_rs::Version;
use pep508_rs::PackageName;

use super::{File, FileKind};
use crate::metadata::Hashes;

/// What an archive of this module is; other texts are another layout.
const LAYOUT: Layout = Layout::new(
    "pypi project",
    &[include_str!("project.rs"), include_str!("../pypi.rs"), include_str!("../../metadata.rs")],
);

/// What one version in the table takes in memory, about: its number and where its files are.
const RELEASE_BYTES: usize = 160;
/// What one file takes in memory, about.
const FILE_BYTES: usize = 768;

/// How a version counts before anybody looked at what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Withdrawn; only for those who pin it.
    Yanked,
    /// A pre-release; only for those who ask for it, or where there is nothing else.
    Prerelease,
    /// A final release.
    Final,
}

/// One version of a project.
#[derive(Clone, Debug)]
pub struct Release {
    /// As the first of its files spells it.
    pub version: Version,
    /// How it counts.
    pub class: Class,
    files: OnceLock<Box<[Arc<File>]>>,
    /// Where they are in `packed`.
    place: Range<usize>,
}

/// All files of one project.
#[derive(Clone)]
pub struct Project {
    /// The normalised name.
    pub name: PackageName,
    /// Those that were withdrawn first, then pre-releases, then final releases; each group ascending.
    releases: Vec<Release>,
    /// Where the packed ones are.
    packed: Bytes,
    /// How many files there are.
    count: usize,
}

impl Project {
    /// Groups files, which are in the order of a page.
    pub fn new(name: PackageName, mut files: Vec<Arc<File>>) -> Self {
        let count = files.len();
        // Stable, so the files of a version stay in the order of the page.
        files.sort_by(|one, other| one.version.cmp(&other.version));
        let mut releases: Vec<Release> = files
            .chunk_by(|one, next| one.version == next.version)
            .map(|files| {
                let version = files[0].version.clone();
                let is_yanked = files.iter().all(|file| file.yanked.is_some());
                let class = class(&version, is_yanked);
                Release { version, class, files: OnceLock::from(Box::from(files)), place: 0..0 }
            })
            .collect();
        // Stable again: each group stays in the order of the versions.
        releases.sort_by_key(|release| release.class);
        Self { name, releases, packed: Bytes::new(), count }
    }

    /// All versions: withdrawn ones, then pre-releases, then final releases; each group ascending.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// The files of the version at a position, in the order of the page. Unpacks them.
    pub fn files_at(&self, position: usize) -> &[Arc<File>] {
        let release = &self.releases[position];
        release.files.get_or_init(|| self.unpacked(release).into())
    }

    /// All files, by version. Unpacks those that nobody looked at yet, and forgets them again.
    pub fn files(&self) -> impl Iterator<Item = Arc<File>> {
        self.releases.iter().flat_map(|release| match release.files.get() {
            Some(files) => files.to_vec(),
            None => self.unpacked(release),
        })
    }

    /// How many files there are.
    pub fn files_count(&self) -> usize {
        self.count
    }

    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let files =
            if self.packed.is_empty() { self.count * FILE_BYTES } else { self.packed.len() };
        self.releases.len() * RELEASE_BYTES + files
    }

    fn unpacked(&self, release: &Release) -> Vec<Arc<File>> {
        // The checksum of the whole was right, so this is what was once packed; nothing is a version without files, which
        // cannot be used.
        let packed = archive::copy::<Vec<PackedFile>>(&self.packed[release.place.clone()]);
        let files = packed.unwrap_or_default().into_iter();
        files.map(|file| Arc::new(file.unpack(&release.version))).collect()
    }
}

fn class(version: &Version, is_yanked: bool) -> Class {
    match (is_yanked, version.any_prerelease()) {
        (true, _) => Class::Yanked,
        (false, true) => Class::Prerelease,
        (false, false) => Class::Final,
    }
}

impl std::fmt::Debug for Project {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ", self.name)?;
        formatter.debug_set().entries(self.files()).finish()
    }
}

/// The form in which a project is kept.
#[derive(rkyv::Archive, rkyv::Serialize)]
struct Packed {
    name: String,
    heads: Vec<Head>,
    /// The archives of the files of all versions, one after the other.
    bodies: Vec<u8>,
}

#[derive(rkyv::Archive, rkyv::Serialize)]
struct Head {
    version: String,
    is_yanked: bool,
    files_count: u32,
    /// Where its files end in `bodies`; they begin where those before end.
    end: u32,
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct PackedFile {
    name: String,
    /// Where the file spells it in another way than the first one does.
    version: Option<String>,
    is_wheel: bool,
    build: Option<String>,
    tags: Vec<String>,
    /// Without the name, where it ends with that.
    url: String,
    is_url_with_name: bool,
    hashes: Hashes,
    size: Option<u64>,
    requires_python: Option<String>,
    yanked: Option<String>,
    published: Option<String>,
    core_metadata: Option<bool>,
    core_metadata_hashes: Hashes,
}

impl PackedFile {
    fn pack(file: &File, version: &str) -> Self {
        let own = file.version.to_string();
        let start = file.url.strip_suffix(file.name.as_str());
        let (is_wheel, build, tags) = match &file.kind {
            FileKind::Wheel { build, tags } => (true, build.clone(), tags.clone()),
            FileKind::Source => (false, None, Vec::new()),
        };
        Self {
            name: file.name.clone(),
            version: (own != version).then_some(own),
            is_wheel,
            build,
            tags,
            url: start.unwrap_or(&file.url).to_owned(),
            is_url_with_name: start.is_some(),
            hashes: file.hashes.clone(),
            size: file.size,
            requires_python: file.requires_python.as_ref().map(ToString::to_string),
            yanked: file.yanked.clone(),
            published: file.published.clone(),
            core_metadata: file.core_metadata,
            core_metadata_hashes: file.core_metadata_hashes.clone(),
        }
    }

    fn unpack(self, version: &Version) -> File {
        let mut url = self.url;
        if self.is_url_with_name {
            url.push_str(&self.name);
        }
        let own = self.version.and_then(|text| text.parse().ok());
        File {
            version: own.unwrap_or_else(|| version.clone()),
            kind: match self.is_wheel {
                true => FileKind::Wheel { build: self.build, tags: self.tags },
                false => FileKind::Source,
            },
            name: self.name,
            url,
            hashes: self.hashes,
            size: self.size,
            requires_python: self.requires_python.and_then(|text| text.parse().ok()),
            yanked: self.yanked,
            published: self.published,
            core_metadata: self.core_metadata,
            core_metadata_hashes: self.core_metadata_hashes,
        }
    }
}

impl Project {
    /// The archive of this project.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`].
    pub fn pack(&self) -> Result<Bytes, ArchiveError> {
        let mut bodies = Vec::new();
        let mut heads = Vec::with_capacity(self.releases.len());
        for release in &self.releases {
            let version = release.version.to_string();
            let files = match release.files.get() {
                Some(files) => files.to_vec(),
                None => self.unpacked(release),
            };
            let packed: Vec<_> = files.iter().map(|it| PackedFile::pack(it, &version)).collect();
            bodies.extend_from_slice(&archive::lay_out(&packed)?);
            heads.push(Head {
                version,
                is_yanked: release.class == Class::Yanked,
                files_count: u32::try_from(files.len()).map_err(|_| ArchiveError::TooLarge)?,
                end: u32::try_from(bodies.len()).map_err(|_| ArchiveError::TooLarge)?,
            });
        }
        let packed = Packed { name: self.name.to_string(), heads, bodies };
        Ok(archive::seal(LAYOUT, &packed)?.into())
    }

    /// A project whose files stay packed until they are looked at.
    ///
    /// # Errors
    /// Where the archive is damaged, of another build or of another project than `name`.
    pub fn unpack(bytes: &Bytes, name: &PackageName) -> Result<Self, ArchiveError> {
        let packed = archive::access::<Packed>(archive::unseal(LAYOUT, bytes)?)?;
        let bodies = packed.bodies.as_slice();
        let mut releases: Vec<Release> = Vec::with_capacity(packed.heads.len());
        let (mut start, mut count) = (0, 0_usize);
        for head in packed.heads.iter() {
            let end = head.end.to_native() as usize;
            let version: Version =
                head.version.as_str().parse().map_err(|_| ArchiveError::Invalid)?;
            if end < start || end > bodies.len() {
                return Err(ArchiveError::Invalid);
            }
            let class = class(&version, head.is_yanked);
            releases.push(Release { version, class, files: OnceLock::new(), place: start..end });
            count = count.saturating_add(head.files_count.to_native() as usize);
            start = end;
        }
        // Choosing searches by halves.
        let is_sorted = releases
            .is_sorted_by(|one, next| (one.class, &one.version) < (next.class, &next.version));
        if !is_sorted || packed.name.as_str() != name.as_ref() {
            return Err(ArchiveError::Invalid);
        }
        Ok(Self { name: name.clone(), releases, packed: bytes.slice_ref(bodies), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, version: &str, yanked: bool) -> Arc<File> {
        Arc::new(File {
            name: name.to_owned(),
            version: version.parse().expect("a version"),
            kind: match name.ends_with(".whl") {
                true => FileKind::Wheel {
                    build: Some("1b".to_owned()),
                    tags: vec!["py3-none-any".to_owned()],
                },
                false => FileKind::Source,
            },
            url: format!("https://f.example.invalid/x/{}", name.replace("a-2", "moved")),
            hashes: Hashes { sha256: Some("e3".to_owned()), sha512: None },
            size: Some(7),
            requires_python: ">=3.8,!=3.9.*".parse().ok(),
            yanked: yanked.then(|| "a mistake".to_owned()),
            published: Some("2020-01-01T00:00:00Z".to_owned()),
            core_metadata: Some(true),
            core_metadata_hashes: Hashes { sha256: None, sha512: Some("cf".to_owned()) },
        })
    }

    fn name() -> PackageName {
        "a".parse().expect("a name")
    }

    fn project() -> Project {
        let files = vec![
            file("a-10.zip", "10", false),
            file("a-1.0-py3-none-any.whl", "1.0", false),
            file("a-2.0rc1.zip", "2.0rc1", false),
            file("a-1.0.0.zip", "1.0.0", true),
            file("a-2.0.zip", "2.0", true),
            file("a-3.0a1.zip", "3.0a1", true),
        ];
        Project::new(name(), files)
    }

    fn seen(project: &Project) -> Vec<(String, Class)> {
        let releases = project.releases().iter();
        releases.map(|release| (release.version.to_string(), release.class)).collect()
    }

    #[test]
    fn versions_are_grouped_by_what_they_count_for() {
        let project = project();
        let expected = [
            ("2.0", Class::Yanked),
            ("3.0a1", Class::Yanked),
            ("2.0rc1", Class::Prerelease),
            ("1.0", Class::Final),
            ("10", Class::Final),
        ];
        assert_eq!(seen(&project), expected.map(|(text, class)| (text.to_owned(), class)));
        let names: Vec<&str> = project.files_at(3).iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["a-1.0-py3-none-any.whl", "a-1.0.0.zip"]);
        assert_eq!(project.files_count(), 6);
    }

    #[test]
    fn a_packed_project_comes_back() {
        let before = project();
        let after = Project::unpack(&before.pack().expect("packed"), &name()).expect("unpacked");
        assert_eq!(seen(&after), seen(&before));
        assert_eq!(after.files_count(), before.files_count());
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
        assert_eq!(format!("{:?}", after.files_at(3)), format!("{:?}", before.files_at(3)));
        assert_eq!(after.files_at(3)[1].version.to_string(), "1.0.0");
        let again = Project::unpack(&after.pack().expect("packed"), &name()).expect("unpacked");
        assert_eq!(format!("{again:?}"), format!("{before:?}"));
    }

    #[test]
    fn a_damaged_archive_is_refused() {
        let bytes = project().pack().expect("packed");
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            assert!(Project::unpack(&damaged.into(), &name()).is_err(), "{at}");
        }
    }

    #[test]
    fn an_archive_that_contradicts_itself_is_refused() {
        let head = |version: &str, end| Head {
            version: version.to_owned(),
            is_yanked: false,
            files_count: 1,
            end,
        };
        let sealed = |name: &str, heads| {
            let packed = Packed { name: name.to_owned(), heads, bodies: vec![0; 4] };
            Bytes::from(archive::seal(LAYOUT, &packed).expect("sealed"))
        };
        for (of, heads) in [
            ("b", vec![head("1", 4)]),
            ("a", vec![head("1", 5)]),
            ("a", vec![head("1", 4), head("2", 2)]),
            ("a", vec![head("2", 2), head("1", 4)]),
            ("a", vec![head("1", 2), head("1.0", 4)]),
            ("a", vec![head("one", 4)]),
        ] {
            assert!(Project::unpack(&sealed(of, heads), &name()).is_err());
        }
        // Files that are none leave the version without any.
        let project = Project::unpack(&sealed("a", vec![head("1", 4)]), &name()).expect("whole");
        assert!(project.files_at(0).is_empty());
    }
}
