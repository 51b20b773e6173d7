//! Accounts and their devices.

mod administration;
mod appservices;
mod contacts;
mod deactivation;
mod devices;
mod filters;
mod guests;
mod jwt;
mod limits;
mod login;
mod login_tokens;
mod mutual_rooms;
mod openid;
mod password;
mod profiles;
mod refresh;
mod registration;
mod shared_secret;
mod terms;
mod turn;
pub(crate) mod user_directory;
