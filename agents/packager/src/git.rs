//! Repositories of git that a project names, by the `git` program of this machine: which commit is meant, its objects, its files.
//! Not what is made of them: that is [`operations`](crate::operations)'.
//!
//! Whoever wrote the repository, or runs its server, is a stranger. So:
//! 1. The program is told words that were judged before ([`address`](crate::manifest::address)), and asked for one reference or commit.
//!    Hooks, filters, submodules, replacements and other transports are off; nothing is ever checked out. A server that gives its files
//!    one by one is not asked for any, whatever it seemed to be before, and none sends us on to one without encryption.
//! 2. It runs below a helper of ours ([`helper`]) that holds it within bounds and ends it with everything it started, when it takes too
//!    long, when what it fetched takes too much room, and when the process that asked is gone.
//! 3. What was fetched never changes afterwards ([`kept`]): one directory for one commit, put in its place whole. A process that dies in
//!    the middle leaves a download that nobody finished, which is swept like others.
//! 4. Files are written by us, out of the objects ([`tree`]): no attribute and no link decides where or what.
//!
//! Servers and passwords are the person's own configuration of git and ssh; repositories have none of it.

mod fetch;
pub mod helper;
mod kept;
mod limits;
mod run;
mod size;
mod tree;

pub(crate) use fetch::Meant;
pub(crate) use kept::{Kept, Other, Room, shrink};
pub(crate) use run::{Git, SETTINGS, VARIABLES, own_program};
pub(crate) use tree::DAMAGED;
