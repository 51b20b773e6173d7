//! The program as a process of its own.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A running `parley`.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    url: String,
}

impl Program {
    /// Starts it on the data in `folder` and waits until it answers.
    pub(crate) async fn start(folder: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = folder.join("parley.toml");
        std::fs::write(&config, configuration(&folder.join("data"), port)).unwrap();
        let log = std::fs::File::create(folder.join("parley.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_parley"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let program = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        program.wait_until_ready(folder).await;
        program
    }

    async fn wait_until_ready(&self, folder: &Path) {
        for _ in 0..600 {
            let url = format!("{}/_matrix/client/versions", self.url);
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

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same, for the end.
    pub(crate) fn stop(mut self) {
        self.kill();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After a failed test it is still running.
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
