//! The endpoints, by area.

pub(crate) mod discovery;
