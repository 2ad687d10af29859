//! hwloc as an observer. Only this file knows its crate, whose interface is not stable yet.
//!
//! hwloc is not asked about classes: before 2.13 it takes low-power cores for efficient ones, and it splits cores of one
//! kind by small differences of frequency. It takes tens of milliseconds, so it is asked at most once.

use hwlocality::Topology;
use hwlocality::bitmap::Bitmap;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::TopologyBuilder;

use crate::cpu_set::CpuSet;
use crate::limits::CPU_NUMBER_MAX;
use crate::opinion::{Kind, ObserveError, Observer, Opinion};

/// hwloc, and what it looks at.
#[derive(Clone, Debug)]
pub enum Hwloc {
    /// This machine.
    Machine,
    /// A machine described in hwloc's own XML.
    Xml(String),
}

impl Observer for Hwloc {
    fn observe(&self) -> Result<Opinion, ObserveError> {
        let failed = |error: &dyn std::fmt::Display| ObserveError::Failed(error.to_string());
        let builder = TopologyBuilder::new();
        let builder = match self {
            Hwloc::Machine => builder,
            Hwloc::Xml(text) => builder.from_xml(text).map_err(|error| failed(&error))?,
        };
        let topology = builder.build().map_err(|error| failed(&error))?;
        let kinds = topology.cpu_kinds().map(|kinds| {
            let kinds = kinds.map(|kind| Kind {
                cpus: set(&kind.cpuset),
                name: kind
                    .infos
                    .iter()
                    .find(|info| info.name().to_bytes() == b"CoreType")
                    .map(|info| info.value().to_string_lossy().into_owned()),
            });
            kinds.collect()
        });
        Ok(Opinion {
            who: format!("hwloc {}", version()),
            cores: objects(&topology, ObjectType::Core),
            l3: objects(&topology, ObjectType::L3Cache),
            // No data means that it sees no difference.
            kinds: kinds.unwrap_or_default(),
        })
    }
}

fn objects(topology: &Topology, kind: ObjectType) -> Vec<CpuSet> {
    topology.objects_with_type(kind).filter_map(|it| Some(set(&it.cpuset()?))).collect()
}

/// The numbers of a set of hwloc, which may be without end.
fn set(bitmap: &impl AsRef<Bitmap>) -> CpuSet {
    let numbers = bitmap.as_ref().iter_set().map(usize::from);
    numbers.take_while(|cpu| *cpu < CPU_NUMBER_MAX).collect()
}

/// The version of the library's interface as it is linked, which is that of the release or an older one.
fn version() -> String {
    let version = hwlocality::hwloc_api_version();
    format!("interface {}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}
