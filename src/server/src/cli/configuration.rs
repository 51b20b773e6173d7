//! `parley config`

use std::path::Path;

use clap::Subcommand;
use parley::config::EXAMPLE;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a commented file that holds every key with its default
    Example,
    /// Read the configuration and the files that it names, and say whether they are right
    Check,
    /// Print the configuration in effect: defaults, file and environment together, secrets masked
    Show,
}

impl Command {
    pub(super) fn run(&self, path: Option<&Path>) -> anyhow::Result<()> {
        match self {
            Self::Example => print!("{EXAMPLE}"),
            Self::Check => {
                parley::check_files(&super::load(path)?)?;
                match path {
                    Some(path) => println!("{} is right.", path.display()),
                    None => println!("There is no configuration file; the defaults hold."),
                }
            }
            Self::Show => print!("{}", super::load(path)?.to_masked_toml()?),
        }
        Ok(())
    }
}
