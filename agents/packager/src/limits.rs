//! Every bound of the Packager, with its unit and its reason.
//!
//! Whatever a registry, an archive, a manifest or a peer sends is written by an attacker until proven
//! otherwise; nothing here may be exceeded silently: the operation fails and names the bound.
