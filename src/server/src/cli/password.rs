//! Asking an administrator for a password, or whether something is meant.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

/// A password never stands on the command line, where every user of the machine can read it.
#[derive(Debug, Args)]
pub(super) struct PasswordSource {
    /// Read the password from a file instead of asking for it; without a terminal it is read from
    /// standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordSource {
    pub(super) fn read(&self) -> anyhow::Result<String> {
        let password = match &self.password_file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read the password from {}", path.display()))?,
            None if io::stdin().is_terminal() => ask()?,
            None => first_line()?,
        };
        let password = password.trim_end_matches(['\r', '\n']);
        ensure!(!password.is_empty(), "the password is empty");
        Ok(password.to_owned())
    }
}

fn ask() -> anyhow::Result<String> {
    let password = rpassword::prompt_password("Password: ")?;
    let again = rpassword::prompt_password("Again: ")?;
    ensure!(password == again, "these were two different passwords");
    Ok(password)
}

fn first_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the password")?;
    Ok(line)
}

/// Goes on only if it is meant.
pub(super) fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("give --yes if it is meant");
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let answer = first_line()?;
    ensure!(
        matches!(answer.trim(), "y" | "Y" | "yes"),
        "nothing was done"
    );
    Ok(())
}
