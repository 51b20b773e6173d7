//! State that belongs to somebody (MSC3757), in the room versions that have it.

use parley_conformance::{Answer, Client, TestServer, on_each_engine};
use serde_json::json;

use super::{act, create, get_state, join, set_state};
use crate::rooms::{BASE, room_path};

const VERSIONS: [&str; 2] = ["org.matrix.msc3757.10", "org.matrix.msc3757.11"];

/// The type of the events that anyone may set in the rooms of these tests.
const KIND: &str = "com.example.device";

/// A room of three: who made it, and two whose power level is the same, lower one.
struct Room {
    id: String,
    alice: Client,
    bob: Client,
    carol: Client,
}

impl Room {
    async fn of_version(server: &TestServer, version: &str) -> Self {
        // The server may have had a room of another version.
        let name = |name: &str| format!("{name}.{version}");
        let alice = server.register(&name("alice")).await;
        let bob = server.register(&name("bob")).await;
        let carol = server.register(&name("carol")).await;
        let plan = json!({
            "preset": "public_chat",
            "room_version": version,
            "power_level_content_override": { "events": { KIND: 0 } },
        });
        let id = create(&alice, plan).await;
        join(&bob, &id).await.ok();
        join(&carol, &id).await.ok();
        Self {
            id,
            alice,
            bob,
            carol,
        }
    }

    async fn write(&self, client: &Client, state_key: &str) -> Answer {
        let content = json!({ "by": client.user_id });
        set_state(client, &self.id, KIND, state_key, content).await
    }

    /// Who wrote last to a place.
    async fn writer(&self, state_key: &str) -> String {
        let content = get_state(&self.alice, &self.id, KIND, state_key).await.ok();
        content["by"].as_str().unwrap().to_owned()
    }

    /// What belongs to somebody: their id alone, and with something after it.
    fn places_of(&self, owner: &Client) -> [String; 2] {
        let owner = &owner.user_id;
        [owner.clone(), format!("{owner}_phone:!@#$_1")]
    }
}

/// Runs a test with a room of each version that has owned state, on every database that is there.
async fn in_each_version(test: impl AsyncFn(Room)) {
    on_each_engine(async |server| {
        for version in VERSIONS {
            test(Room::of_version(server, version).await).await;
        }
    })
    .await;
}

#[tokio::test]
async fn somebody_has_as_many_state_events_of_a_type_as_they_like() {
    in_each_version(async |room| {
        for place in room.places_of(&room.bob) {
            room.write(&room.bob, &place).await.ok();
            assert_eq!(room.writer(&place).await, room.bob.user_id);
        }
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_somebody_is_overwritten_by_those_above_them_only() {
    in_each_version(async |room| {
        for place in room.places_of(&room.bob) {
            let answer = room.write(&room.carol, &place).await;
            answer.is_refused(403, "M_FORBIDDEN");
            room.write(&room.bob, &place).await.ok();
            room.write(&room.alice, &place).await.ok();
            assert_eq!(room.writer(&place).await, room.alice.user_id);
            room.write(&room.bob, &place).await.ok();
            assert_eq!(room.writer(&place).await, room.bob.user_id);
        }
        for place in room.places_of(&room.alice) {
            let answer = room.write(&room.bob, &place).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
        // Also of those who aren't there, or have been banned.
        room.write(&room.alice, "@nobody:example.org_1").await.ok();
        act(&room.alice, &room.id, "ban", &room.bob).await.ok();
        let [_, phone] = room.places_of(&room.bob);
        room.write(&room.alice, &phone).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_state_key_belongs_to_the_user_at_its_beginning_and_no_other() {
    in_each_version(async |room| {
        let bob = &room.bob.user_id;
        for others in [format!("@carol_{bob}_1"), format!("{bob}.example.org_1")] {
            let answer = room.write(&room.bob, &others).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
        for malformed in ["@oops", "@oops_1", &format!("{bob}@example.org_1")] {
            for client in [&room.alice, &room.bob] {
                let answer = room.write(client, malformed).await;
                answer.is_refused(400, "M_BAD_JSON");
            }
        }
        for nobodys in ["", "bob", &format!("_{bob}")] {
            room.write(&room.carol, nobodys).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn in_other_versions_a_user_id_as_state_key_is_its_users_alone() {
    on_each_engine(async |server| {
        let room = Room::of_version(server, "10").await;
        let [id, phone] = room.places_of(&room.bob);
        room.write(&room.bob, &id).await.ok();
        for (client, place) in [
            (&room.bob, phone.as_str()),
            (&room.alice, &id),
            (&room.alice, &phone),
            (&room.alice, "@oops"),
        ] {
            let answer = room.write(client, place).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_begins_with_owned_state_and_comes_to_it_by_an_upgrade() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let told = alice.get(&format!("{BASE}/capabilities")).await.ok();
        let versions = &told["capabilities"]["m.room_versions"];
        for version in VERSIONS {
            assert_eq!(versions["available"][version], "unstable");
            assert_ne!(versions["default"], version);
            let state = |key: &str| json!([{ "type": KIND, "state_key": key, "content": {} }]);
            let plan = |key| json!({ "room_version": version, "initial_state": state(key) });
            create(&alice, plan("@nobody:example.org_1")).await;
            let path = format!("{BASE}/createRoom");
            let answer = alice.post(&path, plan("@oops")).await;
            answer.is_refused(400, "M_INVALID_ROOM_STATE");
            let old = create(&alice, json!({ "room_version": "10" })).await;
            let upgrade = json!({ "new_version": version });
            let answer = alice.post(&room_path(&old, "upgrade"), upgrade).await.ok();
            let new = answer["replacement_room"].as_str().unwrap();
            let content = get_state(&alice, new, "m.room.create", "").await.ok();
            assert_eq!(content["room_version"], version);
            let own = format!("{}_1", alice.user_id);
            set_state(&alice, new, KIND, &own, json!({})).await.ok();
        }
    })
    .await;
}
