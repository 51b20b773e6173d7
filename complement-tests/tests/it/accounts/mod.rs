//! Accounts and their devices.

mod deactivation;
mod devices;
mod filters;
mod login;
mod password;
mod profiles;
mod refresh;
mod registration;
mod shared_secret;
