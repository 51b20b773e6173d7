//! The socket in the data folder by which commands reach a running server: one line of JSON each way.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use parley_federation::Federation;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Command, Refusal, execute};

const FILE: &str = "control.sock";

/// A command has a few hundred bytes; a list of a million accounts has some hundred million.
const MAXIMUM_COMMAND: u64 = 64 << 10;

/// Who connects has a command ready.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// The user who may do everything anyway.
const ROOT: u32 = 0;

/// A socket that is listened on. Its file goes with it.
pub(crate) struct ControlSocket {
    path: PathBuf,
    serving: AbortOnDropHandle<()>,
}

impl ControlSocket {
    /// Listens in the data folder. Whoever holds the folder's lock owns what is left there.
    pub(crate) async fn listen(folder: &Path, federation: Federation) -> io::Result<Self> {
        let path = folder.join(FILE);
        if connect(folder).await.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another server listens there",
            ));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&path)?.uid();
        let serving = tokio::spawn(serve(listener, owner, federation));
        Ok(Self {
            path,
            serving: AbortOnDropHandle::new(serving),
        })
    }
}

impl ControlSocket {
    /// Ends it. Afterwards it has let go of the engine.
    pub(crate) async fn stop(mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If it stays, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, owner: u32, federation: Federation) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, most likely.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        // The file's mode says so already, but it is set a moment after the file is there.
        let allowed = |uid| uid == owner || uid == ROOT;
        if !stream.peer_cred().is_ok_and(|peer| allowed(peer.uid())) {
            continue;
        }
        // One after the other: these are commands of an administrator.
        if let Err(error) = answer(stream, &federation).await {
            tracing::warn!(%error, "a command could not be answered");
        }
    }
}

async fn answer(mut stream: UnixStream, federation: &Federation) -> io::Result<()> {
    let command = read(&mut stream, MAXIMUM_COMMAND);
    let command: Command = timeout(COMMAND_TIMEOUT, command).await??;
    let answer = execute(federation, command).await;
    write(&mut stream, &answer.map_err(|refusal| refusal.0)).await
}

/// The server that runs on the data in `folder`, if one does.
pub(super) async fn connect(folder: &Path) -> Option<UnixStream> {
    UnixStream::connect(folder.join(FILE)).await.ok()
}

/// Has the server carry a command out.
pub(super) async fn ask(
    mut server: UnixStream,
    command: &Command,
) -> io::Result<Result<Answer, Refusal>> {
    write(&mut server, command).await?;
    let answer: Result<Answer, String> = read(&mut server, u64::MAX).await?;
    Ok(answer.map_err(Refusal))
}

async fn write(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn read<T: DeserializeOwned>(stream: &mut UnixStream, limit: u64) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(limit))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}
