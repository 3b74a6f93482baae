//! `replace` and `merge` beside other models' data.
