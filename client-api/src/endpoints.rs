//! The endpoints, by area.

pub(crate) mod accounts;
pub(crate) mod devices;
pub(crate) mod discovery;
pub(crate) mod filters;
pub(crate) mod login;
pub(crate) mod profiles;
pub(crate) mod rooms;
