//! Delivering to one server.

use std::sync::{Arc, atomic::Ordering};

use metrics::counter;
use parley_engine::{clock::timestamp, remote::RemoteError};
use parley_storage::{StorageError, destinations::BacklogRow};
use ruma::{
    OwnedServerName, ServerName, TransactionId,
    api::federation::transactions::send_transaction_message::v1::Request, serde::Raw,
};
use serde_json::value::RawValue;

use super::{
    Inner,
    queue::{MAX_PDUS, WaitingPdu},
};

/// Rooms of which a server is told at once when it is back.
const ROOMS: i64 = 20;

/// Why a delivery ended before its time.
pub(super) enum Stopped {
    /// The server didn't take it.
    NotTaken,
    /// What is to be sent can't be read.
    Unreadable(StorageError),
}

impl Inner {
    /// Sends what waits for a server until nothing does, or the server fails.
    pub(super) async fn deliver(self: Arc<Self>, server: OwnedServerName) {
        loop {
            if self.stopping.is_cancelled() {
                self.queues().of(&server).busy = false;
                return;
            }
            let has_backlog = self.queues().of(&server).has_backlog;
            let result = match has_backlog {
                true => self.catch_up(&server).await,
                false => match self.next(&server).await {
                    Some(result) => result,
                    None => return,
                },
            };
            match result {
                Ok(()) => {}
                Err(stopped) => return self.give_up(&server, stopped).await,
            }
        }
    }

    /// Sends the next transaction; `None` if there is nothing to send, and then nobody delivers any more.
    async fn next(&self, server: &ServerName) -> Option<Result<(), Stopped>> {
        let (pdus, edus) = {
            let mut queues = self.queues();
            let queue = queues.of(server);
            let (pdus, edus) = queue.next();
            if pdus.is_empty() && edus.is_empty() {
                queue.busy = false;
                if queue.is_idle() {
                    queues.by_server.remove(server);
                }
                return None;
            }
            (pdus, edus)
        };
        let events = pdus.iter().map(|pdu| copy(&pdu.json));
        let edus = edus.iter().map(|edu| copy(edu));
        let sent = self
            .transact(server, events.collect(), edus.collect())
            .await;
        if sent.is_ok() {
            self.queues().of(server).delivered();
        }
        Some(sent)
    }

    /// Tells a server that was gone the newest events of rooms that it lacks something of, or, where it has these, the
    /// receipts.
    async fn catch_up(&self, server: &ServerName) -> Result<(), Stopped> {
        self.write_notes().await.map_err(Stopped::Unreadable)?;
        let rows = self.database.backlog(server.as_str(), ROOMS).await;
        let rows = rows.map_err(Stopped::Unreadable)?;
        if !rows.is_empty() {
            return self.tell_events(server, rows).await;
        }
        let rows = self.database.receipt_backlog(server.as_str(), ROOMS).await;
        let rows = rows.map_err(Stopped::Unreadable)?;
        if !rows.is_empty() {
            return self.tell_receipts(server, rows).await;
        }
        let mut queues = self.queues();
        let has_news = queues.unwritten.are_of(server);
        queues.of(server).has_backlog = has_news;
        Ok(())
    }

    async fn tell_events(&self, server: &ServerName, rows: Vec<BacklogRow>) -> Result<(), Stopped> {
        let counts: Vec<(i64, u64)> = {
            let mut queues = self.queues();
            let events = &queues.of(server).events;
            let count = |row: &BacklogRow| (row.room_nid, events.count(row.room_nid));
            rows.iter().map(count).collect()
        };
        let mut events = Vec::new();
        for row in &rows {
            let newest = self.newest(server, row).await;
            events.extend(newest.map_err(Stopped::Unreadable)?);
        }
        events.sort_by_key(|event| event.position);
        for events in events.chunks(MAX_PDUS) {
            let events = events.iter().map(|pdu| copy(&pdu.json)).collect();
            self.transact(server, events, Vec::new()).await?;
        }
        let told = self.queues().of(server).events.caught_up(&counts);
        let ended = self.database.end_backlog(server.as_str(), told).await;
        ended.map_err(Stopped::Unreadable)
    }

    /// The newest events of a room; for a server that is no longer in it, that which put it out.
    async fn newest(
        &self,
        server: &ServerName,
        row: &BacklogRow,
    ) -> Result<Vec<WaitingPdu>, StorageError> {
        let is_in = self
            .servers_in(row.room_nid)
            .await
            .iter()
            .any(|name| name == server);
        let positions = match is_in {
            false => vec![row.position],
            true => {
                let room = self.database.room_by_nid(row.room_nid).await?;
                room.map(|room| room.extremities).unwrap_or_default()
            }
        };
        let events = self.database.events_at(positions).await?;
        let waiting = events.into_iter().filter_map(|event| {
            Some(WaitingPdu {
                position: event.position,
                room_nid: event.room_nid,
                json: RawValue::from_string(event.json).ok()?.into(),
            })
        });
        Ok(waiting.collect())
    }

    pub(super) async fn transact(
        &self,
        server: &ServerName,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
    ) -> Result<(), Stopped> {
        let slot = self.slots.take(server).await;
        let now = self.now();
        let count = self.transactions.fetch_add(1, Ordering::Relaxed);
        // Another one for each content, also after a restart.
        let id = <&TransactionId>::from(&*format!("{now}_{count}")).to_owned();
        let mut request = Request::new(id, self.client.own_name().to_owned(), timestamp(now));
        request.pdus = pdus;
        request.edus = edus.into_iter().map(Raw::from_json).collect();
        let answer = self.client.deliver(server, request);
        let answer = slot.hold(answer).await;
        let outcome = match &answer {
            Ok(_) => "taken",
            Err(_) => "not_taken",
        };
        counter!("parley_federation_transactions_sent_total", "outcome" => outcome).increment(1);
        match answer {
            Ok(answer) => {
                for (event_id, result) in answer.pdus {
                    if let Err(reason) = result {
                        tracing::debug!(%server, %event_id, reason, "an event wasn't taken");
                    }
                }
                Ok(())
            }
            Err(error @ RemoteError::Unreachable(_)) => {
                tracing::debug!(%server, %error, "a transaction wasn't taken");
                Err(Stopped::NotTaken)
            }
            Err(error) => {
                // It would say the same again and again: it is left alone as one that isn't reached, which is told once.
                tracing::debug!(%server, %error, "a transaction was refused");
                let destinations = self.client.destinations();
                let entry = destinations.get(server).await;
                destinations
                    .failed(server, &entry, &error.to_string())
                    .await;
                Err(Stopped::NotTaken)
            }
        }
    }

    /// Notes what a server lacks, and when to try again.
    async fn give_up(&self, server: &ServerName, stopped: Stopped) {
        {
            let mut queues = self.queues();
            let given_up = queues.of(server).give_up();
            for (room_nid, position) in given_up.events {
                queues.lacks(server, room_nid, position, true);
            }
            for (room_nid, position) in given_up.receipts {
                queues.lacks_receipts(server, room_nid, position, true);
            }
            queues.of(server).busy = false;
        }
        match stopped {
            Stopped::NotTaken => self.schedule(server).await,
            Stopped::Unreadable(error) => {
                tracing::warn!(%error, %server, "what a server lacks can't be read");
                let later = self.now() + 10_000;
                self.queues().retries.insert((later, server.to_owned()));
            }
        }
    }

    /// Stores what is to be noted, without moving on. Nothing is on its way to the database afterwards.
    async fn write_notes(&self) -> Result<(), StorageError> {
        let _noting = self.noting.lock().await;
        let unwritten = std::mem::take(&mut self.queues().unwritten);
        match unwritten.is_empty() {
            true => Ok(()),
            false => self.write(None, unwritten).await,
        }
    }
}

fn copy(json: &RawValue) -> Box<RawValue> {
    json.to_owned()
}
