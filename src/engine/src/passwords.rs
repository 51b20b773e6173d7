//! Passwords: argon2id, away from the threads that serve requests.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use tokio::sync::{Semaphore, oneshot};

use crate::{EngineError, Result, random::Random, settings::PasswordSettings, text};

/// Of a salt, in bytes; what RFC 9106 recommends.
const SALT_LENGTH: usize = 16;

/// Hashes and verifies passwords, as many at once as there are cores.
#[derive(Clone, Debug)]
pub struct Passwords {
    params: Params,
    random: Arc<dyn Random>,
    permits: Arc<Semaphore>,
    workers: Workers,
    /// A hash that no password fits, to be verified against where there is no account: the answer must not come
    /// sooner than for a wrong password.
    dummy: Arc<str>,
}

/// How a password compares to a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is another password.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, but it would be hashed in another way now.
    RightButOutdated,
}

/// The hash of a password where there is no engine, for use by other programs. What is demanded of new passwords is
/// demanded of it.
///
/// # Errors
/// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`.
pub async fn hash_new(
    settings: &PasswordSettings,
    random: &Arc<dyn Random>,
    password: &str,
) -> Result<String> {
    text::check_new_password(password, settings.minimum_length)?;
    Passwords::new(settings, random)?.hash(password).await
}

impl Passwords {
    pub(crate) fn new(settings: &PasswordSettings, random: &Arc<dyn Random>) -> Result<Self> {
        let params = Params::new(
            settings.memory_kib,
            settings.iterations,
            settings.parallelism,
            None,
        )
        .map_err(|error| internal(&error))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let dummy = unfitting_hash(&params, random.as_ref());
        Ok(Self {
            params,
            random: Arc::clone(random),
            permits: Arc::new(Semaphore::new(cores)),
            workers: Workers::start(cores)?,
            dummy: dummy.into(),
        })
    }

    /// The hash of a password: a PHC string of argon2id.
    pub async fn hash(&self, password: &str) -> Result<String> {
        let params = self.params.clone();
        let password = password.to_owned();
        let salt = salt(self.random.as_ref());
        self.run(move || hash(&params, password.as_bytes(), &salt))
            .await?
    }

    /// Compares a password to a hash; takes as long if there is no hash, and says it is wrong then.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<Verdict> {
        let exists = stored.is_some();
        let stored = stored.unwrap_or(&self.dummy).to_owned();
        let password = password.to_owned();
        let params = self.params.clone();
        self.run(move || {
            let hash = PasswordHash::new(&stored).map_err(|error| internal(&error))?;
            let right = Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok();
            if !(right && exists) {
                return Ok(Verdict::Wrong);
            }
            let current = Params::try_from(&hash).is_ok_and(|used| {
                (used.m_cost(), used.t_cost(), used.p_cost())
                    == (params.m_cost(), params.t_cost(), params.p_cost())
            });
            Ok(if current {
                Verdict::Right
            } else {
                Verdict::RightButOutdated
            })
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| internal(&error))?;
        let (answer, answered) = oneshot::channel();
        self.workers.run(Box::new(move || {
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(work());
            // Held until here: also then, the core was busy.
            drop(permit);
        }))?;
        answered.await.map_err(|error| internal(&error))
    }
}

/// What a worker does.
type Job = Box<dyn FnOnce() + Send>;

/// Threads that hash. Not those that tokio has for what blocks: each of those that ever hashed would keep the tens of
/// megabytes which that takes, and there are hundreds.
#[derive(Clone, Debug)]
struct Workers(mpsc::Sender<Job>);

impl Workers {
    /// Starts `count` threads, which end when nobody can give them work any more.
    fn start(count: usize) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("parley-password".to_owned())
                .spawn(move || work(&queue))
                .map_err(|error| internal(&error))?;
        }
        Ok(Self(jobs))
    }

    fn run(&self, job: Job) -> Result<()> {
        self.0.send(job).map_err(|error| internal(&error))
    }
}

/// Does what comes, until nothing can come any more.
fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    while let Some(job) = next(queue) {
        // A job that panics answers nothing, and its asker fails; the thread stays.
        let _ = panic::catch_unwind(AssertUnwindSafe(job));
    }
}

/// The next job; `None` when there will be none.
fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

fn salt(random: &dyn Random) -> [u8; SALT_LENGTH] {
    let mut salt = [0; SALT_LENGTH];
    random.fill(&mut salt);
    salt
}

fn hash(params: &Params, password: &[u8], salt: &[u8]) -> Result<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hash: PasswordHash = argon2
        .hash_password_with_salt(password, salt)
        .map_err(|error| internal(&error))?;
    Ok(hash.to_string())
}

/// A hash that was not made from any password. It is drawn rather than computed: that would take tens of megabytes when the
/// server starts, which stay with the process.
fn unfitting_hash(params: &Params, random: &dyn Random) -> String {
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    random.fill(&mut output);
    format!(
        "$argon2id$v={}$m={},t={},p={}${}${}",
        u32::from(Version::V0x13),
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
        STANDARD_NO_PAD.encode(salt(random)),
        STANDARD_NO_PAD.encode(output),
    )
}

fn internal(error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Internal(format!("hashing a password: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn passwords(iterations: u32) -> Passwords {
        let settings = PasswordSettings {
            memory_kib: 64,
            iterations,
            ..PasswordSettings::default()
        };
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        Passwords::new(&settings, &random).unwrap()
    }

    #[tokio::test]
    async fn only_the_password_itself_fits_its_hash() {
        let passwords = passwords(1);
        let hash = passwords.hash("übers3kr1t").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let verify = async |password| passwords.verify(password, Some(&hash)).await.unwrap();
        assert_eq!(verify("übers3kr1t").await, Verdict::Right);
        assert_eq!(verify("ubers3kr1t").await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn no_password_fits_where_there_is_none() {
        let passwords = passwords(1);
        assert_eq!(passwords.verify("", None).await.unwrap(), Verdict::Wrong);
    }

    #[test]
    fn comparing_with_no_account_takes_as_much_as_with_one() {
        let passwords = passwords(3);
        let dummy = PasswordHash::new(&passwords.dummy).unwrap();
        let params = Params::try_from(&dummy).unwrap();
        assert_eq!(
            (params.m_cost(), params.t_cost(), params.p_cost()),
            (64, 3, 1)
        );
        let password: &[u8] = b"";
        let verdict = Argon2::default().verify_password(password, &dummy);
        assert_eq!(verdict, Err(argon2::password_hash::Error::PasswordInvalid));
    }

    #[tokio::test]
    async fn a_hash_by_other_parameters_is_outdated() {
        let hash = passwords(1).hash("secret").await.unwrap();
        let verdict = passwords(2).verify("secret", Some(&hash)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOutdated);
    }
}
