//! The users who are not offline, and what follows from what their clients say.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ruma::{OwnedUserId, UserId, presence::PresenceState as State};

use super::PresenceState;
use crate::{settings::PresenceSettings, stream::nodes::News};

/// Users who are not offline.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: HashMap<OwnedUserId, User>,
    /// When whose presence may change by itself, the earliest first.
    due: BTreeSet<(i64, OwnedUserId)>,
}

/// A user.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) user_nid: i64,
    pub(super) status_message: Option<String>,
    pub(super) last_active_at: i64,
    devices: Vec<Device>,
    /// What others were told.
    told: State,
    /// Whether they are to be told anew although that is still so.
    untold: bool,
    /// What other nodes were told of the devices here.
    announced: State,
    /// Whether a device was here.
    was_here: bool,
    /// When other servers were last told.
    told_elsewhere_at: i64,
    due_at: i64,
}

/// One of a user's devices, or all those that are connected to another node.
#[derive(Clone, Debug)]
struct Device {
    source: Source,
    /// What it says of the user: online or unavailable.
    says: State,
    /// How many of its requests are under way.
    requests: u32,
    /// When it was last heard of.
    heard_at: i64,
}

/// Who says something of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A device that is connected here, by its number.
    Device(i64),
    /// Another node.
    Node(u32),
    /// Another server, of which the user is.
    Elsewhere,
}

/// Whom it concerns that a user's presence changed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) user_id: OwnedUserId,
    pub(super) user_nid: i64,
    /// Whether users here and other servers are to be told.
    pub(super) tell: bool,
    /// Whether other servers are to be told once more that it is still so.
    pub(super) remind: bool,
    /// What the other nodes are to be told of the devices here.
    pub(super) announce: Option<News>,
}

/// What another node says of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    /// `None`: another server, of which the user is.
    pub(super) node: Option<u32>,
    pub(super) user_nid: i64,
    pub(super) says: &'a State,
    pub(super) status_message: &'a Option<String>,
    pub(super) last_active_at: i64,
}

/// How long it takes, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delays {
    unavailable: i64,
    offline: i64,
    /// After which a user of another server is offline whose server says nothing more of them.
    silent: i64,
    /// After which other servers are told once more who is here, so that they don't take it that this one has gone.
    remind: i64,
}

/// Servers remind each other of who is there every 25 minutes. One that hasn't is taken to be gone.
const SILENT_MS: i64 = 30 * 60 * 1_000;
const REMIND_MS: i64 = 25 * 60 * 1_000;

impl From<&PresenceSettings> for Delays {
    fn from(settings: &PresenceSettings) -> Self {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
        Self {
            unavailable: ms(settings.unavailable_after),
            offline: ms(settings.offline_after),
            silent: SILENT_MS,
            remind: REMIND_MS,
        }
    }
}

impl User {
    /// Somebody who was offline until now.
    pub(super) fn new(
        user_nid: i64,
        status_message: Option<String>,
        last_active_at: Option<i64>,
    ) -> Self {
        Self {
            user_nid,
            status_message,
            last_active_at: last_active_at.unwrap_or_default(),
            devices: Vec::new(),
            told: State::Offline,
            untold: false,
            announced: State::Offline,
            was_here: false,
            told_elsewhere_at: 0,
            due_at: i64::MAX,
        }
    }

    /// What the devices here say.
    fn state_here(&self, now: i64, delays: Delays) -> State {
        let mut here = self.devices.iter().filter(|device| device.is_here());
        let idle = now - self.last_active_at >= delays.unavailable;
        if self.is_said_here(&State::Online) && !idle {
            return State::Online;
        }
        match here.next() {
            Some(_) => State::Unavailable,
            None => State::Offline,
        }
    }

    fn state(&self, now: i64, delays: Delays) -> State {
        let mut others = self.devices.iter().filter(|device| !device.is_here());
        let here = self.state_here(now, delays);
        // Whether somebody does nothing is known where their device is.
        if others.any(|device| device.says == State::Online) {
            return State::Online;
        }
        match here {
            State::Offline if !self.devices.is_empty() => State::Unavailable,
            here => here,
        }
    }

    fn is_said_here(&self, says: &State) -> bool {
        self.devices
            .iter()
            .any(|device| device.is_here() && device.says == *says)
    }

    /// When the state may change next if nothing happens.
    fn next_change(&self, now: i64, delays: Delays) -> i64 {
        let silent = self
            .devices
            .iter()
            .filter(|device| device.is_here() && device.requests == 0)
            .map(|device| device.heard_at + delays.offline);
        let idle = Some(self.last_active_at + delays.unavailable)
            .filter(|at| *at > now && self.is_said_here(&State::Online));
        let elsewhere = self
            .devices
            .iter()
            .filter(|device| device.source == Source::Elsewhere)
            .map(|device| device.heard_at + delays.silent);
        let reminder = Some(self.told_elsewhere_at + delays.remind)
            .filter(|_| self.told != State::Offline && self.is_of_this_server());
        silent
            .chain(idle)
            .chain(elsewhere)
            .chain(reminder)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// Whether a device of theirs is connected to this server.
    fn is_of_this_server(&self) -> bool {
        self.devices
            .iter()
            .any(|device| device.source != Source::Elsewhere)
    }

    fn device(&mut self, source: Source) -> Option<&mut Device> {
        self.devices
            .iter_mut()
            .find(|device| device.source == source)
    }

    /// Whether they have just gone offline here, so that it is for this node to keep what is known of them.
    pub(super) fn is_to_be_kept(&self) -> bool {
        self.told == State::Offline && self.was_here
    }

    /// What other nodes are told of the devices here.
    fn news(&self, user_id: &UserId) -> News {
        News::Presence {
            user_id: user_id.to_owned(),
            user_nid: self.user_nid,
            presence: self.announced.clone(),
            status_message: self.status_message.clone(),
            last_active_at: self.last_active_at,
        }
    }

    /// What others may know.
    pub(super) fn known(&self) -> PresenceState {
        PresenceState {
            presence: self.told.clone(),
            last_active_at: Some(self.last_active_at),
            status_message: self.status_message.clone(),
        }
    }

    /// Notes what a device here says of the user.
    fn says(&mut self, device_nid: i64, says: &State, now: i64) {
        let source = Source::Device(device_nid);
        let before = self.device(source).map(|device| device.says.clone());
        if *says == State::Online && before != Some(State::Online) {
            self.last_active_at = now;
        }
        self.was_here = true;
        self.is_said(source, says, now);
    }

    fn is_said(&mut self, source: Source, says: &State, now: i64) {
        match self.device(source) {
            Some(device) => {
                device.says = says.clone();
                device.heard_at = now;
            }
            None => self.devices.push(Device {
                source,
                says: says.clone(),
                requests: 0,
                heard_at: now,
            }),
        }
    }
}

impl Device {
    fn is_here(&self) -> bool {
        matches!(self.source, Source::Device(_))
    }
}

impl Users {
    pub(super) fn get(&self, user_id: &UserId) -> Option<&User> {
        self.users.get(user_id)
    }

    /// Those who are not offline.
    pub(super) fn present(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.users
            .iter()
            .filter(|(_, user)| user.told != State::Offline)
            .map(|(user_id, _)| user_id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// Puts in somebody who was offline, unless they are there.
    pub(super) fn add(&mut self, user_id: &UserId, user: User) {
        self.users.entry(user_id.to_owned()).or_insert(user);
    }

    /// Notes that a request of a device begins. `says` is what it says of the user; nothing is noted of a device that says
    /// nothing and hasn't before.
    pub(super) fn request(
        &mut self,
        user_id: &UserId,
        device_nid: i64,
        says: Option<&State>,
        now: i64,
    ) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        if let Some(says) = says {
            user.says(device_nid, says, now);
        }
        if let Some(device) = user.device(Source::Device(device_nid)) {
            device.requests += 1;
            device.heard_at = now;
        }
    }

    /// Sees to it that it is looked at again when something may have changed.
    pub(super) fn postpone(&mut self, user_id: &UserId, now: i64, delays: Delays) {
        if let Some(user) = self.users.get(user_id) {
            let next = user.next_change(now, delays);
            self.schedule(user_id, next);
        }
    }

    /// Notes that a request of a device is over.
    pub(super) fn request_ended(&mut self, user_id: &UserId, device_nid: i64, now: i64) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        if let Some(device) = user.device(Source::Device(device_nid)) {
            device.requests = device.requests.saturating_sub(1);
            device.heard_at = now;
        }
    }

    /// Sets what a user says by hand.
    pub(super) fn set(
        &mut self,
        user_id: &UserId,
        device_nid: i64,
        says: &State,
        status_message: &Option<String>,
        now: i64,
    ) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        user.was_here = true;
        match says {
            State::Offline => user.devices.retain(|device| !device.is_here()),
            says => user.says(device_nid, says, now),
        }
        if *says == State::Online {
            user.last_active_at = now;
        }
        if user.status_message != *status_message {
            user.status_message.clone_from(status_message);
            user.untold = true;
        }
    }

    /// Takes in what another node says of a user.
    pub(super) fn heard(&mut self, user_id: &UserId, heard: Heard<'_>, now: i64) {
        let source = heard.node.map_or(Source::Elsewhere, Source::Node);
        if *heard.says == State::Offline && !self.users.contains_key(user_id) {
            return;
        }
        let user = self
            .users
            .entry(user_id.to_owned())
            .or_insert_with(|| User::new(heard.user_nid, heard.status_message.clone(), None));
        user.last_active_at = user.last_active_at.max(heard.last_active_at);
        if user.status_message != *heard.status_message {
            user.status_message.clone_from(heard.status_message);
            user.untold = true;
        }
        match heard.says {
            State::Offline => user.devices.retain(|device| device.source != source),
            says => user.is_said(source, says, now),
        }
        self.schedule(user_id, now);
    }

    /// Takes out what a node said that is gone.
    pub(super) fn node_gone(&mut self, node: u32, now: i64) {
        let mut touched = Vec::new();
        for (user_id, user) in &mut self.users {
            let before = user.devices.len();
            user.devices
                .retain(|device| device.source != Source::Node(node));
            if user.devices.len() < before {
                touched.push(user_id.clone());
            }
        }
        touched
            .iter()
            .for_each(|user_id| self.schedule(user_id, now));
    }

    /// What a node is told that knows nothing yet.
    pub(super) fn announcements(&self) -> Vec<News> {
        self.users
            .iter()
            .filter(|(_, user)| user.announced != State::Offline)
            .map(|(user_id, user)| user.news(user_id))
            .collect()
    }

    /// Notes that a user did something.
    pub(super) fn active(&mut self, user_id: &UserId, now: i64) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        user.last_active_at = now;
        let wakes = user.told == State::Unavailable && user.is_said_here(&State::Online);
        if wakes {
            self.schedule(user_id, now);
        }
    }

    /// Finds out what a user's presence is now; says if anybody is to be told.
    pub(super) fn settle(&mut self, user_id: &UserId, now: i64, delays: Delays) -> Option<Change> {
        let user = self.users.get_mut(user_id)?;
        let before = user.devices.len();
        user.devices.retain(|device| {
            device.source != Source::Elsewhere || now - device.heard_at < delays.silent
        });
        // The other nodes know of them from this one.
        let gone_elsewhere = user.devices.len() < before;
        user.devices.retain(|device| {
            !device.is_here() || device.requests > 0 || now - device.heard_at < delays.offline
        });
        let state = user.state(now, delays);
        let here = user.state_here(now, delays);
        let untold = std::mem::take(&mut user.untold);
        let tell = untold || user.told != state;
        let announce = (untold && user.was_here) || user.announced != here || gone_elsewhere;
        user.told = state;
        user.announced = here;
        let remind = !tell
            && user.told != State::Offline
            && user.is_of_this_server()
            && now - user.told_elsewhere_at >= delays.remind;
        if tell || remind {
            user.told_elsewhere_at = now;
        }
        let change = Change {
            user_id: user_id.to_owned(),
            user_nid: user.user_nid,
            tell,
            remind,
            announce: announce.then(|| user.news(user_id)),
        };
        let next = user.next_change(now, delays);
        self.schedule(user_id, next);
        (tell || announce || remind).then_some(change)
    }

    fn schedule(&mut self, user_id: &UserId, at: i64) {
        let Some(user) = self.users.get_mut(user_id) else {
            return;
        };
        if user.due_at != i64::MAX {
            self.due.remove(&(user.due_at, user_id.to_owned()));
        }
        user.due_at = at;
        if at != i64::MAX {
            self.due.insert((at, user_id.to_owned()));
        }
    }

    /// Whose presence may have changed by now.
    pub(super) fn due(&self, now: i64) -> Vec<OwnedUserId> {
        self.due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, user_id)| user_id.clone())
            .collect()
    }

    /// When the next presence may change.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out those of these who are offline still; they are to be in the database by now.
    pub(super) fn remove_offline<'a>(&mut self, user_ids: impl Iterator<Item = &'a OwnedUserId>) {
        for user_id in user_ids {
            let offline = self
                .users
                .get(user_id)
                .is_some_and(|user| user.told == State::Offline && user.devices.is_empty());
            if offline {
                self.schedule(user_id, i64::MAX);
                self.users.remove(user_id);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    const DELAYS: Delays = Delays {
        unavailable: 300,
        offline: 30,
        silent: 100_000,
        remind: 80_000,
    };

    /// One user, the time, and what others were told.
    struct Scene {
        users: Users,
        now: i64,
    }

    impl Scene {
        fn new() -> Self {
            let mut users = Users::default();
            users.add(Self::user(), User::new(1, None, None));
            Self { users, now: 1_000 }
        }

        fn user() -> &'static UserId {
            user_id!("@a:x")
        }

        /// What others are told now, if anything.
        fn settle(&mut self) -> Option<State> {
            let change = self.users.settle(Self::user(), self.now, DELAYS)?;
            let user = self.users.get(Self::user()).filter(|_| change.tell);
            user.map(|user| user.told.clone())
        }

        fn sync(&mut self, device: i64, says: &State) -> Option<State> {
            self.users
                .request(Self::user(), device, Some(says), self.now);
            let told = self.settle();
            self.users.request_ended(Self::user(), device, self.now);
            self.users.postpone(Self::user(), self.now, DELAYS);
            told
        }

        /// Lets time pass as the timer would.
        fn pass(&mut self, time: i64) -> Vec<State> {
            let end = self.now + time;
            let mut told = Vec::new();
            while let Some(at) = self.users.next_due().filter(|at| *at <= end) {
                self.now = at.max(self.now);
                for user_id in self.users.due(self.now) {
                    assert_eq!(user_id, Self::user());
                    told.extend(self.settle());
                }
            }
            self.now = end;
            told
        }
    }

    #[test]
    fn who_syncs_is_online_and_goes_offline_when_they_stay_away() {
        let mut scene = Scene::new();
        assert_eq!(scene.sync(1, &State::Online), Some(State::Online));
        scene.pass(20);
        assert_eq!(scene.sync(1, &State::Online), None);
        assert_eq!(scene.pass(29), []);
        assert_eq!(scene.pass(1), [State::Offline]);
        scene
            .users
            .remove_offline([Scene::user().to_owned()].iter());
        assert!(scene.users.is_empty());
    }

    #[test]
    fn a_client_that_waits_for_an_answer_is_there() {
        let mut scene = Scene::new();
        scene
            .users
            .request(Scene::user(), 1, Some(&State::Online), scene.now);
        assert_eq!(scene.settle(), Some(State::Online));
        assert_eq!(scene.pass(200), []);
        scene.users.request_ended(Scene::user(), 1, scene.now);
        scene.users.postpone(Scene::user(), scene.now, DELAYS);
        assert_eq!(scene.pass(30), [State::Offline]);
    }

    #[test]
    fn who_does_nothing_becomes_unavailable_and_is_online_again_by_sending() {
        let mut scene = Scene::new();
        scene
            .users
            .request(Scene::user(), 1, Some(&State::Online), scene.now);
        scene.settle();
        assert_eq!(scene.pass(300), [State::Unavailable]);
        scene.users.active(Scene::user(), scene.now);
        assert_eq!(scene.pass(0), [State::Online]);
        assert_eq!(scene.pass(299), []);
    }

    #[test]
    fn the_most_present_of_the_devices_counts() {
        let mut scene = Scene::new();
        scene.sync(1, &State::Unavailable);
        assert_eq!(scene.sync(2, &State::Online), Some(State::Online));
        assert_eq!(scene.sync(1, &State::Unavailable), None);
        scene.pass(20);
        scene.sync(1, &State::Unavailable);
        assert_eq!(scene.pass(10), [State::Unavailable]);
    }

    #[test]
    fn who_says_that_they_are_offline_is() {
        let mut scene = Scene::new();
        scene.sync(1, &State::Online);
        scene.sync(2, &State::Online);
        let user_id = Scene::user();
        let message = Some("away".to_owned());
        scene
            .users
            .set(user_id, 1, &State::Offline, &message, scene.now);
        assert_eq!(scene.settle(), Some(State::Offline));
        let known = scene.users.get(user_id).unwrap().known();
        assert_eq!(known.status_message.as_deref(), Some("away"));
    }

    fn heard(scene: &mut Scene, says: &State) -> Option<State> {
        let heard = Heard {
            node: Some(7),
            user_nid: 1,
            says,
            status_message: &None,
            last_active_at: scene.now,
        };
        scene.users.heard(Scene::user(), heard, scene.now);
        scene.settle()
    }

    fn heard_from_their_server(scene: &mut Scene, says: &State) -> Option<State> {
        let heard = Heard {
            node: None,
            user_nid: 1,
            says,
            status_message: &None,
            last_active_at: scene.now,
        };
        scene.users.heard(Scene::user(), heard, scene.now);
        scene.settle()
    }

    #[test]
    fn who_is_of_another_server_is_offline_once_it_says_nothing_more_of_them() {
        let mut scene = Scene::new();
        let online = Some(State::Online);
        assert_eq!(heard_from_their_server(&mut scene, &State::Online), online);
        assert_eq!(scene.pass(90_000), []);
        assert_eq!(heard_from_their_server(&mut scene, &State::Online), None);
        assert_eq!(scene.pass(99_999), []);
        assert_eq!(scene.pass(1), [State::Offline]);
        assert_eq!(heard_from_their_server(&mut scene, &State::Online), online);
        let offline = Some(State::Offline);
        assert_eq!(
            heard_from_their_server(&mut scene, &State::Offline),
            offline
        );
    }

    #[test]
    fn the_other_nodes_are_told_that_a_server_says_nothing_more_of_somebody() {
        let mut scene = Scene::new();
        heard_from_their_server(&mut scene, &State::Online);
        scene.now += 100_000;
        let change = scene
            .users
            .settle(Scene::user(), scene.now, DELAYS)
            .unwrap();
        let Some(News::Presence { presence, .. }) = change.announce else {
            panic!("the other nodes are told");
        };
        assert_eq!(presence, State::Offline);
        assert!(!change.remind);
    }

    #[test]
    fn other_servers_are_reminded_of_who_is_here_and_of_nobody_else() {
        let mut scene = Scene::new();
        scene
            .users
            .request(Scene::user(), 1, Some(&State::Unavailable), scene.now);
        assert!(scene.settle().is_some());
        for _ in 0..2 {
            let due = scene.users.next_due().unwrap();
            assert_eq!(due, scene.now + 80_000);
            scene.now = due;
            let change = scene.users.settle(Scene::user(), due, DELAYS).unwrap();
            assert!(change.remind && !change.tell && change.announce.is_none());
        }
        let mut scene = Scene::new();
        heard_from_their_server(&mut scene, &State::Unavailable);
        let due = scene.users.next_due().unwrap();
        assert_eq!(due, scene.now + 100_000);
    }

    #[test]
    fn who_is_online_at_another_node_is_until_it_says_otherwise() {
        let mut scene = Scene::new();
        assert_eq!(heard(&mut scene, &State::Online), Some(State::Online));
        assert_eq!(scene.pass(1_000), []);
        assert!(scene.users.announcements().is_empty());
        assert_eq!(scene.sync(1, &State::Unavailable), None);
        assert_eq!(scene.users.announcements().len(), 1);
        assert_eq!(heard(&mut scene, &State::Offline), Some(State::Unavailable));
        assert_eq!(scene.pass(30), [State::Offline]);
    }

    #[test]
    fn with_a_node_those_go_who_were_only_there() {
        let mut scene = Scene::new();
        heard(&mut scene, &State::Online);
        scene.users.node_gone(8, scene.now);
        assert_eq!(scene.pass(0), []);
        scene.users.node_gone(7, scene.now);
        assert_eq!(scene.pass(0), [State::Offline]);
        scene
            .users
            .remove_offline([Scene::user().to_owned()].iter());
        assert!(scene.users.is_empty());
    }
}
