//! One module a command, or a family of small ones.

pub(crate) mod backup;
pub(crate) mod base;
pub(crate) mod copy;
#[cfg(unix)]
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod manuals;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod salvage;
pub(crate) mod verify;
