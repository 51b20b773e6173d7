//! A room that is made as the input says: its users write to several branches of it, and each branch takes what its state
//! allows.

use std::{collections::HashMap, sync::Arc};

use parley_protocol::{
    Pdu, RoomVersion, StateEvent, auth,
    resolution::{EventMap, StateMap},
};
use ruma::{OwnedEventId, OwnedUserId, events::StateEventType, user_id};
use serde_json::{Value, json};

/// The most events of one room.
const MAX_EVENTS: usize = 200;
/// Branches that a room may have.
const BRANCHES: usize = 4;
/// Bytes that say what happens next: who does what to whom on which branch.
const BYTES: usize = 4;

/// Where a branch of a room is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    /// The state there.
    pub(crate) state: StateMap,
    newest: Option<OwnedEventId>,
}

/// A room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) version: RoomVersion,
    pub(crate) events: EventMap,
    pub(crate) branches: Vec<Branch>,
    states: HashMap<OwnedEventId, StateEvent>,
    time: u64,
}

impl Room {
    /// A room with a creator and what comes with it.
    pub(crate) fn new(version: RoomVersion) -> Self {
        let id = version.id().clone();
        let mut room = Self {
            version,
            events: EventMap::new(),
            branches: vec![Branch::default()],
            states: HashMap::new(),
            time: 1_000,
        };
        let creator = &users()[0];
        let create = json!({ "creator": creator, "room_version": id });
        room.write(0, creator, "m.room.create", Some(""), &create);
        let join = json!({ "membership": "join" });
        room.write(0, creator, "m.room.member", Some(creator.as_str()), &join);
        let mut levels = json!({ "users": {}, "state_default": 25, "ban": 50 });
        if !room.version.creators_are_privileged() {
            levels["users"][creator.as_str()] = json!(100);
        }
        room.write(0, creator, "m.room.power_levels", Some(""), &levels);
        let rule = json!({ "join_rule": "public" });
        room.write(0, creator, "m.room.join_rules", Some(""), &rule);
        for user in &users()[1..] {
            room.write(0, user, "m.room.member", Some(user.as_str()), &join);
        }
        room
    }

    /// Has happen what the input says.
    pub(crate) fn play(&mut self, input: &[u8]) {
        for step in input.chunks_exact(BYTES).take(MAX_EVENTS) {
            let [who, what, whom, whither] = step else {
                return;
            };
            let users = users();
            let user = &users[usize::from(*who) % users.len()];
            let other = &users[usize::from(*whom) % users.len()];
            if whither & 0x80 != 0 && self.branches.len() < BRANCHES {
                let from = usize::from(*whither & 0x7f) % self.branches.len();
                self.branches.push(self.branches[from].clone());
            }
            // Not each at another time, so that the ids decide now and then.
            self.time += u64::from(*what >> 6);
            let branch = usize::from(*whither & 0x7f) % self.branches.len();
            self.act(branch, user, *what & 0x3f, other);
        }
    }

    fn act(&mut self, branch: usize, user: &OwnedUserId, what: u8, other: &OwnedUserId) {
        let member = |membership: &str| json!({ "membership": membership });
        let owned = format!("{other}_1");
        let (event_type, state_key, content) = match what % 12 {
            0 => ("m.room.member", user.as_str(), member("join")),
            1 => ("m.room.member", user.as_str(), member("leave")),
            2 => ("m.room.member", other.as_str(), member("leave")),
            3 => ("m.room.member", other.as_str(), member("ban")),
            4 => ("m.room.member", other.as_str(), member("invite")),
            5 => ("m.room.join_rules", "", json!({ "join_rule": "invite" })),
            6 => ("m.room.join_rules", "", json!({ "join_rule": "public" })),
            7..9 => {
                let level = [0, 25, 50, 100][usize::from(what) % 4];
                let mut levels = self.content(branch, "m.room.power_levels");
                levels["users"][other.as_str()] = json!(level);
                ("m.room.power_levels", "", levels)
            }
            9 => (
                "m.room.power_levels",
                "",
                json!({ "users": { other.as_str(): 100 } }),
            ),
            10 if what > 32 => ("m.room.topic", owned.as_str(), json!({ "topic": what })),
            10 => ("m.room.topic", "", json!({ "topic": what })),
            _ => ("m.room.name", "", json!({ "name": what })),
        };
        self.write(branch, user, event_type, Some(state_key), &content);
    }

    fn content(&self, branch: usize, event_type: &str) -> Value {
        let place = (StateEventType::from(event_type), String::new());
        let id = self.branches[branch].state.get(&place);
        let pdu = id.and_then(|id| self.events.get(id));
        let content = pdu.and_then(|pdu| serde_json::from_str(pdu.fields.content.get()).ok());
        content
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({}))
    }

    /// Writes an event to a branch, if the state there allows it.
    fn write(
        &mut self,
        branch: usize,
        sender: &OwnedUserId,
        event_type: &str,
        state_key: Option<&str>,
        content: &Value,
    ) {
        let at = &self.branches[branch];
        let is_create = event_type == "m.room.create";
        let mut event = json!({
            "sender": sender,
            "type": event_type,
            "content": content,
            "origin_server_ts": self.time,
            "depth": self.events.len() + 1,
            "prev_events": at.newest.iter().collect::<Vec<_>>(),
            "auth_events": [],
        });
        if !is_create || !self.version.room_id_is_create_event() {
            event["room_id"] = json!("!0:x");
            if self.version.room_id_is_create_event() {
                event["room_id"] = json!("!0");
            }
        }
        if let Some(state_key) = state_key {
            event["state_key"] = json!(state_key);
        }
        let id = match (is_create, self.version.room_id_is_create_event()) {
            (true, true) => "$0".to_owned(),
            _ => format!("${}:x", self.events.len()),
        };
        let Ok(id) = OwnedEventId::try_from(id) else {
            return;
        };
        let Ok(mut pdu) = Pdu::parse(id.clone(), &event.to_string()) else {
            return;
        };
        if !is_create {
            let fields = &pdu.fields;
            let deciding = auth::deciding_state(
                &fields.event_type,
                &fields.sender,
                fields.state_key.as_deref(),
                &fields.content,
                &self.version,
            );
            let Ok(deciding) = deciding else { return };
            let auth_events = deciding.iter().filter_map(|place| at.state.get(place));
            pdu.fields.auth_events = auth_events.cloned().collect();
            if !self.allows(at, &pdu) {
                return;
            }
        }
        let branch = &mut self.branches[branch];
        if let Some(state) = StateEvent::from_pdu(&pdu) {
            let place = (
                StateEventType::from(event_type),
                state.state_key.to_string(),
            );
            branch.state.insert(place, id.clone());
            self.states.insert(id.clone(), state);
        }
        branch.newest = Some(id.clone());
        self.events.insert(id, Arc::new(pdu));
    }

    /// Whether the state of a branch allows an event.
    fn allows(&self, branch: &Branch, pdu: &Pdu) -> bool {
        let fetch = |event_type: &StateEventType, state_key: &str| {
            let place = (event_type.clone(), state_key.to_owned());
            let id = branch.state.get(&place)?;
            self.states.get(id)
        };
        auth::check(pdu, &self.version, fetch).is_ok()
    }

    /// Whether an event is allowed by those that it names.
    pub(crate) fn is_allowed_by_its_auth_events(&self, pdu: &Pdu) -> bool {
        let fetch = |id: &ruma::EventId| self.events.get(id).cloned();
        auth::check_by_auth_events(pdu, &self.version, fetch).is_ok()
    }
}

fn users() -> [OwnedUserId; 4] {
    [
        user_id!("@a:x").to_owned(),
        user_id!("@b:x").to_owned(),
        user_id!("@c:y").to_owned(),
        user_id!("@d:z").to_owned(),
    ]
}
