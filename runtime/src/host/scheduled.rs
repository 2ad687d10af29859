//! The host that the scheduler stands behind: permits by admission, threads placed on the cores where their work belongs.

use std::time::SystemTime;

use agents_contract::{Host, Permit, Work};
use hw::affinity;
use hw::cpu::Classes;
use hw::root::Root;
use scheduler::admission::Admission;
use scheduler::placement::{self, place};

/// Permits and places of one process.
#[derive(Debug)]
pub(crate) struct ScheduledHost {
    classes: Classes,
    admission: Admission,
}

impl ScheduledHost {
    /// Looks at the machine once; to be called before any thread is pinned.
    pub(crate) fn new() -> Self {
        let root = Root::machine();
        let classes = Classes::read(&root, &affinity::allowed(&root));
        Self { admission: Admission::new(&classes), classes }
    }
}

impl Host for ScheduledHost {
    fn permit(&self, work: Work) -> Permit {
        Permit::new(self.admission.acquire(kind(work)))
    }

    fn parallelism(&self, work: Work) -> usize {
        self.admission.slots(kind(work))
    }

    /// Only a preference: a thread that may not run there stays where it is.
    fn place_current_thread(&self, work: Work) {
        let _ = affinity::pin_current_thread(&place(kind(work), &self.classes));
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

fn kind(work: Work) -> placement::Work {
    match work {
        Work::Resolve => placement::Work::Resolve,
        Work::Download => placement::Work::Download,
        Work::Unpack => placement::Work::Unpack,
        Work::Background => placement::Work::Background,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_work_is_admitted_and_a_permit_can_be_had_again() {
        let host = ScheduledHost::new();
        for work in [Work::Resolve, Work::Download, Work::Unpack, Work::Background] {
            for _ in 0..=host.parallelism(work) {
                drop(host.permit(work));
            }
        }
    }
}
