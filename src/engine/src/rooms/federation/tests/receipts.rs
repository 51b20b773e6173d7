//! Receipts that other servers tell.

use ruma::{EventId, event_id};

use super::*;
use crate::receipts::RemoteReceipt;

#[tokio::test]
async fn of_receipts_that_come_together_the_newest_of_each_user_in_each_thread_counts() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let mut said = Vec::new();
    for text in ["first", "second", "third"] {
        said.push(one.say(&room_id, text).await);
    }
    let receipt = |user_id: &UserId, event: usize, thread: Option<&str>| RemoteReceipt {
        room_id: room_id.clone(),
        user_id: user_id.to_owned(),
        event_id: said[event].clone(),
        thread: thread.map(ToOwned::to_owned),
        received_at: 5,
    };
    let user = &two.user.user_id;
    let stranger = ruma::user_id!("@stranger:two.test");
    let receipts = one.engine.receipts();
    let together = vec![
        receipt(user, 2, None),
        receipt(user, 1, None),
        receipt(user, 0, Some("main")),
        receipt(stranger, 2, None),
    ];
    receipts.take(together).await.unwrap();
    receipts.take(vec![receipt(user, 1, None)]).await.unwrap();
    receipts.take(Vec::new()).await.unwrap();
    let room = one.rooms().room(&room_id).await.unwrap();
    let stored = one.rooms().database.receipts_of(room.nid()).await.unwrap();
    let mut stored: Vec<_> = stored
        .into_iter()
        .map(|row| (row.user_id, row.thread, row.event_id))
        .collect();
    stored.sort();
    let expected = [
        (user.clone(), String::new(), said[2].clone()),
        (user.clone(), "main".to_owned(), said[0].clone()),
    ];
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn a_first_receipt_up_to_what_is_not_here_is_told_and_gives_way_to_others() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = one.say(&room_id, "here").await;
    let receipt = |event_id: &EventId, thread: Option<&str>, received_at| RemoteReceipt {
        room_id: room_id.clone(),
        user_id: two.user.user_id.clone(),
        event_id: event_id.to_owned(),
        thread: thread.map(ToOwned::to_owned),
        received_at,
    };
    let room = one.rooms().room(&room_id).await.unwrap();
    let taken = async |receipts: Vec<RemoteReceipt>| {
        one.engine.receipts().take(receipts).await.unwrap();
        let stored = one.rooms().database.receipts_of(room.nid()).await.unwrap();
        let ids = stored.into_iter().map(|row| row.event_id.to_string());
        ids.collect::<Vec<_>>()
    };
    let (elsewhere, later) = (event_id!("$elsewhere"), event_id!("$later"));
    assert_eq!(
        taken(vec![receipt(elsewhere, None, 5)]).await,
        ["$elsewhere"]
    );
    assert_eq!(taken(vec![receipt(later, None, 4)]).await, ["$elsewhere"]);
    assert_eq!(taken(vec![receipt(later, None, 6)]).await, ["$later"]);
    // A thread that is nowhere is none.
    assert_eq!(taken(vec![receipt(later, Some("$t"), 6)]).await, ["$later"]);
    assert_eq!(taken(vec![receipt(&said, None, 1)]).await, [said.as_str()]);
    assert_eq!(taken(vec![receipt(later, None, 7)]).await, [said.as_str()]);
}

#[tokio::test]
async fn receipts_of_one_user_in_any_number_of_threads_are_kept_of_some() {
    let (_net, one, two, room_id) = two(RoomVersionId::V11).await;
    let said = one.say(&room_id, "here").await;
    let receipts = (0..600).map(|thread| RemoteReceipt {
        room_id: room_id.clone(),
        user_id: two.user.user_id.clone(),
        event_id: said.clone(),
        thread: Some(format!("${thread}")),
        received_at: 5,
    });
    for some in receipts.collect::<Vec<_>>().chunks(50) {
        one.engine.receipts().take(some.to_vec()).await.unwrap();
    }
    let room = one.rooms().room(&room_id).await.unwrap();
    let stored = one.rooms().database.receipts_of(room.nid()).await.unwrap();
    assert_eq!(stored.len(), 500);
}
