//! The program as a process of its own.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Where the program is.
pub(crate) const PARLEY: &str = env!("CARGO_BIN_EXE_parley");

/// A running `parley`.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    address: String,
}

impl Program {
    /// Starts it on the data in `folder/data` and waits until it answers.
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_by(Command::new(PARLEY), folder).await
    }

    /// The same by another command, which gets the arguments too.
    pub(crate) async fn start_by(mut command: Command, folder: &Path) -> Self {
        // For the client; there is no TLS here. Fails where another test was first, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = folder.join("parley.toml");
        std::fs::write(&config, configuration(&folder.join("data"), port)).unwrap();
        let log = std::fs::File::create(folder.join("parley.log")).unwrap();
        let child = command
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let program = Self {
            child,
            address: format!("127.0.0.1:{port}"),
        };
        program.wait_until_ready(folder).await;
        program
    }

    async fn wait_until_ready(&self, folder: &Path) {
        for _ in 0..600 {
            let url = format!("{}/_matrix/client/versions", self.url());
            if reqwest::get(&url)
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(folder.join("parley.log")).unwrap_or_default();
        panic!("parley doesn't answer:\n{log}");
    }

    /// Its address for a socket.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its address for HTTP.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of its process.
    #[cfg(unix)]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(data: &Path, port: u16) -> String {
    format!(
        "[server]\nname = \"localhost\"\ndata_dir = {data:?}\n\
         [listener]\naddress = \"127.0.0.1:{port}\"\n\
         [registration]\nmode = \"open-without-verification\"\n\
         [rate_limits]\nenabled = false\n\
         [passwords]\nmemory = \"1 MiB\"\niterations = 1\n"
    )
}
