//! What waits for one server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::value::RawValue;

/// Events and other things of one transaction.
/// <https://spec.matrix.org/v1.19/server-server-api/#transactions>
pub(super) const MAX_PDUS: usize = 50;
pub(super) const MAX_EDUS: usize = 100;
/// What isn't durable and waits: the oldest gives way.
const MAX_WAITING_EDUS: usize = 1_000;

/// An event that waits.
#[derive(Clone, Debug)]
pub(super) struct WaitingPdu {
    pub(super) position: i64,
    pub(super) room_nid: i64,
    pub(super) json: Arc<RawValue>,
}

/// What an EDU is about: a newer one about the same takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Typing(i64, Box<str>),
    Receipt(i64, Box<str>, Box<str>),
    Presence(Box<str>),
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pdus: VecDeque<WaitingPdu>,
    edus: VecDeque<(Subject, Arc<RawValue>)>,
    /// Rooms of which it lacks something, and how often that was found.
    behind: HashMap<i64, u64>,
    /// Whether there may be notes of what it lacks.
    pub(super) has_backlog: bool,
    /// Whether somebody delivers.
    pub(super) busy: bool,
}

impl Queue {
    /// How much waits here.
    pub(super) fn len(&self) -> usize {
        self.pdus.len() + self.edus.len()
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0 && !self.has_backlog && !self.busy
    }

    /// The oldest event that waits.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.pdus.iter().map(|pdu| pdu.position).min()
    }

    pub(super) fn push(&mut self, pdu: WaitingPdu) {
        self.pdus.push_back(pdu);
    }

    pub(super) fn push_edu(&mut self, subject: Subject, edu: Arc<RawValue>) {
        self.edus.retain(|(known, _)| *known != subject);
        if self.edus.len() >= MAX_WAITING_EDUS {
            self.edus.pop_front();
        }
        self.edus.push_back((subject, edu));
    }

    /// What the next transaction holds. Events stay here until [`Queue::delivered`]; the rest isn't worth a second try.
    pub(super) fn next(&mut self) -> (Vec<WaitingPdu>, Vec<Arc<RawValue>>) {
        let pdus = self.pdus.iter().take(MAX_PDUS).cloned().collect();
        let edus = self.edus.len().min(MAX_EDUS);
        let edus = self.edus.drain(..edus).map(|(_, edu)| edu).collect();
        (pdus, edus)
    }

    /// The first events were delivered.
    pub(super) fn delivered(&mut self, count: usize) {
        self.pdus.drain(..count.min(self.pdus.len()));
    }

    /// Gives up: all events that wait, of each room the newest one's position. Nothing waits any more.
    pub(super) fn give_up(&mut self) -> HashMap<i64, i64> {
        self.edus.clear();
        let mut rooms = HashMap::new();
        for pdu in self.pdus.drain(..) {
            let newest = rooms.entry(pdu.room_nid).or_insert(pdu.position);
            *newest = pdu.position.max(*newest);
        }
        rooms
    }

    /// Counts that it lacks something of a room; whether that is new.
    pub(super) fn is_behind(&mut self, room_nid: i64) -> bool {
        let count = self.behind.entry(room_nid).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// How often it was found that it lacks something of a room.
    pub(super) fn behind(&self, room_nid: i64) -> u64 {
        self.behind.get(&room_nid).copied().unwrap_or(0)
    }

    /// It has been told of a room, as of when it was found behind so often. Whether that is all.
    pub(super) fn caught_up(&mut self, room_nid: i64, count: u64) -> bool {
        if self.behind(room_nid) != count {
            return false;
        }
        self.behind.remove(&room_nid);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdu(position: i64, room_nid: i64) -> WaitingPdu {
        WaitingPdu {
            position,
            room_nid,
            json: raw("{}"),
        }
    }

    fn raw(json: &str) -> Arc<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap().into()
    }

    #[test]
    fn events_stay_until_they_are_delivered_and_come_in_fifties() {
        let mut queue = Queue::default();
        (1..=120).for_each(|position| queue.push(pdu(position, 1)));
        assert_eq!(queue.next().0.len(), 50);
        assert_eq!(queue.oldest(), Some(1));
        queue.delivered(50);
        assert_eq!(queue.oldest(), Some(51));
        assert_eq!(queue.next().0[0].position, 51);
        assert_eq!(queue.len(), 70);
    }

    #[test]
    fn of_what_is_fleeting_the_newest_about_a_subject_is_sent() {
        let mut queue = Queue::default();
        let presence = |user: &str| Subject::Presence(user.into());
        queue.push_edu(presence("a"), raw("1"));
        queue.push_edu(presence("b"), raw("2"));
        queue.push_edu(presence("a"), raw("3"));
        let texts: Vec<String> = queue
            .next()
            .1
            .iter()
            .map(|edu| edu.get().to_owned())
            .collect();
        assert_eq!(texts, ["2", "3"]);
        (0..5_000).for_each(|user| queue.push_edu(presence(&user.to_string()), raw("4")));
        assert_eq!(queue.len(), MAX_WAITING_EDUS);
        assert_eq!(queue.next().1.len(), MAX_EDUS);
    }

    #[test]
    fn what_cannot_be_delivered_is_a_note_for_each_room() {
        let mut queue = Queue::default();
        for (position, room) in [(1, 7), (2, 8), (3, 7)] {
            queue.push(pdu(position, room));
        }
        assert_eq!(queue.give_up(), HashMap::from([(7, 3), (8, 2)]));
        assert_eq!(queue.len(), 0);
        assert!(queue.is_behind(7));
        assert!(!queue.is_behind(7), "a room is noted once");
    }

    #[test]
    fn what_comes_up_while_a_room_is_told_is_not_forgotten() {
        let mut queue = Queue::default();
        queue.is_behind(7);
        let count = queue.behind(7);
        queue.is_behind(7);
        assert!(!queue.caught_up(7, count));
        let count = queue.behind(7);
        assert!(queue.caught_up(7, count));
    }
}
