//! What stands in one folder: mostly nothing or a few, in the project's a thousand.
//!
//! Its order is that in which nodes were made, whatever numbers folders have.

use rustc_hash::FxHashMap as HashMap;

use super::NodeId;
use crate::resolve::npm::names::Folder;

/// As many are looked through faster than found by a digest.
const FEW: usize = 8;

/// See the module.
#[derive(Debug)]
pub(in super::super) enum Children {
    Few(Vec<(Folder, NodeId)>),
    Many(HashMap<Folder, NodeId>),
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Children {
    /// Who goes by that name.
    pub(in super::super) fn get(&self, folder: Folder) -> Option<NodeId> {
        match self {
            Self::Few(few) => few.iter().find(|(name, _)| *name == folder).map(|(_, node)| *node),
            Self::Many(many) => many.get(&folder).copied(),
        }
    }

    /// Adds one whose name nobody has.
    pub(super) fn insert(&mut self, folder: Folder, node: NodeId) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push((folder, node)),
            Self::Few(few) => {
                let mut many: HashMap<Folder, NodeId> = few.drain(..).collect();
                many.insert(folder, node);
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(folder, node);
            }
        }
    }

    pub(super) fn remove(&mut self, folder: Folder) {
        match self {
            Self::Few(few) => few.retain(|(name, _)| *name != folder),
            Self::Many(many) => {
                many.remove(&folder);
            }
        }
    }

    /// All of them.
    pub(in super::super) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = match self {
            Self::Few(few) => few.iter().map(|(_, node)| *node).collect(),
            Self::Many(many) => many.values().copied().collect(),
        };
        nodes.sort_unstable();
        nodes
    }
}
