//! The receipts that a server has missed.

use std::collections::HashMap;

use parley_engine::receipts::Receipt;
use parley_storage::destinations::BacklogRow;
use ruma::{ServerName, UserId};
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

use super::{
    Inner,
    delivery::Stopped,
    edus::{edu, said},
    queue::MAX_EDUS,
};

/// Receipts of one EDU.
const MAX_RECEIPTS: usize = 200;

impl Inner {
    /// Tells a server that was gone how far this server's users have read meanwhile, in rooms that it lacks receipts of.
    pub(super) async fn tell_receipts(
        &self,
        server: &ServerName,
        rows: Vec<BacklogRow>,
    ) -> Result<(), Stopped> {
        let counts: Vec<(i64, u64)> = {
            let mut queues = self.queues();
            let receipts = &queues.of(server).receipts;
            let count = |row: &BacklogRow| (row.room_nid, receipts.count(row.room_nid));
            rows.iter().map(count).collect()
        };
        let mut since = HashMap::new();
        let mut rooms = HashMap::new();
        for row in &rows {
            let servers = self.servers_in(row.room_nid).await;
            if let Some(room_id) = self.room_id(row.room_nid).await
                && servers.iter().any(|name| name == server)
            {
                since.insert(row.room_nid, row.position);
                rooms.insert(row.room_nid, room_id);
            }
        }
        let known = self
            .database
            .receipts_of_rooms(rooms.keys().copied().collect())
            .await
            .map_err(Stopped::Unreadable)?;
        let missed = known.iter().filter(|receipt| {
            receipt.receipt_type == "m.read"
                && receipt.user_id.server_name() == self.client.own_name()
                && since
                    .get(&receipt.room_nid)
                    .is_some_and(|since| receipt.position >= *since)
        });
        for edus in edus(missed, &rooms).chunks(MAX_EDUS) {
            self.transact(server, Vec::new(), edus.to_vec()).await?;
        }
        let told = self.queues().of(server).receipts.caught_up(&counts);
        let ended = self.database.end_receipt_backlog(server.as_str(), told);
        ended.await.map_err(Stopped::Unreadable)
    }
}

/// Receipts as EDUs. One has room for one receipt of each user in a room, so those of threads go into several.
fn edus<'a>(
    receipts: impl Iterator<Item = &'a Receipt>,
    rooms: &HashMap<i64, String>,
) -> Vec<Box<RawValue>> {
    let mut layers: HashMap<(i64, &UserId), usize> = HashMap::new();
    let mut edus: Vec<Vec<Vec<&Receipt>>> = Vec::new();
    for receipt in receipts {
        let layer = layers
            .entry((receipt.room_nid, &receipt.user_id))
            .or_default();
        if edus.len() == *layer {
            edus.push(Vec::new());
        }
        let layer_edus = &mut edus[*layer];
        *layer += 1;
        match layer_edus.last_mut() {
            Some(last) if last.len() < MAX_RECEIPTS => last.push(receipt),
            _ => layer_edus.push(vec![receipt]),
        }
    }
    let written = edus.into_iter().flatten();
    let written = written
        .filter_map(|receipts| to_raw_value(&edu("m.receipt", &content(&receipts, rooms))).ok());
    written.collect()
}

fn content(receipts: &[&Receipt], rooms: &HashMap<i64, String>) -> Value {
    let mut content: HashMap<&str, Map<String, Value>> = HashMap::new();
    for receipt in receipts {
        if let Some(room_id) = rooms.get(&receipt.room_nid) {
            let users = content.entry(room_id).or_default();
            users.insert(receipt.user_id.to_string(), said(receipt));
        }
    }
    let by_room = content.into_iter().map(|(room_id, users)| {
        let mut read = Map::new();
        read.insert("m.read".to_owned(), users.into());
        (room_id.to_owned(), Value::from(read))
    });
    by_room.collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedUserId, event_id};

    use super::*;

    fn receipt(room_nid: i64, user: usize, thread: &str) -> Receipt {
        Receipt {
            room_nid,
            user_id: OwnedUserId::try_from(format!("@{user}:a")).unwrap(),
            receipt_type: "m.read".to_owned(),
            thread: thread.to_owned(),
            event_id: event_id!("$e").to_owned(),
            event_position: 1,
            received_at: 5,
            position: 9,
        }
    }

    #[test]
    fn an_edu_has_one_receipt_of_each_user_in_a_room_and_no_more_than_it_may() {
        let rooms = HashMap::from([(1, "!a:a".to_owned()), (2, "!b:a".to_owned())]);
        let mut receipts: Vec<Receipt> = (0..250).map(|user| receipt(1, user, "")).collect();
        receipts.push(receipt(1, 7, "main"));
        receipts.push(receipt(2, 7, ""));
        let edus = edus(receipts.iter(), &rooms);
        let told: Vec<Value> = edus
            .iter()
            .map(|edu| serde_json::from_str(edu.get()).unwrap())
            .collect();
        let count = |edu: &Value, room: &str| {
            let users = edu["content"][room]["m.read"].as_object();
            users.map_or(0, Map::len)
        };
        let counts: Vec<_> = told
            .iter()
            .map(|edu| (count(edu, "!a:a"), count(edu, "!b:a")))
            .collect();
        assert_eq!(counts, [(200, 0), (50, 1), (1, 0)]);
        assert_eq!(told[2]["edu_type"], "m.receipt");
        assert_eq!(
            told[2]["content"]["!a:a"]["m.read"]["@7:a"],
            serde_json::json!({ "data": { "ts": 5, "thread_id": "main" }, "event_ids": ["$e"] })
        );
    }
}
