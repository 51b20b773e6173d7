//! Work that takes a processor for a while.

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{EngineError, Result};

/// Does `work` on a thread for such, so that requests don't wait for it. On a runtime with one thread, as a simulation has, it's
/// done in place: nothing else happens meanwhile, and so what happens next is the same each time.
///
/// # Errors
/// If the work panics, or the runtime is being stopped.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| EngineError::Internal(error.to_string()))
}
