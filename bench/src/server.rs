//! A server that the load program starts and stops itself.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::http::Target;

/// How long a server may take to answer for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two attempts to get an answer; also the precision of the time of starting.
const ATTEMPT: Duration = Duration::from_millis(2);

/// A running server with all processes that it has started itself.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: Pid,
}

impl Server {
    /// Runs the shell command and waits for a first answer; gives how long that took.
    pub(crate) async fn start(command: &str, target: &Target) -> Result<(Self, Duration)> {
        let target = target.with_timeout(Duration::from_secs(5));
        if answers(&target).await {
            bail!("something answers at --url before --start-command has run; stop that first");
        }
        let begun = Instant::now();
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("running --start-command")?;
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pid = id.context("--start-command has no process")?;
        let mut server = Self { child, pid };
        while !answers(&target).await {
            if let Some(status) = server.child.try_wait()? {
                bail!("--start-command ended with {status}");
            }
            if begun.elapsed() > PATIENCE {
                server.stop().await?;
                bail!(
                    "the server did not answer within {} seconds",
                    PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(ATTEMPT).await;
        }
        Ok((server, begun.elapsed()))
    }

    /// The process id of the command.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Asks the server to end, and ends it if it doesn't.
    pub(crate) async fn stop(mut self) -> Result<()> {
        // It may have ended already, which the wait below finds out.
        let _ = kill_process_group(self.pid, Signal::TERM);
        if tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .is_err()
        {
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.child
                .wait()
                .await
                .context("waiting for the server to end")?;
        }
        Ok(())
    }
}

/// When the load program is interrupted, nothing that it started stays behind.
impl Drop for Server {
    fn drop(&mut self) {
        // There is no id any more once the process has ended and its id may be another's.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

async fn answers(target: &Target) -> bool {
    target
        .client()
        .get(None, "/_matrix/client/versions".to_owned())
        .await
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_ends_at_once_is_an_error() {
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", unused.local_addr().unwrap());
        drop(unused);
        let target = Target::parse(&url, Duration::from_secs(1)).unwrap();
        let error = Server::start("exit 3", &target).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
