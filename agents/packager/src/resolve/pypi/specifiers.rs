//! What PEP 440 specifiers match, exactly, and what they say about pre-releases and pins.
//!
//! `pep440_rs` decides all but two things, which are corrected here: a prefix match pads short releases with
//! zeros, and so does the compatible-release operator (`1` is `1.0`, so `==1.2.*` does not match it).

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};

/// Whether a version satisfies all specifiers, pre-releases like any other version.
pub(super) fn matches(specifiers: &VersionSpecifiers, version: &Version) -> bool {
    specifiers.iter().all(|specifier| matches_one(specifier, version))
}

fn matches_one(specifier: &VersionSpecifier, version: &Version) -> bool {
    let wanted = specifier.version().release();
    match specifier.operator() {
        Operator::EqualStar if version.release().len() < wanted.len() => {
            specifier.version().epoch() == version.epoch() && has_prefix(version, wanted)
        }
        Operator::NotEqualStar if version.release().len() < wanted.len() => {
            specifier.version().epoch() != version.epoch() || !has_prefix(version, wanted)
        }
        Operator::TildeEqual if version.release().len() < wanted.len() => {
            specifier.contains(version) && has_prefix(version, &wanted[..wanted.len() - 1])
        }
        _ => specifier.contains(version),
    }
}

fn has_prefix(version: &Version, prefix: &[u64]) -> bool {
    let padded = version.release().iter().copied().chain(std::iter::repeat(0));
    prefix.iter().copied().eq(padded.take(prefix.len()))
}

/// Whether a specifier names a pre-release, which asks for pre-releases.
pub(super) fn mentions_prerelease(specifiers: &VersionSpecifiers) -> bool {
    // "Not this pre-release" does not ask for others, and "below it" (`<2.0dev`) is how people exclude a whole version.
    let asks = |operator| {
        !matches!(operator, Operator::NotEqual | Operator::NotEqualStar | Operator::LessThan)
    };
    specifiers.iter().any(|it| asks(*it.operator()) && it.any_prerelease())
}

/// Whether the specifiers name exactly this version, which lets a yanked one through.
pub(super) fn pins(specifiers: &VersionSpecifiers, version: &Version) -> bool {
    specifiers.iter().any(|specifier| {
        matches!(specifier.operator(), Operator::Equal | Operator::ExactEqual)
            && specifier.contains(version)
    })
}

/// Whether an interpreter of this version may use something that declares `requires_python`.
///
/// As pip and uv do, only the release of the interpreter counts: 3.14.0rc1 may use what needs `>=3.14`.
pub fn admits_python(requires_python: &VersionSpecifiers, python: &Version) -> bool {
    matches(requires_python, &python.only_release())
}

/// The specifiers as a person writes them: `>=2,<3`; empty for any version.
pub(super) fn text(specifiers: &VersionSpecifiers) -> String {
    specifiers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
