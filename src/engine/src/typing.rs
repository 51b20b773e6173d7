//! Who is typing where. Nothing of it is durable.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#typing-notifications>

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use tokio::sync::Notify;

use crate::{
    background::Background,
    clock::Clock,
    outgoing::Announcer,
    rooms::{room::Room, timeline::TimelineEvent},
    stream::{
        Stream,
        feeds::Feeds,
        nodes::{Listener, News, Nodes},
        observer::Observer,
    },
};

/// The longest that a client may say once that its user types.
const LONGEST: Duration = Duration::from_secs(120);

/// Who is typing where.
#[derive(Debug)]
pub struct Typing {
    inner: Mutex<Inner>,
    stream: Arc<Stream>,
    feeds: Arc<Feeds>,
    clock: Arc<dyn Clock>,
    nodes: Nodes,
    announcer: Announcer,
    /// Tells the timer that somebody's time ends earlier than it knew.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Who types in a room, who began first before the others, and until when. A room where nobody does isn't here.
    rooms: HashMap<i64, Vec<(OwnedUserId, i64)>>,
    /// When whose typing ends where, the earliest first.
    ends: BTreeSet<(i64, i64, OwnedUserId)>,
}

impl Inner {
    /// Sets until when somebody types; whether that changes who does.
    fn set(&mut self, room_nid: i64, user_id: &UserId, until: i64) -> bool {
        let users = self.rooms.entry(room_nid).or_default();
        let known = users.iter_mut().find(|(known, _)| known == user_id);
        let began = known.is_none();
        match known {
            Some((_, end)) => {
                self.ends.remove(&(*end, room_nid, user_id.to_owned()));
                *end = until;
            }
            None => users.push((user_id.to_owned(), until)),
        }
        self.ends.insert((until, room_nid, user_id.to_owned()));
        began
    }

    /// Notes that somebody doesn't type any more; whether they did.
    fn remove(&mut self, room_nid: i64, user_id: &UserId) -> bool {
        let Some(users) = self.rooms.get_mut(&room_nid) else {
            return false;
        };
        let Some(index) = users.iter().position(|(known, _)| known == user_id) else {
            return false;
        };
        let (user_id, end) = users.remove(index);
        if users.is_empty() {
            self.rooms.remove(&room_nid);
        }
        self.ends.remove(&(end, room_nid, user_id));
        true
    }

    /// Ends what ends now: whose, in which rooms.
    fn expire(&mut self, now: i64) -> Vec<(i64, OwnedUserId)> {
        let mut ended = Vec::new();
        while let Some((end, room_nid, user_id)) = self.ends.first().cloned()
            && end <= now
        {
            self.remove(room_nid, &user_id);
            ended.push((room_nid, user_id));
        }
        ended
    }
}

impl Typing {
    pub(crate) fn start(
        stream: Arc<Stream>,
        feeds: Arc<Feeds>,
        clock: Arc<dyn Clock>,
        nodes: Nodes,
        announcer: Announcer,
        background: &Background,
    ) -> Arc<Self> {
        let typing = Arc::new(Self {
            inner: Mutex::default(),
            stream,
            feeds,
            clock,
            nodes,
            announcer,
            earlier: Notify::new(),
        });
        let timer = typing.clone();
        let stopping = background.stopping().clone();
        background.spawn(async move {
            stopping.run_until_cancelled(timer.run()).await;
        });
        typing
    }

    /// Sets whether somebody types in a room, and for how long unless they say so again; at most two minutes.
    pub fn set(&self, room_nid: i64, user_id: &UserId, timeout: Option<Duration>) {
        let timeout = timeout.unwrap_or_default().min(LONGEST);
        self.apply(room_nid, user_id, timeout);
        self.nodes.tell(News::Typing {
            room_nid,
            user_id: user_id.to_owned(),
            timeout: u64::try_from(timeout.as_millis()).unwrap_or_default(),
        });
    }

    fn apply(&self, room_nid: i64, user_id: &UserId, timeout: Duration) {
        let until = self.clock.now_ms() + i64::try_from(timeout.as_millis()).unwrap_or_default();
        let changed = match timeout.is_zero() {
            true => self.lock().remove(room_nid, user_id),
            false => self.lock().set(room_nid, user_id, until),
        };
        if !timeout.is_zero() {
            self.earlier.notify_one();
        }
        if changed {
            self.tell(room_nid);
        }
        // Also who goes on: other servers forget it else.
        if changed || !timeout.is_zero() {
            self.announcer.typing(room_nid, user_id, !timeout.is_zero());
        }
    }

    /// Who is typing in a room.
    pub fn users(&self, room_nid: i64) -> Vec<OwnedUserId> {
        let inner = self.lock();
        let users = inner.rooms.get(&room_nid).into_iter().flatten();
        users.map(|(user_id, _)| user_id.clone()).collect()
    }

    /// Ends what ends now.
    pub(crate) fn expire(&self) {
        self.end_at(self.clock.now_ms());
    }

    fn end_at(&self, now: i64) {
        let ended = self.lock().expire(now);
        let rooms: BTreeSet<i64> = ended.iter().map(|(room_nid, _)| *room_nid).collect();
        rooms.into_iter().for_each(|room_nid| self.tell(room_nid));
        for (room_nid, user_id) in &ended {
            self.announcer.typing(*room_nid, user_id, false);
        }
    }

    /// Ends all typing: before this node stops, so that nobody is left to believe that somebody types.
    pub fn end_all(&self) {
        self.end_at(i64::MAX);
    }

    /// Tells those in the room.
    fn tell(&self, room_nid: i64) {
        let feeds = self
            .stream
            .change_fleeting(|count| self.feeds.note_typing(room_nid, count));
        feeds.iter().for_each(|feed| feed.wake());
    }

    async fn run(&self) {
        loop {
            let next = self.lock().ends.first().map(|(end, ..)| *end);
            match next {
                None => self.earlier.notified().await,
                Some(end) => {
                    let wait = u64::try_from(end - self.clock.now_ms()).unwrap_or_default();
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(wait)) => self.expire(),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Typing {
    fn heard(&self, _: u32, news: &News) {
        if let News::Typing {
            room_nid,
            user_id,
            timeout,
        } = news
        {
            let timeout = Duration::from_millis(*timeout).min(LONGEST);
            self.apply(*room_nid, user_id, timeout);
        }
    }

    /// Typing there ends by itself.
    fn gone(&self, _: u32) {}
}

impl Observer for Typing {
    /// Who leaves types no more. Who sends something may go on: that it was all is for their client to say.
    fn event(&self, room: &Room, event: &TimelineEvent) {
        let Some(key) = &event.state_key else {
            return;
        };
        let is_out = event.event_type.as_ref() == "m.room.member"
            && event.membership() != Some(MembershipState::Join);
        let Ok(user_id) = <&UserId>::try_from(key.as_ref()) else {
            return;
        };
        if !is_out {
            return;
        }
        let changed = self.lock().remove(room.nid(), user_id);
        if changed {
            self.tell(room.nid());
            self.announcer.typing(room.nid(), user_id, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::clock::ManualClock;

    fn typing() -> (Arc<Typing>, Arc<ManualClock>, Arc<Stream>) {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let stream = Arc::new(Stream::new(0, 1));
        let typing = Arc::new(Typing {
            inner: Mutex::default(),
            stream: stream.clone(),
            feeds: Arc::default(),
            clock: clock.clone(),
            nodes: Nodes::none(),
            announcer: Announcer::new(Nodes::none()),
            earlier: Notify::new(),
        });
        (typing, clock, stream)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn typing_ends_when_its_time_is_over_and_leaves_nothing_behind() {
        let (typing, clock, stream) = typing();
        let (a, b) = (user_id!("@a:x"), user_id!("@b:x"));
        typing.set(1, a, Some(SECOND * 10));
        typing.set(1, b, Some(SECOND * 20));
        assert_eq!(typing.users(1), [a, b]);
        let count = stream.fleeting();
        clock.advance(SECOND * 10);
        typing.expire();
        assert_eq!(typing.users(1), [b]);
        assert_eq!(stream.fleeting(), count + 1);
        typing.set(1, b, None);
        assert_eq!(typing.users(1), [""; 0]);
        let inner = typing.lock();
        assert!(inner.rooms.is_empty() && inner.ends.is_empty());
    }

    #[test]
    fn who_goes_on_typing_is_not_told_anew() {
        let (typing, clock, stream) = typing();
        let user = user_id!("@a:x");
        typing.set(1, user, Some(SECOND * 10));
        let count = stream.fleeting();
        clock.advance(SECOND * 5);
        typing.set(1, user, Some(SECOND * 10));
        clock.advance(SECOND * 5);
        typing.expire();
        assert_eq!(stream.fleeting(), count);
        assert_eq!(typing.users(1), [user]);
    }

    #[test]
    fn nobody_types_longer_than_two_minutes_at_once() {
        let (typing, clock, _) = typing();
        typing.set(1, user_id!("@a:x"), Some(SECOND * 100_000));
        clock.advance(LONGEST);
        typing.expire();
        assert_eq!(typing.users(1), [""; 0]);
    }

    #[tokio::test]
    async fn the_timer_ends_typing_by_itself() {
        let (typing, clock, _) = typing();
        let timer = typing.clone();
        let timer = tokio::spawn(async move { timer.run().await });
        typing.set(1, user_id!("@a:x"), Some(Duration::from_millis(20)));
        clock.advance(Duration::from_millis(20));
        let ended = async {
            while !typing.users(1).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SECOND * 5, ended).await.unwrap();
        timer.abort();
    }
}
