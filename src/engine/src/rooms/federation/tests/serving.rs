//! What other servers are told of a room's past.

use serde_json::Value;

use super::*;
use crate::{accounts::NewUser, rooms::federation::serve::Gap, sessions::Session};

/// Events that nobody has.
fn made_up(count: usize) -> impl Iterator<Item = OwnedEventId> {
    (0..count).map(|count| OwnedEventId::try_from(format!("$made-up-{count}")).unwrap())
}

/// What messages say, as a server is told them: `None` of those that are redacted.
fn texts(events: &[Box<RawValue>]) -> Vec<Option<String>> {
    let events = events.iter().filter_map(|event| {
        let event: Value = serde_json::from_str(event.get()).unwrap();
        let is_message = event["type"] == "m.room.message";
        is_message.then(|| event["content"]["body"].as_str().map(ToOwned::to_owned))
    });
    events.collect()
}

fn gap(latest: Vec<OwnedEventId>, earliest: Vec<OwnedEventId>) -> Gap {
    Gap {
        earliest,
        latest,
        limit: 10,
        min_depth: 0,
    }
}

#[tokio::test]
async fn of_ends_that_are_named_by_the_thousand_the_first_count() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    one.say(&room_id, "first").await;
    let last = one.say(&room_id, "last").await;
    let with = |before: usize| -> Vec<OwnedEventId> {
        let real = std::iter::once(last.clone());
        made_up(before).chain(real).chain(made_up(1_000)).collect()
    };
    for (before, is_found) in [(49, true), (50, false)] {
        let backfill = one
            .rooms()
            .backfill_for(&two.name, &room_id, with(before), 10);
        assert_eq!(!backfill.await.unwrap().is_empty(), is_found);
        let gap = gap(with(before), with(50));
        let missing = one.rooms().missing_for(&two.name, &room_id, gap);
        assert_eq!(!missing.await.unwrap().is_empty(), is_found);
    }
}

/// Has only those see what is said in a room who are there.
async fn hide_history(server: &Server, room_id: &RoomId) {
    let content = r#"{"history_visibility":"joined"}"#;
    let set = server.set(room_id, "m.room.history_visibility", "", content);
    set.await.unwrap();
}

#[tokio::test]
async fn what_none_of_its_users_could_see_a_server_gets_redacted() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let three = net.server("three.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    one.say(&room_id, "shared").await;
    hide_history(&one, &room_id).await;
    one.say(&room_id, "hidden").await;
    two.join(&room_id, &one).await.unwrap();
    one.say(&room_id, "for two").await;
    three.join(&room_id, &one).await.unwrap();
    let last = one.say(&room_id, "for all").await;
    let some = |text: &str| Some(text.to_owned());
    let backfill = one
        .rooms()
        .backfill_for(&two.name, &room_id, vec![last.clone()], 50);
    let expected = [some("for all"), some("for two"), None, some("shared")];
    assert_eq!(texts(&backfill.await.unwrap()), expected);
    let backfill = one
        .rooms()
        .backfill_for(&three.name, &room_id, vec![last], 50);
    let expected = [some("for all"), None, None, some("shared")];
    assert_eq!(texts(&backfill.await.unwrap()), expected);
}

#[tokio::test]
async fn the_event_nearest_to_a_time_is_found_behind_many_that_a_server_may_not_see() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    hide_history(&one, &room_id).await;
    let first = one.say(&room_id, "first").await;
    for count in 0..120 {
        one.say(&room_id, &count.to_string()).await;
    }
    two.join(&room_id, &one).await.unwrap();
    let join = member_event(&one, &room_id, &two.user.user_id).await;
    let first: Value = serde_json::from_str(&one.pdu(&first).await).unwrap();
    let time = first["origin_server_ts"].as_i64().unwrap();
    let forward = Direction::Forward;
    let near = one
        .rooms()
        .event_near_for_server(&two.name, &room_id, time, forward);
    assert_eq!(near.await.unwrap().0, join);
}

#[tokio::test]
async fn who_asked_to_be_forgotten_is_not_quoted_to_servers_that_come_later() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let account = NewUser {
        username: Some("gone".to_owned()),
        ..NewUser::default()
    };
    let gone = one.engine.accounts().create(account).await.unwrap();
    let session = Session::of_server(gone.user_nid, &gone.user_id);
    let details = MembershipDetails::default();
    let join = one.rooms().join(&session, &room_id, &[], &details);
    join.await.unwrap();
    let content = RawValue::from_string(r#"{"body":"secret","msgtype":"m.text"}"#.to_owned());
    let content = content.unwrap();
    let message = crate::rooms::send::Message::new("m.room.message", &content, "1");
    let secret = one.rooms().send(&session, &room_id, message).await.unwrap();
    one.say(&room_id, "common").await;
    let accounts = one.engine.accounts();
    accounts.deactivate(&gone.user_id, true).await.unwrap();
    let three = net.server("three.test").await;
    three.join(&room_id, &one).await.unwrap();
    let last = one.say(&room_id, "last").await;
    let some = |text: &str| Some(text.to_owned());
    for (server, what) in [(&two, some("secret")), (&three, None)] {
        let backfill = one
            .rooms()
            .backfill_for(&server.name, &room_id, vec![last.clone()], 50);
        let told = backfill.await.unwrap();
        assert_eq!(texts(&told), [some("last"), some("common"), what.clone()]);
        let gap = Gap {
            limit: 50,
            ..gap(vec![last.clone()], Vec::new())
        };
        let told = one.rooms().missing_for(&server.name, &room_id, gap).await;
        assert_eq!(texts(&told.unwrap()), [what.clone(), some("common")]);
        let told = one.rooms().event_for_server(&server.name, &secret).await;
        assert_eq!(texts(&[told.unwrap()]), [what]);
    }
}
