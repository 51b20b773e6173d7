//! Servers that a room keeps out.

use ruma::api::error::ErrorKind;

use super::*;
use crate::{
    EngineError,
    rooms::federation::{
        invite::SentInvite,
        join::raw,
        serve::{Gap, SentMember},
    },
};

fn is_kept_out<T: std::fmt::Debug>(answer: Result<T, EngineError>, what: &str) {
    let error = answer.expect_err(what);
    assert_eq!(error.kind(), Some(&ErrorKind::Forbidden), "{what}");
    assert!(
        error.to_string().contains("keeps your server out"),
        "{what}"
    );
}

/// Has a room keep the second server out, and no other.
async fn keep_out(one: &Server, room_id: &RoomId) {
    let acl = r#"{"allow":["*"],"deny":["two.test"]}"#;
    let set = one.set(room_id, "m.room.server_acl", "", acl).await;
    set.unwrap();
}

#[tokio::test]
async fn a_server_that_is_kept_out_gets_nobody_in_or_out() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let user = &two.user.user_id;
    let join = member_event(&two, &room_id, user).await;
    let event = raw(&two.pdu(&join).await).unwrap();
    keep_out(&one, &room_id).await;
    for membership in [
        MembershipState::Join,
        MembershipState::Leave,
        MembershipState::Knock,
    ] {
        let versions = [RoomVersionId::V11];
        let versions = (membership != MembershipState::Leave).then_some(versions.as_slice());
        let made =
            one.rooms()
                .make_membership(&two.name, &room_id, user, membership.clone(), versions);
        is_kept_out(made.await, "make");
        let sent = SentMember {
            origin: &two.name,
            room_id: &room_id,
            event_id: &join,
            event: &event,
        };
        let taken = one.rooms().take_membership(sent, membership);
        is_kept_out(taken.await.map(drop), "send");
    }
}

#[tokio::test]
async fn a_server_that_is_kept_out_is_told_nothing_of_a_room() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = one.say(&room_id, "hello").await;
    keep_out(&one, &room_id).await;
    let (rooms, origin) = (one.rooms(), &*two.name);
    is_kept_out(
        rooms.state_for_server(origin, &room_id, &said).await,
        "state",
    );
    is_kept_out(
        rooms.state_ids_for(origin, &room_id, &said).await,
        "state_ids",
    );
    is_kept_out(
        rooms.event_auth(origin, &room_id, &said).await,
        "event_auth",
    );
    let from = vec![said.clone()];
    is_kept_out(
        rooms.backfill_for(origin, &room_id, from.clone(), 10).await,
        "backfill",
    );
    let gap = Gap {
        earliest: Vec::new(),
        latest: from,
        limit: 10,
        min_depth: 0,
    };
    is_kept_out(
        rooms.missing_for(origin, &room_id, gap).await,
        "get_missing_events",
    );
    let event = rooms.event_for_server(origin, &said).await.unwrap_err();
    assert_eq!(event.kind(), Some(&ErrorKind::NotFound));
    assert!(!rooms.heeds_server(origin, &room_id).await.unwrap());
}

#[tokio::test]
async fn what_a_server_that_is_kept_out_sends_is_refused_event_by_event() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    keep_out(&one, &room_id).await;
    let said = two.say(&room_id, "still here").await;
    let event = raw(&two.pdu(&said).await).unwrap();
    let answers = one.rooms().take_transaction(&two.name, vec![event]).await;
    let (id, answer) = answers.unwrap().pop().unwrap();
    assert_eq!(id, said);
    assert!(answer.unwrap_err().contains("keeps your server out"));
}

#[tokio::test]
async fn a_server_that_is_kept_out_cannot_invite_to_the_room() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let details = MembershipDetails::default();
    let invited = one
        .engine
        .accounts()
        .create(crate::accounts::NewUser {
            username: Some("invited".to_owned()),
            ..crate::accounts::NewUser::default()
        })
        .await
        .unwrap();
    let (founder, user) = (&one.user.user_id, &two.user.user_id);
    let levels = format!(r#"{{"users":{{"{founder}":100,"{user}":50}}}}"#);
    let levels = one.set(&room_id, "m.room.power_levels", "", &levels).await;
    one.give(&two, &room_id, &levels.unwrap()).await.unwrap();
    keep_out(&one, &room_id).await;
    // The second server hasn't heard that it is kept out.
    let invite = two
        .rooms()
        .invite(&two.user, &room_id, &invited.user_id, &details)
        .await;
    is_kept_out(invite, "the invitation");
    // Nor does it matter whether it is one: who is kept out learns nothing else.
    let event = raw("{}").unwrap();
    let sent = SentInvite {
        origin: &two.name,
        room_id: &room_id,
        event_id: ruma::event_id!("$none"),
        version: Some(&RoomVersionId::V11),
        event: &event,
        room_state: &[],
    };
    is_kept_out(one.rooms().take_invite(sent).await, "/invite");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_keeps_all_others_out_and_not_this_server() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let acl = one.set(&room_id, "m.room.server_acl", "", r#"{"allow":["*"]}"#);
    let acl = one.pdu(&acl.await.unwrap()).await;
    let version = RoomVersion::new(&RoomVersionId::V11).unwrap();
    let wrong = changed(&one, &acl, &version, |event| {
        let list = CanonicalJsonValue::String("*".to_owned());
        let content = CanonicalJsonObject::from([("allow".to_owned(), list)]);
        event.insert("content".to_owned(), CanonicalJsonValue::Object(content));
    });
    let room = two.rooms().room(&room_id).await.unwrap();
    let verdict = two.rooms().receive(&room, &one.name, &wrong).await;
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    let heeds = two.rooms().heeds_server(&one.name, &room_id).await;
    assert!(!heeds.unwrap());
    two.say(&room_id, "to myself").await;
    assert_eq!(two.said(&room_id).await, ["to myself"]);
}
