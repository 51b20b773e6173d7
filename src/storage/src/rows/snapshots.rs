//! The rows of states, and of events that stand in no timeline.

use crate::{
    Result, Transaction,
    commit::{Assigned, NewOutlier, NewSnapshot, SnapshotChanges, event_key},
    insert::{Column, insert},
    names::Interned,
    state::merge_deltas,
    statement::statement,
};

#[derive(Debug, Default)]
pub(super) struct Outliers {
    position: Vec<i64>,
    room: Vec<i64>,
    event_id: Vec<Vec<u8>>,
    slot: Vec<Option<i64>>,
    depth: Vec<i64>,
    standing: Vec<String>,
    snapshot: Vec<Option<i64>>,
    json: Vec<String>,
    /// Position, standing and snapshot of those that are stored already.
    changed: Vec<(i64, &'static str, Option<i64>)>,
}

#[derive(Debug, Default)]
pub(super) struct Snapshots {
    position: Vec<i64>,
    parent: Vec<Option<i64>>,
    height: Vec<i64>,
    deltas: Deltas,
    /// Snapshots that take over the changes of others, in order.
    merges: Vec<(i64, Vec<i64>)>,
}

#[derive(Debug, Default)]
struct Deltas {
    snapshot: Vec<i64>,
    slot: Vec<i64>,
    /// 0: nothing stands there any more.
    event: Vec<i64>,
}

impl Outliers {
    /// Takes one in.
    pub(super) fn add(
        &mut self,
        snapshots: &mut Snapshots,
        room_nid: i64,
        outlier: &NewOutlier,
        interned: &Interned,
    ) -> Result<()> {
        let position = outlier.position.get();
        let slot = match &outlier.state_key {
            Some(state_key) => Some(interned.slot(&outlier.event_type, state_key)?),
            None => None,
        };
        let snapshot = match &outlier.snapshot {
            Some(snapshot) => Some(snapshots.add(snapshot, position, slot, interned)?),
            None => None,
        };
        if outlier.is_stored {
            let standing = outlier.standing.as_str();
            self.changed.push((position, standing, snapshot));
            return Ok(());
        }
        self.position.push(position);
        self.room.push(room_nid);
        self.event_id.push(event_key(&outlier.event_id));
        self.slot.push(slot);
        self.depth.push(outlier.depth);
        self.standing.push(outlier.standing.as_str().to_owned());
        self.snapshot.push(snapshot);
        self.json.push(outlier.json.clone());
        Ok(())
    }

    /// Writes them.
    pub(super) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        insert(
            transaction,
            "outliers (position, room_nid, event_id, slot_nid, depth, standing, snapshot, json)",
            vec![
                Column::Int(self.position),
                Column::Int(self.room),
                Column::Bytes(self.event_id),
                Column::OptionalInt(self.slot),
                Column::Int(self.depth),
                Column::Text(self.standing),
                Column::OptionalInt(self.snapshot),
                Column::Text(self.json),
            ],
            "",
        )
        .await?;
        for (position, standing, snapshot) in self.changed {
            statement("UPDATE outliers SET standing = $2, snapshot = $3 WHERE position = $1")
                .bind(position)
                .bind(standing)
                .bind(snapshot)
                .run(transaction)
                .await?;
        }
        Ok(())
    }
}

impl Snapshots {
    /// Takes in a snapshot that is made with an event of `position`, and gives its number.
    pub(super) fn add(
        &mut self,
        snapshot: &NewSnapshot,
        position: i64,
        slot: Option<i64>,
        interned: &Interned,
    ) -> Result<i64> {
        match snapshot {
            NewSnapshot::Same(snapshot) => return Ok(snapshot.get()),
            NewSnapshot::Next {
                parent,
                height,
                merged,
            } => {
                self.push(position, parent.as_ref(), *height, merged);
                self.deltas
                    .push(position, slot.unwrap_or_default(), position);
            }
            NewSnapshot::Changes(changes) => self.add_changes(changes, interned)?,
        }
        Ok(snapshot.id(position))
    }

    fn add_changes(&mut self, snapshot: &SnapshotChanges, interned: &Interned) -> Result<()> {
        let id = snapshot.id.get();
        self.push(
            id,
            snapshot.parent.as_ref(),
            snapshot.height,
            &snapshot.merged,
        );
        for (event_type, state_key, event) in &snapshot.changes {
            let slot = interned.slot(event_type, state_key)?;
            let event = event.as_ref().map_or(0, Assigned::get);
            self.deltas.push(id, slot, event);
        }
        Ok(())
    }

    fn push(&mut self, id: i64, parent: Option<&Assigned>, height: i64, merged: &[Assigned]) {
        self.position.push(id);
        self.parent.push(parent.map(Assigned::get));
        self.height.push(height);
        if !merged.is_empty() {
            let merged = merged.iter().map(Assigned::get).collect();
            self.merges.push((id, merged));
        }
    }

    /// Writes them.
    pub(super) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        insert(
            transaction,
            "state_snapshots (position, parent, height)",
            vec![
                Column::Int(self.position),
                Column::OptionalInt(self.parent),
                Column::Int(self.height),
            ],
            "",
        )
        .await?;
        insert(
            transaction,
            "state_deltas (snapshot, slot_nid, event_position)",
            vec![
                Column::Int(self.deltas.snapshot),
                Column::Int(self.deltas.slot),
                Column::Int(self.deltas.event),
            ],
            "",
        )
        .await?;
        for (snapshot, merged) in self.merges {
            merge_deltas(transaction, snapshot, merged).await?;
        }
        Ok(())
    }
}

impl Deltas {
    fn push(&mut self, snapshot: i64, slot: i64, event: i64) {
        self.snapshot.push(snapshot);
        self.slot.push(slot);
        self.event.push(event);
    }
}
