//! `arkstream restore`, `undo`, `forget`, `restores`, on a stack of their own.

mod based;
mod compare;
mod conformance;
mod cost;
mod kills;
mod left_behind;
mod modes;
mod neutral;
mod people;
mod refusals;
mod replaced;
mod round_trip;
mod shared;
pub(crate) mod stage;
mod troubles;
mod whole;
