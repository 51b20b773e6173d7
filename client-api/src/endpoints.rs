//! The endpoints, by area.

pub(crate) mod accounts;
pub(crate) mod devices;
pub(crate) mod discovery;
pub(crate) mod login;
pub(crate) mod rooms;
