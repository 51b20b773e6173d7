//! Servers that share rooms, with everything but HTTP between them.

mod acl;
mod large;
mod net;
mod receipts;
mod redactions;
mod serving;

use std::sync::{Arc, atomic::Ordering};

use parley_protocol::{RoomVersion, ServerKey};
use parley_storage::inbox::Received;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedServerSigningKeyId, RoomId, RoomVersionId, UserId, events::room::member::MembershipState,
    serde::Base64, signatures::hash_and_sign_event,
};

use serde_json::value::RawValue;

use self::net::{Net, Server};
use super::receive::Verdict;
use crate::{
    remote::KnownKey,
    rooms::{history::Direction, membership::MembershipDetails},
};

async fn two(version: RoomVersionId) -> (Arc<Net>, Server, Server, OwnedRoomId) {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(version).await;
    two.join(&room_id, &one).await.unwrap();
    (net, one, two, room_id)
}

async fn agree(one: &Server, two: &Server, room_id: &OwnedRoomId) {
    let state = one.state(room_id).await;
    assert_eq!(state, two.state(room_id).await);
    assert_eq!(state, one.stored_state(room_id).await);
    assert_eq!(state, two.stored_state(room_id).await);
}

#[tokio::test]
async fn a_room_is_joined_by_another_server_in_every_version() {
    for version in parley_protocol::versions::offered() {
        let version = version.id();
        let (_net, one, two, room_id) = two(version.clone()).await;
        agree(&one, &two, &room_id).await;
        let room = two.rooms().room(&room_id).await.unwrap();
        let state = two.rooms().registry.load(&room).await.unwrap();
        assert_eq!(state.joined_count(), 2, "{version}");
        let said = one.say(&room_id, "hello").await;
        let verdict = one.give(&two, &room_id, &said).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted, "{version}");
        let said = two.say(&room_id, "hello to you").await;
        let verdict = two.give(&one, &room_id, &said).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted, "{version}");
        for server in [&one, &two] {
            assert_eq!(server.said(&room_id).await, ["hello", "hello to you"]);
        }
    }
}

#[tokio::test]
async fn a_room_that_is_joined_without_its_members_becomes_whole_in_every_version() {
    for version in parley_protocol::versions::offered() {
        let version = version.id();
        let net = Arc::new(Net::default());
        let one = net.server("one.test").await;
        let two = net.server("two.test").await;
        net.without_members.store(true, Ordering::Relaxed);
        let three = net.server("three.test").await;
        let room_id = one.public_room(version.clone()).await;
        two.join(&room_id, &one).await.unwrap();
        let said = one.say(&room_id, "before").await;
        one.give(&two, &room_id, &said).await.unwrap();
        three.join(&room_id, &one).await.unwrap();
        let said = three.say(&room_id, "in between").await;
        let room = three.rooms().room(&room_id).await.unwrap();
        three.rooms().need_all_members(&room).await.unwrap();
        assert!(net.asked.lock().unwrap().contains(&"state_ids"));
        let verdict = three.give(&one, &room_id, &said).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted, "{version}");
        agree(&one, &three, &room_id).await;
        let state = three.rooms().registry.load(&room).await.unwrap();
        assert_eq!(state.joined_count(), 3, "{version}");
        assert_eq!(room.servers(&state).len(), 3, "{version}");
    }
}

#[tokio::test]
async fn what_is_said_at_once_on_both_sides_is_there_on_both() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let left = one.say(&room_id, "left").await;
    let right = two.say(&room_id, "right").await;
    one.give(&two, &room_id, &left).await.unwrap();
    two.give(&one, &room_id, &right).await.unwrap();
    agree(&one, &two, &room_id).await;
    let both = one.say(&room_id, "both").await;
    assert!(one.pdu(&both).await.contains(left.as_str()));
    assert!(one.pdu(&both).await.contains(right.as_str()));
    assert_eq!(
        one.give(&two, &room_id, &both).await.unwrap(),
        Verdict::Accepted
    );
    assert_eq!(one.said(&room_id).await, ["left", "right", "both"]);
    assert_eq!(two.said(&room_id).await, ["right", "left", "both"]);
}

#[tokio::test]
async fn forks_of_the_state_are_resolved_alike_whatever_arrives_first() {
    for version in [
        RoomVersionId::V1,
        RoomVersionId::V2,
        RoomVersionId::V10,
        RoomVersionId::V12,
    ] {
        let (_net, one, two, room_id) = two(version.clone()).await;
        let levels = format!(
            r#"{{"users":{{{}"{}":50}},"state_default":50}}"#,
            match version {
                RoomVersionId::V12 => String::new(),
                _ => format!("\"{}\":100,", one.user.user_id),
            },
            two.user.user_id
        );
        let levels = one.set(&room_id, "m.room.power_levels", "", &levels).await;
        one.give(&two, &room_id, &levels.unwrap()).await.unwrap();
        let mut left: Vec<OwnedEventId> = Vec::new();
        for (event_type, content) in [
            ("m.room.name", r#"{"name":"left"}"#),
            ("m.room.topic", r#"{"topic":"left"}"#),
            ("m.room.join_rules", r#"{"join_rule":"invite"}"#),
        ] {
            left.push(one.set(&room_id, event_type, "", content).await.unwrap());
        }
        let mut right = Vec::new();
        for (event_type, content) in [
            ("m.room.topic", r#"{"topic":"right"}"#),
            ("m.room.name", r#"{"name":"right"}"#),
            ("org.example.other", r#"{"other":"right"}"#),
        ] {
            right.push(two.set(&room_id, event_type, "", content).await.unwrap());
        }
        for event in &left {
            one.give(&two, &room_id, event).await.unwrap();
        }
        for event in &right {
            two.give(&one, &room_id, event).await.unwrap();
        }
        agree(&one, &two, &room_id).await;
        let end = one.say(&room_id, "together").await;
        let verdict = one.give(&two, &room_id, &end).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted, "{version}");
        agree(&one, &two, &room_id).await;
    }
}

#[tokio::test]
async fn who_is_banned_meanwhile_is_not_heard() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let user = &two.user.user_id;
    one.rooms()
        .ban(&one.user, &room_id, user, None)
        .await
        .unwrap();
    let said = two.say(&room_id, "still here").await;
    let verdict = two.give(&one, &room_id, &said).await.unwrap();
    assert!(matches!(verdict, Verdict::SoftFailed(_)), "{verdict:?}");
    assert!(one.said(&room_id).await.is_empty());
    let room = one.rooms().room(&room_id).await.unwrap();
    let state = one.rooms().registry.load(&room).await.unwrap();
    assert_eq!(state.membership(user), MembershipState::Ban);
}

#[tokio::test]
async fn what_is_built_on_a_ban_is_refused_whatever_it_names_as_what_allows_it() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = two.say(&room_id, "still here").await;
    let user = &two.user.user_id;
    one.rooms()
        .ban(&one.user, &room_id, user, None)
        .await
        .unwrap();
    let ban = member_event(&one, &room_id, user).await;
    let room = one.rooms().room(&room_id).await.unwrap();
    let json = changed(&two, &two.pdu(&said).await, room.version(), |object| {
        let prev = vec![CanonicalJsonValue::String(ban.to_string())];
        object.insert("prev_events".to_owned(), prev.into());
    });
    let verdict = one.rooms().receive(&room, &two.name, &json).await.unwrap();
    assert!(matches!(verdict, Verdict::Rejected(_)), "{verdict:?}");
    assert!(one.said(&room_id).await.is_empty());
}

#[tokio::test]
async fn a_gap_is_filled_by_asking_for_what_is_missing() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    for text in ["a", "b", "c"] {
        one.say(&room_id, text).await;
    }
    let last = one.say(&room_id, "d").await;
    one.give(&two, &room_id, &last).await.unwrap();
    assert_eq!(two.said(&room_id).await, ["a", "b", "c", "d"]);
    assert!(net.asked.lock().unwrap().contains(&"missing_events"));
    agree(&one, &two, &room_id).await;
}

#[tokio::test]
async fn a_gap_that_is_too_wide_is_left_and_the_state_asked_for() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    one.set(&room_id, "m.room.topic", "", r#"{"topic":"new"}"#)
        .await
        .unwrap();
    for count in 0..60 {
        one.say(&room_id, &count.to_string()).await;
    }
    let last = one.say(&room_id, "last").await;
    let verdict = one.give(&two, &room_id, &last).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
    assert!(net.asked.lock().unwrap().contains(&"state_ids"));
    agree(&one, &two, &room_id).await;
    assert_eq!(two.said(&room_id).await.last().unwrap(), "last");
}

/// The member event of a user as a server has it.
async fn member_event(server: &Server, room_id: &RoomId, user_id: &UserId) -> OwnedEventId {
    let state = server.state(room_id).await;
    let mut state = state.into_iter();
    let of_user = |(_, state_key, _): &(String, String, _)| state_key == user_id.as_str();
    state.find(of_user).unwrap().2
}

#[tokio::test]
async fn a_gap_behind_what_is_not_shown_is_known_and_read_later() {
    let net = Arc::new(Net::default());
    let [one, two, three, four] = [
        net.server("one.test").await,
        net.server("two.test").await,
        net.server("three.test").await,
        net.server("four.test").await,
    ];
    let room_id = one.public_room(RoomVersionId::V11).await;
    two.join(&room_id, &one).await.unwrap();
    three.join(&room_id, &one).await.unwrap();
    four.join(&room_id, &three).await.unwrap();
    let joined = member_event(&three, &room_id, &four.user.user_id).await;
    three.give(&two, &room_id, &joined).await.unwrap();
    // Of what the user of the third server says, the second knows only that they were banned before it came to hear of it.
    let user = &three.user.user_id;
    one.rooms()
        .ban(&one.user, &room_id, user, None)
        .await
        .unwrap();
    let ban = member_event(&one, &room_id, user).await;
    one.give(&two, &room_id, &ban).await.unwrap();
    let first = three.say(&room_id, "first").await;
    three.give(&four, &room_id, &first).await.unwrap();
    let mut last = first.clone();
    for count in 0..60 {
        last = three.say(&room_id, &count.to_string()).await;
        three.give(&four, &room_id, &last).await.unwrap();
    }
    let verdict = three.give(&two, &room_id, &last).await.unwrap();
    assert!(matches!(verdict, Verdict::SoftFailed(_)), "{verdict:?}");
    let heard = four.say(&room_id, "I heard that").await;
    let verdict = four.give(&two, &room_id, &heard).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
    let database = &two.rooms().database;
    let row = database.event(&heard).await.unwrap().unwrap();
    assert!(row.after_gap);
    assert!(database.event(&first).await.unwrap().is_none());
    two.read_back(&room_id, 200).await;
    assert!(database.event(&first).await.unwrap().is_some());
}

#[tokio::test]
async fn an_invitation_reaches_a_server_that_is_not_in_the_room_and_is_accepted() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one
        .rooms()
        .create(&one.user, &Default::default())
        .await
        .unwrap();
    let refused = two.join(&room_id, &one).await.unwrap_err();
    assert!(refused.kind().is_some(), "{refused}");
    let details = MembershipDetails::default();
    one.rooms()
        .invite(&one.user, &room_id, &two.user.user_id, &details)
        .await
        .unwrap();
    let rows = two.rooms().database.memberships_of(two.user.user_nid).await;
    assert_eq!(rows.unwrap()[0].membership, "invite");
    let room = two.rooms().registry.find(&room_id).await.unwrap().unwrap();
    let shown = two
        .rooms()
        .shown_from_outside(&room, two.user.user_nid)
        .await;
    let (shown, sender) = shown.unwrap().unwrap();
    assert_eq!(sender, one.user.user_id);
    assert!(
        shown
            .iter()
            .any(|event| event.get().contains("m.room.create"))
    );
    let no_servers = [];
    two.rooms()
        .join(&two.user, &room_id, &no_servers, &details)
        .await
        .unwrap();
    agree(&one, &two, &room_id).await;
}

#[tokio::test]
async fn an_invitation_is_declined_also_where_nobody_is_reached() {
    for is_down in [false, true] {
        let net = Arc::new(Net::default());
        let one = net.server("one.test").await;
        let two = net.server("two.test").await;
        let room_id = one
            .rooms()
            .create(&one.user, &Default::default())
            .await
            .unwrap();
        let details = MembershipDetails::default();
        one.rooms()
            .invite(&one.user, &room_id, &two.user.user_id, &details)
            .await
            .unwrap();
        if is_down {
            net.down.lock().unwrap().insert(one.name.clone());
        }
        two.rooms().leave(&two.user, &room_id, None).await.unwrap();
        let rows = two.rooms().database.memberships_of(two.user.user_nid).await;
        assert_eq!(rows.unwrap()[0].membership, "leave");
        let room = one.rooms().room(&room_id).await.unwrap();
        let state = one.rooms().registry.load(&room).await.unwrap();
        let expected = match is_down {
            true => MembershipState::Invite,
            false => MembershipState::Leave,
        };
        assert_eq!(state.membership(&two.user.user_id), expected);
    }
}

#[tokio::test]
async fn a_knock_reaches_a_room_of_another_server() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one
        .rooms()
        .create(&one.user, &Default::default())
        .await
        .unwrap();
    one.set(
        &room_id,
        "m.room.join_rules",
        "",
        r#"{"join_rule":"knock"}"#,
    )
    .await
    .unwrap();
    let via = [one.name.clone()];
    two.rooms()
        .knock(&two.user, &room_id, &via, None)
        .await
        .unwrap();
    let room = one.rooms().room(&room_id).await.unwrap();
    let state = one.rooms().registry.load(&room).await.unwrap();
    assert_eq!(state.membership(&two.user.user_id), MembershipState::Knock);
    let rows = two.rooms().database.memberships_of(two.user.user_nid).await;
    assert_eq!(rows.unwrap()[0].membership, "knock");
}

#[tokio::test]
async fn a_server_that_left_comes_back_with_the_state_of_then() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    two.rooms().leave(&two.user, &room_id, None).await.unwrap();
    let left = two.state(&room_id).await;
    let member = left.iter().find(|(_, key, _)| *key == two.user.user_id);
    two.give(&one, &room_id, &member.unwrap().2).await.unwrap();
    one.set(&room_id, "m.room.topic", "", r#"{"topic":"since"}"#)
        .await
        .unwrap();
    one.say(&room_id, "unheard").await;
    two.join(&room_id, &one).await.unwrap();
    agree(&one, &two, &room_id).await;
}

#[tokio::test]
async fn who_comes_back_by_a_server_that_never_knew_them_is_told_of_the_room() {
    let (net, one, three, room_id) = two(RoomVersionId::V11).await;
    let two = net.server("third.test").await;
    two.join(&room_id, &three).await.unwrap();
    let (since, _) = two.sync(&room_id, None, false).await;
    two.rooms().leave(&two.user, &room_id, None).await.unwrap();
    let (since, left) = two.sync(&room_id, Some(since), false).await;
    assert!(left.is_none());
    two.join(&room_id, &one).await.unwrap();
    let (_, room) = two.sync(&room_id, Some(since), false).await;
    assert!(room.is_some());
}

#[tokio::test]
async fn who_came_in_by_a_join_whose_answer_was_lost_reads_the_room_once_their_server_is_there() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    let account = two.engine.accounts().create(crate::accounts::NewUser {
        username: Some("other".to_owned()),
        ..Default::default()
    });
    let account = account.await.unwrap();
    let other = crate::sessions::Session::of_server(account.user_nid, &account.user_id);
    net.loses_joins.store(true, Ordering::Relaxed);
    let (via, details) = ([one.name.clone()], MembershipDetails::default());
    let lost = two.rooms().join(&other, &room_id, &via, &details).await;
    lost.unwrap_err();
    net.loses_joins.store(false, Ordering::Relaxed);
    two.join(&room_id, &one).await.unwrap();
    let said = one.say(&room_id, "hello").await;
    one.give(&two, &room_id, &said).await.unwrap();
    let readable = two.rooms().readable(&room_id, &other.user_id).await;
    let (_, state, access) = readable.unwrap();
    assert!(state.is_joined(&other.user_id));
    assert_eq!(access.membership(), MembershipState::Join);
    let row = two.rooms().database.event(&said).await.unwrap().unwrap();
    let event = crate::rooms::timeline::TimelineEvent::from_row(row).unwrap();
    assert!(access.sees(&event, &other.user_id));
}

#[tokio::test]
async fn what_is_not_shown_is_given_to_who_asks_for_what_others_are_built_on() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let three = net.server("three.test").await;
    three.join(&room_id, &one).await.unwrap();
    let user = &two.user.user_id;
    let ban = one.rooms().ban(&one.user, &room_id, user, None);
    ban.await.unwrap();
    let first = two.say(&room_id, "still here").await;
    let second = two.say(&room_id, "and here").await;
    for event in [&first, &second] {
        let verdict = two.give(&one, &room_id, event).await.unwrap();
        assert!(matches!(verdict, Verdict::SoftFailed(_)), "{verdict:?}");
    }
    let gap = super::serve::Gap {
        earliest: Vec::new(),
        latest: vec![second],
        limit: 1,
        min_depth: 0,
    };
    let given = one.rooms().missing_for(&three.name, &room_id, gap);
    let given = given.await.unwrap();
    let given: Vec<&str> = given.iter().map(|event| event.get()).collect();
    assert_eq!(given, [two.pdu(&first).await]);
}

#[tokio::test]
async fn forged_events_change_nothing() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = one.say(&room_id, "true").await;
    let json = one.pdu(&said).await;
    let room = two.rooms().room(&room_id).await.unwrap();
    let state = two.state(&room_id).await;
    for (forged, what) in [
        (json.replace("@user:one.test", "@user:two.test"), "sender"),
        (json.replace("\"depth\":", "\"depth\":1"), "depth"),
        (json.replace(room_id.as_str(), "!other:one.test"), "room"),
        ("{}".to_owned(), "nothing"),
    ] {
        let result = two.rooms().receive(&room, &one.name, &forged).await;
        assert!(result.is_err(), "{what}: {result:?}");
    }
    let redacted = json.replace("true", "false");
    let verdict = two.rooms().receive(&room, &one.name, &redacted).await;
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    assert!(two.said(&room_id).await.is_empty());
    assert_eq!(state, two.state(&room_id).await);
}

/// An event of a server, changed and signed anew.
fn changed(
    server: &Server,
    json: &str,
    version: &RoomVersion,
    change: impl FnOnce(&mut CanonicalJsonObject),
) -> String {
    let mut object: CanonicalJsonObject = serde_json::from_str(json).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    change(&mut object);
    let key = &server.rooms().key;
    let rules = &version.rules().redaction;
    hash_and_sign_event(server.name.as_str(), &**key, &mut object, rules).unwrap();
    serde_json::to_string(&object).unwrap()
}

/// An event of a server, with another text and signed by another key of that server.
fn signed_by(key: &ServerKey, json: &str, text: &str, version: &RoomVersion) -> String {
    let mut object: CanonicalJsonObject = serde_json::from_str(json).unwrap();
    object.remove("hashes");
    object.remove("signatures");
    object.insert("content".to_owned(), says(text));
    let (name, rules) = (key.server_name().as_str(), &version.rules().redaction);
    hash_and_sign_event(name, key, &mut object, rules).unwrap();
    serde_json::to_string(&object).unwrap()
}

/// What others know of a key.
fn known_until(key: &ServerKey, valid_until: ruma::UInt) -> KnownKey {
    KnownKey {
        key: Base64::new(key.public_key().to_vec()),
        valid_until: MilliSecondsSinceUnixEpoch(valid_until),
    }
}

fn id_of(key: &ServerKey) -> OwnedServerSigningKeyId {
    format!("ed25519:{}", key.version()).try_into().unwrap()
}

#[tokio::test]
async fn a_server_knows_what_it_signed_with_a_key_that_it_no_longer_uses() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
    let old = ServerKey::from_der(one.name.clone(), &ServerKey::generate(), "old").unwrap();
    let said = one.say(&room_id, "new").await;
    let json = signed_by(&old, &one.pdu(&said).await, "old", &version);
    let room = one.rooms().room(&room_id).await.unwrap();
    let receive = async || one.rooms().receive(&room, &two.name, &json).await.unwrap();
    let unknown = receive().await;
    assert!(matches!(unknown, Verdict::Unanchored(_)), "{unknown:?}");
    let place = (one.name.clone(), id_of(&old));
    let known = known_until(&old, ruma::UInt::MAX);
    net.keys.lock().unwrap().insert(place, known);
    assert_eq!(receive().await, Verdict::Accepted);
    assert_eq!(one.said(&room_id).await, ["new", "old"]);
}

#[tokio::test]
async fn what_is_signed_by_a_key_that_has_run_out_waits_until_its_server_tells_more() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = two.say(&room_id, "hello").await;
    let key = &two.rooms().key;
    let place = (two.name.clone(), id_of(key));
    let tell = |until| {
        let known = known_until(key, until);
        net.keys.lock().unwrap().insert(place.clone(), known);
    };
    tell(ruma::uint!(1));
    let verdict = two.give(&one, &room_id, &said).await.unwrap();
    assert!(matches!(verdict, Verdict::Unanchored(_)), "{verdict:?}");
    tell(ruma::UInt::MAX);
    let verdict = two.give(&one, &room_id, &said).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_join_that_stands_on_what_can_not_be_checked_says_so_and_goes_through_once_it_can() {
    let net = Arc::new(Net::default());
    let one = net.server("one.test").await;
    let two = net.server("two.test").await;
    let room_id = one.public_room(RoomVersionId::V11).await;
    let key = &one.rooms().key;
    let place = (one.name.clone(), id_of(key));
    let tell = |until| {
        let known = known_until(key, until);
        net.keys.lock().unwrap().insert(place.clone(), known);
    };
    tell(ruma::uint!(1));
    let refused = two.join(&room_id, &one).await.unwrap_err().to_string();
    assert!(refused.contains("can't be checked"), "{refused}");
    tell(ruma::UInt::MAX);
    two.join(&room_id, &one).await.unwrap();
    agree(&one, &two, &room_id).await;
}

fn says(text: &str) -> CanonicalJsonValue {
    let text = CanonicalJsonValue::String(text.to_owned());
    CanonicalJsonValue::Object([("body".to_owned(), text)].into())
}

#[tokio::test]
async fn an_id_that_was_given_is_not_given_again_in_that_room_or_another() {
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let (_net, one, two, room_id) = two(version.clone()).await;
        let version = RoomVersion::new(&version).unwrap();
        let said = one.say(&room_id, "first").await;
        one.give(&two, &room_id, &said).await.unwrap();
        let json = one.pdu(&said).await;
        let room = two.rooms().room(&room_id).await.unwrap();
        let again = two.rooms().receive(&room, &one.name, &json).await;
        assert_eq!(again.unwrap(), Verdict::Known);
        let other = changed(&one, &json, &version, |event| {
            event.insert("content".to_owned(), says("second"));
        });
        let refused = two.rooms().receive(&room, &one.name, &other).await;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(two.said(&room_id).await, ["first"]);

        let elsewhere = one.public_room(version.id().clone()).await;
        two.join(&elsewhere, &one).await.unwrap();
        let there = one.say(&elsewhere, "there").await;
        let json = one.pdu(&there).await;
        let taken = changed(&one, &json, &version, |event| {
            event.insert("event_id".to_owned(), said.to_string().into());
        });
        let room = two.rooms().room(&elsewhere).await.unwrap();
        let refused = two.rooms().receive(&room, &one.name, &taken).await;
        assert!(refused.is_err(), "{refused:?}");
        assert!(two.said(&elsewhere).await.is_empty());
        one.give(&two, &elsewhere, &there).await.unwrap();
        assert_eq!(two.said(&elsewhere).await, ["there"]);
    }
}

#[tokio::test]
async fn a_server_that_a_room_keeps_out_is_not_heard_there() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let list = r#"{"allow":["*"],"deny":["two.test"]}"#;
    let list = one.set(&room_id, "m.room.server_acl", "", list).await;
    list.unwrap();
    let said = two.say(&room_id, "after").await;
    let sent = RawValue::from_string(two.pdu(&said).await).unwrap();
    let answers = one.rooms().take_transaction(&two.name, vec![sent]).await;
    assert!(answers.unwrap()[0].1.is_err());
    let state = one.rooms().state_ids_for(&two.name, &room_id, &said).await;
    assert!(state.is_err());
    assert!(one.said(&room_id).await.is_empty());
}

#[tokio::test]
async fn an_event_is_not_built_on_what_stands_in_another_room() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
    let elsewhere = one.public_room(RoomVersionId::V11).await;
    two.join(&elsewhere, &one).await.unwrap();
    let there = one.say(&elsewhere, "there").await;
    one.give(&two, &elsewhere, &there).await.unwrap();
    let said = one.say(&room_id, "here").await;
    let json = one.pdu(&said).await;
    let crossed = changed(&one, &json, &version, |event| {
        let prev = CanonicalJsonValue::String(there.to_string());
        event.insert(
            "prev_events".to_owned(),
            CanonicalJsonValue::Array(vec![prev]),
        );
    });
    let state = two.state(&room_id).await;
    let room = two.rooms().room(&room_id).await.unwrap();
    let verdict = two.rooms().receive(&room, &one.name, &crossed).await;
    assert!(
        !matches!(verdict, Ok(Verdict::Accepted | Verdict::SoftFailed(_))),
        "{verdict:?}"
    );
    assert!(two.said(&room_id).await.is_empty());
    assert_eq!(two.state(&room_id).await, state);
}

#[tokio::test]
async fn redactions_of_versions_1_and_2_are_for_the_domain_of_the_event_and_the_power_to_redact() {
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let (_net, one, two, room_id) = two(version.clone()).await;
        let said = two.say(&room_id, "of two").await;
        two.give(&one, &room_id, &said).await.unwrap();
        let redacted = one
            .rooms()
            .redact(&one.user, &room_id, &said, "by-one", None)
            .await
            .unwrap();
        one.give(&two, &room_id, &redacted).await.unwrap();
        assert!(!two.pdu(&said).await.contains("of two"));
        let said = one.say(&room_id, "of one").await;
        one.give(&two, &room_id, &said).await.unwrap();
        let refused = two
            .rooms()
            .redact(&two.user, &room_id, &said, "by-two", None)
            .await;
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn the_past_is_read_from_others_as_far_as_the_user_may_see_it() {
    for (visibility, seen) in [("shared", 150), ("joined", 0)] {
        let net = Arc::new(Net::default());
        let one = net.server("one.test").await;
        let two = net.server("two.test").await;
        let room_id = one.public_room(RoomVersionId::V12).await;
        let content = format!(r#"{{"history_visibility":"{visibility}"}}"#);
        one.set(&room_id, "m.room.history_visibility", "", &content)
            .await
            .unwrap();
        for count in 0..150 {
            one.say(&room_id, &format!("{count:03}")).await;
        }
        two.join(&room_id, &one).await.unwrap();
        let mut said = Vec::new();
        for event in two.read_back(&room_id, 20).await {
            let content: serde_json::Value = serde_json::from_str(event.content()).unwrap();
            said.extend(content["body"].as_str().map(ToOwned::to_owned));
        }
        let expected: Vec<String> = (0..seen).rev().map(|count| format!("{count:03}")).collect();
        assert_eq!(said, expected, "{visibility}");
        agree(&one, &two, &room_id).await;
        assert!(net.asked.lock().unwrap().contains(&"backfill"));
    }
}

#[tokio::test]
async fn what_was_said_at_a_time_is_found_also_where_only_others_have_it() {
    let (net, one, _two, room_id) = two(RoomVersionId::V11).await;
    let third = net.server("three.test").await;
    let first = one.say(&room_id, "first").await;
    let json: serde_json::Value = serde_json::from_str(&one.pdu(&first).await).unwrap();
    let time = json["origin_server_ts"].as_i64().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    for count in 0..120 {
        one.say(&room_id, &count.to_string()).await;
    }
    third.join(&room_id, &one).await.unwrap();
    let found = third
        .rooms()
        .event_near(&third.user, &room_id, time, Direction::Forward)
        .await
        .unwrap();
    assert_eq!(found.event_id, first);
}

/// Numbers that are the same in each run.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[tokio::test]
async fn any_order_of_arrival_gives_the_same_state() {
    for (seed, version) in [
        (1, RoomVersionId::V6),
        (2, RoomVersionId::V11),
        (3, RoomVersionId::V12),
    ] {
        let (net, one, two, room_id) = two(version).await;
        let mut number = numbers(seed);
        let mut others = Vec::new();
        for name in ["a.test", "b.test", "c.test"] {
            let other = net.server(name).await;
            other.join(&room_id, &one).await.unwrap();
            others.push(other);
        }
        let levels = r#"{"state_default":0,"events":{"m.room.power_levels":0}}"#;
        let levels = one.set(&room_id, "m.room.power_levels", "", levels).await;
        let mut events: Vec<(usize, OwnedEventId)> = Vec::new();
        if let Ok(levels) = levels {
            one.give(&two, &room_id, &levels).await.unwrap();
            events.push((0, levels));
        }
        for count in 0..24 {
            let by = number(2);
            let server = [&one, &two][by];
            let places = [
                "m.room.name",
                "m.room.topic",
                "org.example.a",
                "org.example.b",
            ];
            let content = format!(r#"{{"name":"{count}","topic":"{count}"}}"#);
            let place = places[number(places.len())];
            match server.set(&room_id, place, "", &content).await {
                Ok(event) => events.push((by, event)),
                Err(_) => continue,
            }
            // Now and then, the two hear of each other.
            if number(6) == 0 {
                let (by, event) = events[events.len() - 1].clone();
                let (from, to) = [(&one, &two), (&two, &one)][by];
                from.give(to, &room_id, &event).await.unwrap();
            }
        }
        for (by, event) in &events {
            let (from, to) = [(&one, &two), (&two, &one)][*by];
            from.give(to, &room_id, event).await.unwrap();
        }
        agree(&one, &two, &room_id).await;
        for other in &others {
            let mut order: Vec<usize> = (0..events.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, number(at + 1));
            }
            for index in order {
                let (by, event) = &events[index];
                // What is built on something that isn't there is asked for, or comes later.
                let _ = [&one, &two][*by].give(other, &room_id, event).await;
            }
            agree(&one, other, &room_id).await;
        }
    }
}

fn received(by: &Server, room_id: &OwnedRoomId, event_id: OwnedEventId, json: String) -> Received {
    Received {
        room_id: room_id.clone(),
        origin: by.name.clone(),
        event_id,
        json,
    }
}

#[tokio::test]
async fn what_was_received_is_worked_through_once_whatever_is_wrong_with_some_of_it() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = [
        one.say(&room_id, "a").await,
        one.say(&room_id, "b").await,
        one.say(&room_id, "c").await,
    ];
    let mut stored = Vec::new();
    for (index, event) in said.into_iter().enumerate() {
        let json = one.pdu(&event).await;
        // The second is garbled on its way to the disk.
        let json = match index {
            1 => json.replace("\"depth\"", "\"height\""),
            _ => json,
        };
        stored.push(received(&one, &room_id, event, json));
    }
    // As a stop right after the acknowledgement leaves it.
    two.work_on_received(&room_id, stored).await;
    // The gap that the second leaves is filled by the third.
    assert_eq!(two.said(&room_id).await, ["a", "b", "c"]);
    agree(&one, &two, &room_id).await;
}

/// The content of an event, as a server has it.
async fn content(server: &Server, event_id: &OwnedEventId) -> serde_json::Value {
    let json: serde_json::Value = serde_json::from_str(&server.pdu(event_id).await).unwrap();
    json["content"].clone()
}

#[tokio::test]
async fn a_client_learns_of_state_that_a_resolution_brings_back() {
    for use_state_after in [false, true] {
        let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
        let levels = |two_has: u32| {
            format!(
                r#"{{"users":{{"{}":100,"{}":{two_has}}},"state_default":50}}"#,
                one.user.user_id, two.user.user_id
            )
        };
        let first = one.set(&room_id, "m.room.topic", "", r#"{"topic":"first"}"#);
        let first = first.await.unwrap();
        let raised = one
            .set(&room_id, "m.room.power_levels", "", &levels(50))
            .await;
        one.give(&two, &room_id, &first).await.unwrap();
        one.give(&two, &room_id, &raised.unwrap()).await.unwrap();
        let second = two.set(&room_id, "m.room.topic", "", r#"{"topic":"second"}"#);
        let second = second.await.unwrap();
        let (since, room) = two.sync(&room_id, None, use_state_after).await;
        assert!(room.is_some());
        // Meanwhile, and not knowing of that, the other has taken the power to do it.
        let lowered = one
            .set(&room_id, "m.room.power_levels", "", &levels(0))
            .await;
        let lowered = lowered.unwrap();
        let verdict = one.give(&two, &room_id, &lowered).await.unwrap();
        assert_eq!(verdict, Verdict::Accepted);
        let topic = |state: &[(String, String, OwnedEventId)]| {
            let found = state
                .iter()
                .find(|(event_type, _, _)| event_type == "m.room.topic");
            found.unwrap().2.clone()
        };
        assert_eq!(topic(&two.state(&room_id).await), first, "not {second}");
        let (_, room) = two.sync(&room_id, Some(since), use_state_after).await;
        let room = room.unwrap();
        let told = |events: &[Arc<crate::rooms::timeline::TimelineEvent>]| -> Vec<OwnedEventId> {
            events.iter().map(|event| event.event_id.clone()).collect()
        };
        let timeline = told(&room.timeline.events);
        assert_eq!(timeline, std::slice::from_ref(&lowered));
        let mut expected = vec![first];
        if use_state_after {
            expected.push(lowered);
        }
        assert_eq!(told(&room.state), expected);
    }
}

#[tokio::test]
async fn an_event_whose_ancestors_cannot_be_had_is_tried_again() {
    let (net, one, two, room_id) = two(RoomVersionId::V11).await;
    let unheard = one.say(&room_id, "unheard").await;
    let said = one.say(&room_id, "said").await;
    let events = vec![ruma::serde::Raw::<()>::from_json_string(
        one.pdu(&said).await,
    )];
    let events = events.into_iter().map(|event| event.unwrap().into_json());
    net.down.lock().unwrap().insert(one.name.clone());
    let answers = two.rooms().take_transaction(&one.name, events.collect());
    assert!(answers.await.unwrap()[0].1.is_ok());
    let database = &two.rooms().database;
    while database.next_inbox_retry(&room_id).await.unwrap() == Some(0) {
        tokio::task::yield_now().await;
    }
    assert!(two.said(&room_id).await.is_empty());
    let waits = async |most| {
        let full = database.full_inboxes([&*room_id], most).await;
        !full.unwrap().is_empty()
    };
    assert!(waits(0).await && !waits(1).await);
    assert_eq!(
        database.inbox_retries(&room_id, &one.name).await.unwrap(),
        1
    );
    net.down.lock().unwrap().clear();
    // As if its time had come.
    let json = one.pdu(&said).await;
    let again = received(&one, &room_id, said, json);
    two.work_on_received(&room_id, vec![again]).await;
    assert_eq!(two.said(&room_id).await, ["unheard", "said"]);
    assert!(database.has_event(&unheard).await.unwrap());
}
