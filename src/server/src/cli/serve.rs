//! `parley serve`

use std::path::Path;

use anyhow::Context as _;
use parley::{Server, config::Config};

use super::signals::{Signal, Signals};

/// What an administrator reads isn't about a module.
const TARGET: &str = "parley";

/// Runs a server until it is told to stop.
pub(super) fn run(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    crate::logging::init(&config.log).context("cannot set up the log")?;
    raise_limit_of_open_files(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(config, file));
    // Work that is still running on threads of its own, such as hashing, isn't waited for.
    runtime.shutdown_background();
    served
}

async fn serve(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let server = tokio::select! {
        server = Server::start(config) => server?,
        () = signals.stop() => return Ok(()),
    };
    announce(&server);
    welcome(&server, file).await?;
    notify(&[sd_notify::NotifyState::Ready]);
    while signals.next().await == Signal::Reload {
        match server.reload_certificates() {
            Ok(()) => tracing::info!(target: TARGET, "read the certificates again"),
            Err(error) => {
                tracing::error!(target: TARGET, %error, "kept the certificates that were in use")
            }
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!(target: TARGET, "stopping; a second signal ends it at once");
    tokio::select! {
        finished = server.stop() => {
            if finished {
                tracing::info!(target: TARGET, "stopped");
            } else {
                tracing::warn!(target: TARGET, "stopped, with requests given up that took too long");
            }
        }
        () = signals.stop() => tracing::warn!(target: TARGET, "ended at once"),
    }
    Ok(())
}

/// Says where the server is reached and where its data lies.
fn announce(server: &Server) {
    let config = server.config();
    let scheme = |certificate: bool| if certificate { "https" } else { "http" };
    let main = scheme(config.listener.certificate.is_some());
    tracing::info!(
        target: TARGET,
        "{} is served on {main}://{}",
        config.server.name,
        server.local_addr()
    );
    if let Some(address) = server.federation_addr() {
        let scheme = scheme(config.federation_listener.certificate.is_some());
        tracing::info!(target: TARGET, "other servers are answered on {scheme}://{address} too");
    }
    if let Some(address) = server.metrics_addr() {
        tracing::info!(target: TARGET, "metrics are on http://{address}/metrics");
    }
    let folder = std::path::absolute(&config.server.data_dir);
    let folder = folder.unwrap_or_else(|_| config.server.data_dir.clone());
    tracing::info!(target: TARGET, "the data lies in {}", folder.display());
}

/// Says how the first account is made, until there is one.
async fn welcome(server: &Server, file: Option<&Path>) -> anyhow::Result<()> {
    if server.has_accounts().await? {
        return Ok(());
    }
    let file = file.map_or_else(String::new, |file| format!(" --config {}", file.display()));
    tracing::info!(
        target: TARGET,
        "there are no accounts yet; make the first, an administrator's, in another terminal in \
         this folder: parley{file} user create --admin NAME"
    );
    Ok(())
}

/// Each connection is an open file, and many systems allow 1024 where nobody asks for more.
fn raise_limit_of_open_files(config: &Config) {
    // Beside the connections: the database, media, connections to other servers.
    const OTHERS: u64 = 512;
    let wanted = u64::from(config.listener.max_connections) + OTHERS;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => tracing::warn!(target: TARGET,
            "only {limit} files can be open at once, fewer than `listener.max_connections` needs \
             ({wanted}); raise the limit of the process"
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(target: TARGET, %error, "cannot raise the limit of open files")
        }
    }
}

/// Tells systemd, if it is systemd that started this.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(target: TARGET, %error, "cannot notify systemd");
    }
}
