//! One range of any family: which versions are in it.

use crate::error::ParseError;
use crate::family::Family;
use crate::version::{Details, Version};
use crate::{alpine, cargo, composer, debian, gem, maven, npm, nuget, pypi, rpm, text};

/// A range that was read once.
#[derive(Clone, Debug)]
pub struct Range {
    family: Family,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Npm(npm::Range),
    Pypi(pypi::Specifiers),
    Cargo(semver::VersionReq),
    Debian(debian::Relations),
    Rpm(rpm::Relations),
    Alpine(alpine::Constraints),
    Maven(maven::Intervals),
    Nuget(nuget::Range),
    Gem(gem::Requirement),
    Composer(composer::Constraints),
}

impl Range {
    /// Reads a range strictly as the family's own client does; spaces around it do not count.
    pub fn parse(family: Family, text: &str) -> Result<Self, ParseError> {
        let text = text::range(text)?;
        let rule = match family {
            Family::Npm => Rule::Npm(npm::Range::parse_with(text, npm::Options::default())?),
            Family::Pypi => Rule::Pypi(pypi::Specifiers::parse(text)?),
            Family::Cargo => Rule::Cargo(cargo::parse_requirement(text)?),
            Family::Debian => Rule::Debian(debian::Relations::parse(text)?),
            Family::Rpm => Rule::Rpm(rpm::Relations::parse(text)?),
            Family::Alpine => Rule::Alpine(alpine::Constraints::parse(text)?),
            Family::Maven => Rule::Maven(maven::Intervals::parse(text)?),
            Family::Nuget => Rule::Nuget(nuget::Range::parse(text)?),
            Family::Gem => Rule::Gem(gem::Requirement::parse(text)?),
            Family::Composer => Rule::Composer(composer::Constraints::parse(text)?),
        };
        Ok(Self { family, rule })
    }

    /// Whose range it is.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether the version is in the range. Pre-releases are in where the range's text allows them, by the rules of the
    /// family; a version of another family is in no range.
    pub fn contains(&self, version: &Version) -> bool {
        match (&self.rule, &version.details) {
            (Rule::Npm(range), Details::Npm(version)) => range.satisfies(version),
            (Rule::Pypi(specifiers), Details::Pypi(details)) => {
                specifiers.contains(version.key(), details)
            }
            (Rule::Cargo(requirement), Details::Cargo(version)) => requirement.matches(version),
            (Rule::Rpm(relations), Details::Rpm(details)) => {
                relations.contains(version.key(), details)
            }
            (Rule::Nuget(range), Details::Nuget(details)) => range.contains(version.key(), details),
            (Rule::Gem(requirement), Details::Gem(details)) => {
                requirement.contains(version.key(), details)
            }
            (Rule::Composer(constraints), Details::Composer(details)) => {
                constraints.contains(version.key(), details)
            }
            (rule, Details::None) if self.family == version.family() => match rule {
                Rule::Debian(relations) => relations.contains(version.key()),
                Rule::Alpine(constraints) => constraints.contains(version.key()),
                Rule::Maven(intervals) => intervals.contains(version.key()),
                _ => false,
            },
            _ => false,
        }
    }
}
