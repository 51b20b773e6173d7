//! Forks of a room with ten thousand members.

use std::sync::Arc;

use parley_protocol::EventDraft;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId,
    events::room::member::MembershipState,
};
use tokio::time::Instant;

use super::{
    agree,
    net::{Net, Server},
};
use crate::rooms::{federation::receive::Verdict, membership::bare_member_content};

const MEMBERS: usize = 10_000;
/// For one fork, the first included, for which what allows the members has to be read. A build without optimisations and a
/// machine that does other things take their time; docs/performance.md has the figure that counts.
const LIMIT_MS: u128 = 3_000;

/// Has many users of a server join a room at once.
async fn fill(server: &Server, room_id: &OwnedRoomId) {
    let room = server.rooms().room(room_id).await.unwrap();
    let joined = server.rooms().edit(&room, |edit| {
        for count in 0..MEMBERS {
            let user_id = OwnedUserId::try_from(format!("@m{count}:{}", server.name)).unwrap();
            let draft = EventDraft {
                sender: user_id.clone(),
                event_type: "m.room.member".into(),
                state_key: Some(user_id.to_string()),
                content: bare_member_content(&MembershipState::Join),
                redacts: None,
                origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
            };
            edit.append(draft, None)?;
        }
        Ok(())
    });
    joined.await.unwrap();
}

#[tokio::test]
async fn forks_of_a_room_with_ten_thousand_members_are_resolved_soon() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    fill(&one, &room_id).await;
    two.join(&room_id, &one).await.unwrap();
    let levels = format!(
        r#"{{"users":{{"{}":100,"{}":50}}}}"#,
        one.user.user_id, two.user.user_id
    );
    let levels = one.set(&room_id, "m.room.power_levels", "", &levels).await;
    one.give(&two, &room_id, &levels.unwrap()).await.unwrap();
    for count in 0..3 {
        let topic = |by: &str| format!(r#"{{"topic":"{by} {count}"}}"#);
        let left = one.set(&room_id, "m.room.topic", "", &topic("left")).await;
        let right = two.set(&room_id, "m.room.topic", "", &topic("right")).await;
        let begun = Instant::now();
        accept(&one, &two, &room_id, &left.unwrap()).await;
        let took = begun.elapsed().as_millis();
        println!("fork {count}: {took} ms");
        assert!(took < LIMIT_MS, "fork {count}: {took} ms");
        accept(&two, &one, &room_id, &right.unwrap()).await;
        let end = one.say(&room_id, &format!("together {count}")).await;
        accept(&one, &two, &room_id, &end).await;
    }
    agree(&one, &two, &room_id).await;
}

async fn accept(from: &Server, to: &Server, room_id: &OwnedRoomId, event_id: &OwnedEventId) {
    let verdict = from.give(to, room_id, event_id).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
}
