//! `parley federation`

use std::{
    io::Write as _,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::bail;
use clap::Subcommand;
use parley::{
    config::Config,
    control::{self, Answer},
};
use parley_federation::{DestinationStatus, Finding, Verdict};

use super::user::{carry_out, runtime};

/// Works whether the server runs or not, on the machine where its data is.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether a server is found, reached and trusted, and whether it trusts this one
    Check {
        /// The server's name, the part of its users' IDs behind the colon. It may be this server's own
        server: String,
    },
    /// List how it goes with the servers that were spoken with
    Destinations {
        /// Only those that aren't reached
        #[arg(long)]
        failing: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Take the signing key of another homeserver that had this server's name, such as a Synapse
    ///
    /// The server must not run. The key that it had is published as an old one.
    ImportKey {
        /// Synapse's file, NAME.signing.key
        file: PathBuf,
    },
    /// Try a server again at once that wasn't reached
    Retry {
        /// The server's name
        server: String,
    },
}

impl Command {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::Check { server } => check(config, server),
            Self::Destinations { failing, json } => list(config, failing, json),
            Self::ImportKey { file } => {
                let imported = runtime()?.block_on(control::import_keys(config, &file))?;
                println!(
                    "Signing with {} from the next start on.",
                    imported.first().map_or("nothing", String::as_str)
                );
                Ok(())
            }
            Self::Retry { server } => {
                let asked = control::Command::Retry {
                    server: server.clone(),
                };
                match carry_out(config, asked)? {
                    Answer::Retried(true) => println!("{server} is tried again."),
                    Answer::Retried(false) => println!("{server} isn't being left alone."),
                    _ => bail!("the server answered another question"),
                }
                Ok(())
            }
        }
    }
}

fn check(config: &Config, server: String) -> anyhow::Result<()> {
    let Answer::Findings(findings) =
        carry_out(config, control::Command::CheckFederation { server })?
    else {
        bail!("the server answered another question");
    };
    let mut output = std::io::stdout().lock();
    for finding in &findings {
        writeln!(output, "{}", finding_line(finding))?;
    }
    if findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad)
    {
        bail!("the servers can't speak with each other");
    }
    Ok(())
}

fn finding_line(finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Good => "ok  ",
        Verdict::Note => "    ",
        Verdict::Bad => "BAD ",
    };
    format!("{mark} {}", finding.text)
}

fn list(config: &Config, failing: bool, json: bool) -> anyhow::Result<()> {
    let Answer::Destinations(all) = carry_out(config, control::Command::Destinations)? else {
        bail!("the server answered another question");
    };
    let mut output = std::io::stdout().lock();
    for status in all {
        if failing && status.failing_since.is_none() {
            continue;
        }
        match json {
            true => writeln!(output, "{}", serde_json::to_string(&status)?)?,
            false => writeln!(output, "{}", line(&status))?,
        }
    }
    Ok(())
}

/// `a.example  not reached since 2026-01-31T00:00:00Z (7 times; next try ...): no answer in time; 3 rooms behind`
fn line(status: &DestinationStatus) -> String {
    let mut line = status.server_name.clone();
    match status.failing_since {
        None => line.push_str("  reached"),
        Some(since) => {
            let next = status.retry_at.map_or("at once".to_owned(), time);
            line.push_str(&format!(
                "  not reached since {} ({} times; next try {next}): {}",
                time(since),
                status.failures,
                status
                    .last_error
                    .as_deref()
                    .unwrap_or("for whatever reason")
            ));
        }
    }
    if let Some(at) = status.last_success_at {
        line.push_str(&format!("; last reached {}", time(at)));
    }
    if status.rooms_behind > 0 {
        line.push_str(&format!("; {} rooms behind", status.rooms_behind));
    }
    if status.waiting > 0 {
        line.push_str(&format!("; {} waiting", status.waiting));
    }
    line
}

fn time(milliseconds: i64) -> String {
    let since_epoch = Duration::from_millis(milliseconds.unsigned_abs());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_line_that_says_how_it_goes() {
        let mut status = DestinationStatus {
            server_name: "a.example".to_owned(),
            last_success_at: Some(1_769_817_600_000),
            failing_since: None,
            failures: 0,
            retry_at: None,
            last_error: None,
            rooms_behind: 0,
            waiting: 2,
        };
        assert_eq!(
            line(&status),
            "a.example  reached; last reached 2026-01-31T00:00:00Z; 2 waiting"
        );
        status = DestinationStatus {
            failing_since: Some(1_769_817_601_000),
            failures: 3,
            retry_at: Some(1_769_817_700_000),
            last_error: Some("no answer in time".to_owned()),
            rooms_behind: 5,
            waiting: 0,
            ..status
        };
        assert_eq!(
            line(&status),
            "a.example  not reached since 2026-01-31T00:00:01Z (3 times; next try 2026-01-31T00:01:40Z): \
             no answer in time; last reached 2026-01-31T00:00:00Z; 5 rooms behind"
        );
    }
}
