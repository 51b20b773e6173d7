//! The endpoints, by area.

pub(crate) mod discovery;
pub(crate) mod rooms;
