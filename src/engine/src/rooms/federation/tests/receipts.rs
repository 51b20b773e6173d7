//! Receipts that other servers tell.

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
