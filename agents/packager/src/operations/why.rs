//! `pkg.why`: the ways from what the project asks for to a package. Walks edges backwards, breadth first, so that ways are the
//! shortest, and remembers where it was, so that circles end.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::Task;
use crate::api::{WhyAnswer, WhyPackage};
use crate::error::Result;
use crate::limits::WHY_PATHS_MAX;
use crate::resolution::{Package, Resolution};
use crate::spec::{Spec, purl};

impl Task<'_> {
    /// Who wants a package.
    pub(crate) fn why(&self, directory: OwnedFd, text: &str) -> Result<WhyAnswer> {
        let spec = Spec::parse(text)?;
        let project = self.open(directory)?;
        let current = self.current(&project)?;
        let mut packages = Vec::new();
        if let Some(resolution) = current.get(&spec.ecosystem) {
            let users = users(resolution);
            for (index, package) in resolution.packages.iter().enumerate() {
                if is_meant(&spec, package) {
                    packages.push(explained(resolution, &users, index));
                }
            }
        }
        Ok(WhyAnswer {
            schema: "bolide.why/1".to_owned(),
            project: project.path().to_string_lossy().into_owned(),
            packages,
        })
    }
}

/// A range means the versions in it; a purl names one.
fn is_meant(spec: &Spec, package: &Package) -> bool {
    if spec.name != package.name {
        return false;
    }
    let exact = spec.requirement.trim_start_matches('=').trim();
    spec.requirement.is_empty()
        || exact == package.version
        || purl(spec.ecosystem, &spec.name, exact) == package.purl()
        || super::outdated::contains(spec, &package.version)
}

/// Who uses each package.
fn users(resolution: &Resolution) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); resolution.packages.len()];
    for (index, package) in resolution.packages.iter().enumerate() {
        for used in &package.dependencies {
            if let Some(of) = users.get_mut(*used) {
                of.push(index);
            }
        }
    }
    users
}

fn explained(resolution: &Resolution, users: &[Vec<usize>], target: usize) -> WhyPackage {
    let mut next: Vec<Option<usize>> = vec![None; users.len()];
    let mut seen = vec![false; users.len()];
    let mut order = Vec::new();
    let mut queue = VecDeque::from([target]);
    seen[target] = true;
    while let Some(at) = queue.pop_front() {
        order.push(at);
        for user in &users[at] {
            if !std::mem::replace(&mut seen[*user], true) {
                next[*user] = Some(at);
                queue.push_back(*user);
            }
        }
    }
    let roots = order.into_iter().filter(|index| resolution.packages[*index].direct);
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut more = 0;
    for root in roots {
        if paths.len() == WHY_PATHS_MAX {
            more += 1;
            continue;
        }
        let way = std::iter::successors(Some(root), |at| next[*at]);
        paths.push(way.map(|at| resolution.packages[at].purl()).collect());
    }
    let package = &resolution.packages[target];
    let (purl, direct, place) = (package.purl(), package.direct, package.place.clone());
    WhyPackage { purl, direct, place, paths, more }
}
