//! Rate limits: who may do what how often.

mod overrides;

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock as GovernorClock, middleware::NoOpMiddleware, nanos::Nanos,
    state::StateStore,
};
use parley_storage::Database;
use quick_cache::sync::Cache;

use self::overrides::Overrides;
pub use self::overrides::UserLimit;
use crate::{
    EngineError, Result,
    clock::Clock,
    settings::{RateLimit, RateLimitSettings},
    stream::nodes::{Listener, News, Nodes},
};

/// Keys that are remembered of each action; who was not seen for longest is forgotten. An entry takes about 100 bytes.
const REMEMBERED: usize = 20_000;

/// What is limited, each by its own setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An attempt to log in, by address.
    Login,
    /// An attempt to prove that one has an account, by the account that is tried.
    LoginFailure,
    /// A registration, or a question whether a name or token is valid, by address.
    Registration,
    /// Sending an event, by user.
    Message,
    /// Sending an event or changing a membership, but for leaving, by room.
    RoomMessage,
    /// An invitation, by inviting user.
    Invite,
    /// An invitation, by invited user.
    ReceivedInvite,
    /// A join or knock, by user.
    Join,
    /// Making or upgrading a room, by user.
    RoomCreation,
    /// Reporting something, by user.
    Report,
    /// Any other write, by user.
    Write,
    /// A receipt, typing, presence, by user.
    Ephemeral,
    /// Managing or looking at delayed events, by user, or by address where nobody says who they are.
    DelayedEvents,
    /// A read that costs much, by user, or by address where nobody says who they are and another server is asked.
    Search,
    /// Reading what was said in a room, or who is there, by user.
    History,
    /// A request of another server, by its name.
    Federation,
    /// A request that says to be of another server, whichever, or is any server's to make, by address.
    FederationAddress,
}

/// The address of the client, put into a request's extensions by whoever accepts connections: that of the connection,
/// or where a trusted proxy forwards, what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Who is limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// A user of this server, by number.
    User(i64),
    /// A room, by number.
    Room(i64),
    /// Whoever is at an address.
    Address(IpAddr),
    /// Whoever goes by a name: an account that is tried, another server.
    Name(Box<str>),
}

impl From<i64> for LimitKey {
    fn from(user_nid: i64) -> Self {
        Self::User(user_nid)
    }
}

impl From<&str> for LimitKey {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<IpAddr> for LimitKey {
    /// An IPv6 address counts as its network of 64 bits: that is what one customer has at the least.
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        })
    }
}

/// Counts what is limited. Counts are kept in memory, on each node of a cluster its own.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `None` where limits are off.
    limiters: Option<Arc<Limiters>>,
    /// Users for whom an application service speaks that isn't limited.
    exempt: Arc<Cache<i64, ()>>,
    /// Users for whom others hold.
    overrides: Arc<Overrides>,
    clock: Arc<dyn Clock>,
    nodes: Nodes,
}

#[derive(Debug)]
struct Limiters {
    login: Limiter,
    login_failures: Limiter,
    registration: Limiter,
    messages: Limiter,
    room_messages: Limiter,
    invites: Limiter,
    received_invites: Limiter,
    joins: Limiter,
    room_creation: Limiter,
    reports: Limiter,
    writes: Limiter,
    ephemeral: Limiter,
    delayed_events: Limiter,
    searches: Limiter,
    history: Limiter,
    federation: Limiter,
    federation_addresses: Limiter,
}

impl Limits {
    pub(crate) fn new(settings: &RateLimitSettings, clock: &Arc<dyn Clock>, nodes: &Nodes) -> Self {
        let limiter = |limit| Limiter::new(limit, clock, REMEMBERED);
        let limiters = settings.enabled.then(|| {
            Arc::new(Limiters {
                login: limiter(settings.login),
                login_failures: limiter(settings.login_failures),
                registration: limiter(settings.registration),
                messages: limiter(settings.messages),
                room_messages: limiter(settings.room_messages),
                invites: limiter(settings.invites),
                received_invites: limiter(settings.received_invites),
                joins: limiter(settings.joins),
                room_creation: limiter(settings.room_creation),
                reports: limiter(settings.reports),
                writes: limiter(settings.writes),
                ephemeral: limiter(settings.ephemeral),
                delayed_events: limiter(settings.delayed_events),
                searches: limiter(settings.searches),
                history: limiter(settings.history),
                federation: limiter(settings.federation),
                federation_addresses: limiter(settings.federation_addresses),
            })
        });
        Self {
            limiters,
            exempt: Arc::new(Cache::new(REMEMBERED)),
            overrides: Arc::default(),
            clock: Arc::clone(clock),
            nodes: nodes.clone(),
        }
    }

    /// Reads which users have limits of their own.
    pub(crate) async fn load(&self, database: &Database) -> Result<()> {
        self.overrides.load(database, &self.clock).await
    }

    /// The limit of a user who has one of their own.
    pub fn of_user(&self, user_nid: i64) -> Option<UserLimit> {
        self.overrides.get(user_nid)
    }

    /// Notes that a user's limit was set, or that they have the usual ones again. To be called after it was stored.
    pub(crate) fn user_changed(&self, user_nid: i64, limit: Option<UserLimit>) {
        self.overrides.set(user_nid, limit, &self.clock);
        self.nodes.tell(News::UserLimit {
            user_nid,
            limit: limit.map(|limit| (limit.per_second, limit.burst)),
        });
    }

    /// Counts one `action` of `key`.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`, with the time after which it may be tried again.
    pub fn check(&self, action: Action, key: impl Into<LimitKey>) -> Result<()> {
        self.check_many(action, key, 1)
    }

    /// Counts `count` of an action of `key` at once. There may be more than a burst of them if none were counted lately: it
    /// takes the longer then until the next is let pass.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED`, with the time after which it may be tried again. None of them counts then.
    pub fn check_many(&self, action: Action, key: impl Into<LimitKey>, count: usize) -> Result<()> {
        let Some(limiter) = self.limiter(action) else {
            return Ok(());
        };
        let Some(count) = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)) else {
            return Ok(());
        };
        let key = key.into();
        let own = match key {
            LimitKey::User(user_nid) if self.exempt.get(&user_nid).is_some() => return Ok(()),
            LimitKey::User(user_nid) => self.overrides.check(action, user_nid, count),
            _ => None,
        };
        own.unwrap_or_else(|| limiter.check(&key, count))
            .map_err(EngineError::limit_exceeded)
    }

    /// Whether nothing that a user does is limited.
    pub(crate) fn is_unlimited(&self, user_nid: i64) -> bool {
        let own = self.of_user(user_nid);
        self.exempt.get(&user_nid).is_some() || own.is_some_and(|limit| limit.per_second == 0)
    }

    /// Limits a user no more: to be called with each request of an application service that isn't limited.
    pub(crate) fn exempt(&self, user_nid: i64) {
        self.exempt.insert(user_nid, ());
    }

    /// Forgets what was counted, as after a success where failures are what is limited.
    pub fn forget(&self, action: Action, key: impl Into<LimitKey>) {
        if let Some(limiter) = self.limiter(action) {
            limiter.cells.remove(&key.into());
        }
    }

    fn limiter(&self, action: Action) -> Option<&Limiter> {
        let limiters = self.limiters.as_deref()?;
        Some(match action {
            Action::Login => &limiters.login,
            Action::LoginFailure => &limiters.login_failures,
            Action::Registration => &limiters.registration,
            Action::Message => &limiters.messages,
            Action::RoomMessage => &limiters.room_messages,
            Action::Invite => &limiters.invites,
            Action::ReceivedInvite => &limiters.received_invites,
            Action::Join => &limiters.joins,
            Action::RoomCreation => &limiters.room_creation,
            Action::Report => &limiters.reports,
            Action::Write => &limiters.writes,
            Action::Ephemeral => &limiters.ephemeral,
            Action::DelayedEvents => &limiters.delayed_events,
            Action::Search => &limiters.searches,
            Action::History => &limiters.history,
            Action::Federation => &limiters.federation,
            Action::FederationAddress => &limiters.federation_addresses,
        })
    }
}

impl Listener for Limits {
    fn heard(&self, _: u32, news: &News) {
        if let News::UserLimit { user_nid, limit } = news {
            let limit = limit.map(|(per_second, burst)| UserLimit { per_second, burst });
            self.overrides.set(*user_nid, limit, &self.clock);
        }
    }

    /// What it may not have told is read from the database now and then.
    fn gone(&self, _: u32) {}
}

#[derive(Debug)]
struct Limiter {
    limiter: RateLimiter<LimitKey, Cells, LimiterClock, NoOpMiddleware<Duration>>,
    cells: Cells,
    clock: LimiterClock,
    quota: Quota,
}

impl Limiter {
    /// Remembers as many keys as `remembered`.
    fn new(limit: RateLimit, clock: &Arc<dyn Clock>, remembered: usize) -> Self {
        let clock = LimiterClock(Arc::clone(clock));
        let cells = Cells(Arc::new(Cache::new(remembered)));
        let quota = quota(limit);
        Self {
            limiter: RateLimiter::new(quota, cells.clone(), clock.clone()),
            cells,
            clock,
            quota,
        }
    }

    fn check(&self, key: &LimitKey, count: NonZeroU32) -> Result<(), Duration> {
        let burst = self.quota.burst_size();
        let at_once = count.min(burst);
        match self.limiter.check_key_n(key, at_once) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => return Err(refused.wait_time_from(self.clock.now())),
            // Not with so few.
            Err(_) => return Err(self.quota.burst_size_replenished_in()),
        }
        let rest = count.get() - at_once.get();
        if rest > 0 {
            let period = self.quota.replenish_interval();
            self.cells.put_off(key, period.saturating_mul(rest));
        }
        Ok(())
    }
}

/// A limit in governor's terms. A rate that is not positive lets the burst through and then one in an hour.
fn quota(limit: RateLimit) -> Quota {
    const SLOWEST: Duration = Duration::from_secs(60 * 60);
    let period = Duration::try_from_secs_f64(limit.per_second.recip())
        .ok()
        .filter(|period| !period.is_zero())
        .unwrap_or(SLOWEST);
    let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(period)
        .unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN))
        .allow_burst(burst)
}

/// Governor's state of each key, within bounds: its own stores grow with every new key.
#[derive(Clone, Debug)]
struct Cells(Arc<Cache<LimitKey, Arc<AtomicU64>>>);

/// Stands for a key that has no state yet.
const FRESH: u64 = 0;

impl Cells {
    fn remove(&self, key: &LimitKey) {
        self.0.remove(key);
    }

    /// Has a key wait so much longer until all that was counted is forgotten.
    fn put_off(&self, key: &LimitKey, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(cell) = self.0.get(key) {
            // Never more than there is, so that governor can still add to it.
            let longer = |before: u64| Some(before.saturating_add(time).min(u64::MAX / 2));
            let _ = cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
        }
    }
}

impl StateStore for Cells {
    type Key = LimitKey;

    fn measure_and_replace<T, F, E>(&self, key: &LimitKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let made: Result<_, std::convert::Infallible> = self
            .0
            .get_or_insert_with(key, || Ok(Arc::new(AtomicU64::new(FRESH))));
        let Ok(cell) = made;
        let mut before = cell.load(Ordering::Acquire);
        loop {
            let state = (before != FRESH).then(|| Nanos::from(before));
            let (answer, after) = decide(state)?;
            match cell.compare_exchange_weak(
                before,
                after.into(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(answer),
                Err(now) => before = now,
            }
        }
    }
}

/// The engine's clock in governor's terms.
#[derive(Clone, Debug)]
struct LimiterClock(Arc<dyn Clock>);

impl GovernorClock for LimiterClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now_ms()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn limits() -> (Limits, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let settings = RateLimitSettings {
            login: RateLimit::new(0.5, 2),
            ..RateLimitSettings::default()
        };
        let as_clock: Arc<dyn Clock> = clock.clone();
        (Limits::new(&settings, &as_clock, &Nodes::none()), clock)
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (limits, clock) = limits();
        assert!(limits.check(Action::Login, 1).is_ok());
        assert!(limits.check(Action::Login, 1).is_ok());
        let refused = limits.check(Action::Login, 1).unwrap_err();
        assert!(matches!(
            refused.kind(),
            Some(ruma::api::error::ErrorKind::LimitExceeded(_))
        ));
        clock.advance(Duration::from_secs(2));
        assert!(limits.check(Action::Login, 1).is_ok());
        assert!(limits.check(Action::Login, 1).is_err());
    }

    #[test]
    fn more_than_a_burst_at_once_has_one_wait_the_longer() {
        let (limits, clock) = limits();
        assert!(limits.check_many(Action::Login, 1, 0).is_ok());
        assert!(limits.check_many(Action::Login, 1, 10).is_ok());
        // One of two seconds for each of the ten, but for the two that a burst has.
        clock.advance(Duration::from_secs(17));
        assert!(limits.check(Action::Login, 1).is_err());
        clock.advance(Duration::from_secs(1));
        assert!(limits.check(Action::Login, 1).is_ok());
        // With one counted there is no place for more than a burst.
        assert!(limits.check_many(Action::Login, 1, 10).is_err());
        clock.advance(Duration::from_secs(4));
        assert!(limits.check_many(Action::Login, 1, 2).is_ok());
    }

    #[test]
    fn one_who_is_limited_does_not_limit_another() {
        let (limits, _clock) = limits();
        for _ in 0..3 {
            let _ = limits.check(Action::Login, 1);
        }
        assert!(limits.check(Action::Login, 2).is_ok());
    }

    #[test]
    fn a_user_may_have_a_limit_of_their_own_or_none() {
        let (limits, clock) = limits();
        let set = |limit| limits.user_changed(1, limit);
        let unlimited = UserLimit {
            per_second: 0,
            burst: 0,
        };
        set(Some(unlimited));
        assert!((0..1_000).all(|_| limits.check(Action::Write, 1).is_ok()));
        let little = UserLimit {
            per_second: 1,
            burst: 2,
        };
        set(Some(little));
        let count = |action| (0..10).filter(|_| limits.check(action, 1).is_ok()).count();
        // Each kind of action counts for itself.
        assert_eq!((count(Action::Write), count(Action::Message)), (2, 2));
        clock.advance(Duration::from_secs(1));
        // Told once more, as by another node, it isn't begun anew.
        set(Some(little));
        assert_eq!(count(Action::Write), 1);
        assert!(limits.check(Action::Write, 2).is_ok());
        set(None);
        assert_eq!(limits.of_user(1), None);
        assert_eq!(count(Action::Write), 10);
    }

    #[test]
    fn what_is_forgotten_starts_anew() {
        let (limits, _clock) = limits();
        for _ in 0..3 {
            let _ = limits.check(Action::Login, "alice");
        }
        limits.forget(Action::Login, "alice");
        assert!(limits.check(Action::Login, "alice").is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let one: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let two: IpAddr = "2001:db8:1:2:ffff::2".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        assert_eq!(LimitKey::from(one), LimitKey::from(two));
        assert_ne!(LimitKey::from(one), LimitKey::from(other));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(
            LimitKey::from(mapped),
            LimitKey::Address("192.0.2.1".parse().unwrap())
        );
    }
}
