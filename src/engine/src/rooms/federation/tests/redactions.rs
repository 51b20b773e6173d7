//! Redactions of what other servers' users said.

use parley_protocol::Incoming;

use super::*;
use crate::rooms::federation::resolve::IdState;

/// A redaction by a server's user, built by hand: their server might refuse it.
async fn redaction_by_hand(
    server: &Server,
    room_id: &RoomId,
    target: &OwnedEventId,
) -> OwnedEventId {
    let room = server.rooms().room(room_id).await.unwrap();
    let redaction = server.rooms().edit(&room, |edit| {
        let draft = parley_protocol::EventDraft {
            sender: server.user.user_id.clone(),
            event_type: "m.room.redaction".into(),
            state_key: None,
            content: Default::default(),
            redacts: Some(target.clone()),
            origin_server_ts: ruma::MilliSecondsSinceUnixEpoch::now(),
        };
        edit.append(draft, None)
    });
    redaction.await.unwrap()
}

#[tokio::test]
async fn a_redaction_that_comes_before_its_target_applies_when_that_comes() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let secret = one.say(&room_id, "secret").await;
    let json = one.pdu(&secret).await;
    // More than the gap that is asked for, so that the redaction is there first.
    for count in 0..60 {
        one.say(&room_id, &count.to_string()).await;
    }
    let redaction = one
        .rooms()
        .redact(&one.user, &room_id, &secret, "redact", None)
        .await
        .unwrap();
    one.give(&two, &room_id, &redaction).await.unwrap();
    let room = two.rooms().room(&room_id).await.unwrap();
    let database = &two.rooms().database;
    assert!(!database.has_event(&secret).await.unwrap());
    let verdict = two.rooms().receive(&room, &one.name, &json).await;
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    assert_eq!(content(&two, &secret).await, serde_json::json!({}));
    let row = database.event(&secret).await.unwrap().unwrap();
    let redaction = database.event(&redaction).await.unwrap().unwrap();
    assert_eq!(row.redacted_by, Some(redaction.position));
}

#[tokio::test]
async fn a_redaction_by_somebody_without_power_does_nothing_whichever_comes_first() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = one.say(&room_id, "mine").await;
    let json = one.pdu(&said).await;
    let forged = redaction_by_hand(&two, &room_id, &said).await;
    let verdict = two.give(&one, &room_id, &forged).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
    assert_eq!(one.said(&room_id).await, ["mine"]);
    let room = two.rooms().room(&room_id).await.unwrap();
    let verdict = two.rooms().receive(&room, &one.name, &json).await;
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    assert_eq!(two.said(&room_id).await, ["mine"]);
}

#[tokio::test]
async fn what_is_redacted_is_so_in_the_state_that_came_with_a_join_too() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    let topic = one.set(&room_id, "m.room.topic", "", r#"{"topic":"secret"}"#);
    let topic = topic.await.unwrap();
    two.join(&room_id, &one).await.unwrap();
    let redaction = one
        .rooms()
        .redact(&one.user, &room_id, &topic, "redact", None)
        .await
        .unwrap();
    one.give(&two, &room_id, &redaction).await.unwrap();
    let room = two.rooms().room(&room_id).await.unwrap();
    let state = two.rooms().registry.load(&room).await.unwrap();
    assert_eq!(state.text("m.room.topic", "topic"), None);
    let position = state.get("m.room.topic", "").unwrap().position.get();
    let rows = two.rooms().database.events_at(vec![position]).await;
    assert!(!rows.unwrap()[0].json.contains("secret"));
}

/// What a server has of an event, with the position of what it's redacted by.
async fn of(server: &Server, event_id: &OwnedEventId) -> (serde_json::Value, Option<i64>, i64) {
    let row = server.rooms().database.event(event_id).await;
    let row = row.unwrap().unwrap();
    (
        content(server, event_id).await,
        row.redacted_by,
        row.position,
    )
}

#[tokio::test]
async fn redactions_apply_in_the_past_that_is_read_back_wherever_they_and_what_they_redact_are() {
    let (net, one, _two, room_id) = two(RoomVersionId::V11).await;
    let third = net.server("three.test").await;
    let nothing = serde_json::json!({});
    let redact = |said: OwnedEventId| {
        let (one, room_id) = (&one, &room_id);
        async move {
            let transaction = said.as_str();
            let redaction = one
                .rooms()
                .redact(&one.user, room_id, &said, transaction, None);
            redaction.await.unwrap()
        }
    };
    // The third server's first page back has some 100 events.
    let far = one.say(&room_id, "secret").await;
    let kept = one.say(&room_id, "kept").await;
    for count in 0..120 {
        one.say(&room_id, &count.to_string()).await;
    }
    let near = one.say(&room_id, "secret").await;
    let redactions = [redact(far.clone()).await, redact(near.clone()).await];
    third.join(&room_id, &one).await.unwrap();
    third.read_back(&room_id, 50).await;
    for (said, redaction) in [&far, &near].into_iter().zip(&redactions) {
        let (_, _, position) = of(&third, redaction).await;
        assert!(position < 0);
        let (content, redacted_by, _) = of(&third, said).await;
        assert_eq!((content, redacted_by), (nothing.clone(), Some(position)));
    }
    assert_eq!(of(&third, &kept).await.1, None);
}

#[tokio::test]
async fn in_a_stretch_of_the_past_who_has_the_power_then_redacts() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let third = net.server("three.test").await;
    third.join(&room_id, &one).await.unwrap();
    let secret = one.say(&room_id, "secret").await;
    let kept = one.say(&room_id, "kept").await;
    let without_power = redaction_by_hand(&two, &room_id, &kept).await;
    let levels = format!(
        r#"{{"users":{{"{}":100,"{}":50}}}}"#,
        one.user.user_id, two.user.user_id
    );
    let levels = one.set(&room_id, "m.room.power_levels", "", &levels).await;
    let levels = levels.unwrap();
    let with_power = redaction_by_hand(&two, &room_id, &secret).await;
    let mut stretch = Vec::new();
    for (server, event_id) in [
        (&one, &secret),
        (&one, &kept),
        (&two, &without_power),
        (&one, &levels),
        (&two, &with_power),
    ] {
        let json = server.pdu(event_id).await;
        let pdu = parley_protocol::Pdu::parse(event_id.clone(), &json).unwrap();
        stretch.push(Incoming { pdu, json });
    }
    let rooms = third.rooms();
    let room = rooms.room(&room_id).await.unwrap();
    let state = rooms.registry.load(&room).await.unwrap();
    let deciding = rooms.deciding_in(&IdState::of_room(&state)).await.unwrap();
    let past = rooms
        .redactions_in_past(&room, stretch, &Default::default(), deciding)
        .await;
    let past = past.unwrap();
    let said = past.iter().take(2).map(|event| &event.incoming.json);
    let said: Vec<bool> = said.map(|json| json.contains("body")).collect();
    assert_eq!(said, [false, true]);
    assert!(past[0].redactions.redacted_by.is_some());
    assert!(past[1].redactions.redacted_by.is_none());
}

#[tokio::test]
async fn a_redaction_of_its_create_event_leaves_a_room_what_it_is() {
    let (net, one, two, room_id) = two(RoomVersionId::V10).await;
    let third = net.server("three.test").await;
    let state = one.state(&room_id).await;
    let is_create =
        |(event_type, ..): &(String, String, OwnedEventId)| event_type == "m.room.create";
    let (_, _, create) = state.into_iter().find(is_create).unwrap();
    let before = content(&one, &create).await;
    assert_eq!(before["room_version"], "10");
    let redaction = redaction_by_hand(&one, &room_id, &create).await;
    let verdict = one.give(&two, &room_id, &redaction).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
    let room = two.rooms().room(&room_id).await.unwrap();
    let state = two.rooms().registry.load(&room).await.unwrap();
    let version = state.text("m.room.create", "room_version");
    assert_eq!(version.as_deref(), Some("10"));
    let known = two.rooms().database.known_events([&create]).await.unwrap();
    assert!(known[&create].json.contains("room_version"));

    third.join(&room_id, &two).await.unwrap();
    // There the redaction comes before what it redacts, here together with it.
    for server in [&two, &third] {
        server.read_back(&room_id, 50).await;
        let (content, redacted_by, _) = of(server, &create).await;
        assert_eq!((content, redacted_by), (before.clone(), None));
    }
}
