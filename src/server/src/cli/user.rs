//! `parley user`

use std::{
    io::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use parley::{
    config::Config,
    control::{self, Answer, ListedAccount},
};
use tokio::runtime::Runtime;

use super::password::{self, PasswordSource};

/// Works whether the server runs or not, on the machine where its data is.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an account
    Create {
        /// The part of the user's ID before the colon, such as `alice`
        username: String,
        /// Let the user administer the server
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// List all accounts
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Give a user another password and log out their devices
    ResetPassword {
        /// The user's ID, or its part before the colon
        user: String,
        /// Leave their devices logged in
        #[arg(long)]
        keep_devices: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Deactivate an account for good: its user leaves all rooms, and its name is never given again
    Deactivate {
        /// The user's ID, or its part before the colon
        user: String,
        /// Remove the user's profile too
        #[arg(long)]
        erase: bool,
        /// Don't ask whether it is meant
        #[arg(long)]
        yes: bool,
    },
    /// Print the hash of a password as it is stored, for use by other programs
    HashPassword {
        #[command(flatten)]
        password: PasswordSource,
    },
}

impl Command {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let asked = match self {
            Self::Create {
                username,
                admin,
                password,
            } => control::Command::Create {
                username,
                password: password.read()?.into(),
                admin,
            },
            Self::List { json } => return list(config, json),
            Self::ResetPassword {
                user,
                keep_devices,
                password,
            } => control::Command::ResetPassword {
                user,
                password: password.read()?.into(),
                keep_devices,
            },
            Self::Deactivate { user, erase, yes } => {
                if !yes {
                    password::confirm(&format!("Deactivate {user} for good?"))?;
                }
                control::Command::Deactivate { user, erase }
            }
            Self::HashPassword { password } => {
                let password = password.read()?;
                let hash = runtime()?.block_on(control::hash_password(config, &password))?;
                println!("{hash}");
                return Ok(());
            }
        };
        match carry_out(config, asked)? {
            Answer::Done { user_id } => println!("{user_id}"),
            _ => bail!("the server answered another question"),
        }
        Ok(())
    }
}

fn list(config: &Config, json: bool) -> anyhow::Result<()> {
    let Answer::Accounts(accounts) = carry_out(config, control::Command::List)? else {
        bail!("the server answered another question");
    };
    let mut output = std::io::stdout().lock();
    for account in &accounts {
        if json {
            writeln!(output, "{}", serde_json::to_string(account)?)?;
        } else {
            writeln!(output, "{}", line(account))?;
        }
    }
    Ok(())
}

/// `@alice:example.org  2026-01-31  admin, locked`
fn line(account: &ListedAccount) -> String {
    let created = Duration::from_millis(account.created_at.unsigned_abs());
    let created = humantime::format_rfc3339_seconds(UNIX_EPOCH + created).to_string();
    let date = created.split('T').next().unwrap_or_default();
    let properties = [
        (account.admin, "admin"),
        (account.deactivated, "deactivated"),
        (account.locked, "locked"),
        (account.suspended, "suspended"),
    ];
    let properties: Vec<_> = properties
        .into_iter()
        .filter(|(has, _)| *has)
        .map(|(_, name)| name)
        .collect();
    let line = format!("{}  {date}  {}", account.user_id, properties.join(", "));
    line.trim_end().to_owned()
}

pub(super) fn carry_out(config: &Config, command: control::Command) -> anyhow::Result<Answer> {
    Ok(runtime()?.block_on(control::run(config, command))?)
}

pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_account_is_a_line_with_its_date_and_properties() {
        let account = ListedAccount {
            user_id: "@alice:example.org".to_owned(),
            created_at: 1_769_817_600_000,
            admin: true,
            deactivated: false,
            locked: true,
            suspended: false,
        };
        assert_eq!(
            line(&account),
            "@alice:example.org  2026-01-31  admin, locked"
        );
    }
}
