//! The program `parley`.

mod cli;
mod logging;

use std::process::ExitCode;

use clap::Parser as _;

/// The system's allocator never gave back what hashing a password takes for a moment: each of the 19 MiB blocks was split
/// by the next small allocation, so that some 400 MB stayed with the process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parley: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, except for those that the error repeats itself.
fn sentence(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(first, |sentence, cause| match sentence.contains(&cause) {
        true => sentence,
        false => format!("{sentence}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("no space");
        let error = anyhow::Error::new(cause)
            .context("cannot write: no space")
            .context("stopped");
        assert_eq!(sentence(&error), "stopped: cannot write: no space");
        let error = anyhow::anyhow!("no space").context("cannot write");
        assert_eq!(sentence(&error), "cannot write: no space");
    }
}
