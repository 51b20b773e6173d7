//! A view of the file system of its own for one process: with a small disk, or one that can't be written.

use std::{path::Path, process::Command};

/// Puts a disk of so many KiB in the place of a folder.
pub(crate) fn small_disk(kib: u32) -> String {
    format!("mount -t tmpfs -o size={kib}k tmpfs \"$1\"")
}

/// A command that runs `program` after a shell script has prepared its view of the file system; `$1` in it is `path`.
/// `None` where this system doesn't allow that; the reason is printed.
pub(crate) fn command(prepare: &str, path: &Path, program: &str) -> Option<Command> {
    let whole = format!("{prepare} && shift && exec \"$@\"");
    let mut reason = String::new();
    // Anyone may have a name space where the system lets them; who is root needs no user's for it.
    for kind in [&["--user", "--map-root-user", "--mount"][..], &["--mount"]] {
        let new = |program: &str| {
            let mut command = Command::new("unshare");
            command.args(kind).args(["sh", "-c", &whole, "sh"]);
            command.arg(path).arg(program);
            command
        };
        match new("true").output() {
            Ok(output) if output.status.success() => return Some(new(program)),
            Ok(output) => reason = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => reason = error.to_string(),
        }
    }
    println!("skipped: a name space for file systems can't be had here: {reason}");
    None
}
