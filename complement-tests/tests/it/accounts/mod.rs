//! Accounts and their devices.

mod deactivation;
mod devices;
mod login;
mod password;
mod refresh;
mod registration;
mod shared_secret;
