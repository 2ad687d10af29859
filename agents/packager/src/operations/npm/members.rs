//! A change of one member of an npm workspace: its package.json is edited, the tree is the root's.

use std::collections::HashMap;

use super::{ENVIRONMENT, MANIFEST, changed, own, written};
use crate::error::{Error, Kind, Result};
use crate::manifest::package_json::named;
use crate::operations::{Asked, edit, read_text};
use crate::plan::FileEdit;
use crate::resolution::Resolution;
use crate::resolve::npm::Local;
use crate::spec::Spec;
use crate::transaction::Project;

/// What is changed in the member.
pub(super) struct Change<'a> {
    place: &'a str,
    file: String,
    before: String,
    add: Vec<Spec>,
    remove: &'a [Spec],
}

impl<'a> Change<'a> {
    /// Makes it in the member among the project's own packages.
    pub(super) fn make(project: &Project, locals: &mut [Local], asked: &Asked<'a>) -> Result<Self> {
        let Asked { add, remove, member: place, .. } = *asked;
        let mut members = locals.iter_mut().filter(|local| local.is_workspace);
        let Some(local) = members.find(|local| local.place == place) else {
            let message = format!("`{place}` is not a member of the workspace");
            return Err(Error::new(Kind::Usage, "unknown-member", message)
                .hint(format!("name it in `workspaces` of the root's {MANIFEST}")));
        };
        // Its path would be one from the member, which nobody who is asked here can tell from one from the root.
        if let Some(spec) = add.iter().find(|spec| named::named(&spec.requirement).is_some()) {
            let message = format!("`{}` is an archive or a directory for a member", spec.name);
            return Err(Error::new(Kind::Usage, "unsupported-dependency", message)
                .hint(format!("write it into `{place}/{MANIFEST}`, and run `bolide install`")));
        }
        let file = format!("{place}/{MANIFEST}");
        let before = read_text(project, &file)?.ok_or_else(|| {
            let message = format!("`{file}` is gone");
            Error::new(Kind::Failed, "manifest-missing", message).hint("run the command again")
        })?;
        let add = changed(&mut local.manifest, (&file, add, remove))?;
        Ok(Self { place, file, before, add, remove })
    }

    /// The edit of its manifest, once the versions are known.
    pub(super) fn edit(&self, resolution: &Resolution) -> Result<Option<FileEdit>> {
        match self.written(resolution)? {
            Some(after) => edit(&self.file, Some(&self.before), after),
            None => Ok(None),
        }
    }

    /// What it is afterwards.
    pub(super) fn after(&self, project: &Project, resolution: &Resolution) -> Result<[Local; 1]> {
        let text = self.written(resolution)?;
        Ok([own::described(project, self.place, text.as_ref().unwrap_or(&self.before))?])
    }

    /// Its manifest with the versions that were found, of each package that is the nearest one upwards, as node looks.
    fn written(&self, resolution: &Resolution) -> Result<Option<String>> {
        let mut versions = HashMap::new();
        for spec in &self.add {
            let name = spec.name.as_str();
            let mut place = Some(self.place);
            while let Some(directory) = place {
                let folder = match directory {
                    "" => format!("{ENVIRONMENT}/{name}"),
                    _ => format!("{directory}/{ENVIRONMENT}/{name}"),
                };
                if let Some(one) = resolution.packages.iter().find(|it| it.place == folder) {
                    versions.insert(name, one.version.as_str());
                    break;
                }
                place = match directory {
                    "" => None,
                    _ => Some(directory.rsplit_once('/').map_or("", |(above, _)| above)),
                };
            }
        }
        let before = (self.file.as_str(), Some(self.before.as_str()));
        written(before, &self.add, self.remove, &versions)
    }
}
