//! Differences applied to live tables by an owner who is no superuser, and undone.

mod orders;
mod outside;
mod random;
mod undone;
mod world;
