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
/// Events that wait for one server at most. One that is slower than rooms are gets the newest events of them instead.
const MAX_WAITING_PDUS: usize = 500;
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

/// Something else that waits.
#[derive(Clone, Debug)]
pub(super) struct WaitingEdu {
    pub(super) subject: Subject,
    /// Of a receipt, which isn't to be lost: where it stands in the stream.
    pub(super) position: Option<i64>,
    pub(super) json: Arc<RawValue>,
}

impl WaitingEdu {
    /// Of a receipt, its room and position.
    fn receipt(&self) -> Option<(i64, i64)> {
        match (&self.subject, self.position) {
            (Subject::Receipt(room_nid, ..), Some(position)) => Some((*room_nid, position)),
            _ => None,
        }
    }
}

/// Rooms of which a server lacks something, and how often that was found.
#[derive(Debug, Default)]
pub(super) struct Behind(HashMap<i64, u64>);

impl Behind {
    /// Counts that it lacks something of a room; whether that is new.
    pub(super) fn add(&mut self, room_nid: i64) -> bool {
        let count = self.0.entry(room_nid).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// How often it was found that it lacks something of a room.
    pub(super) fn count(&self, room_nid: i64) -> u64 {
        self.0.get(&room_nid).copied().unwrap_or(0)
    }

    /// It has been told of rooms, each as of when it was found behind so often; gives those of which that is all.
    pub(super) fn caught_up(&mut self, counts: &[(i64, u64)]) -> Vec<i64> {
        let mut told = Vec::with_capacity(counts.len());
        for (room_nid, count) in counts {
            if self.count(*room_nid) == *count {
                self.0.remove(room_nid);
                told.push(*room_nid);
            }
        }
        told
    }
}

/// What a server won't be sent that waited for it: positions by rooms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GivenUp {
    /// The newest event of each room.
    pub(super) events: HashMap<i64, i64>,
    /// The oldest receipt of each room.
    pub(super) receipts: HashMap<i64, i64>,
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pdus: VecDeque<WaitingPdu>,
    edus: VecDeque<WaitingEdu>,
    /// How many of the events, the first, are in the transaction that is under way.
    pdus_under_way: usize,
    /// Receipts of that transaction: room and position.
    receipts_under_way: Vec<(i64, i64)>,
    /// Rooms of which it lacks events.
    pub(super) events: Behind,
    /// Rooms of which it lacks receipts.
    pub(super) receipts: Behind,
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

    /// Takes an event up. If too many wait, none does any more: gives the newest of each room that the server won't be sent.
    #[must_use]
    pub(super) fn push(&mut self, pdu: WaitingPdu) -> HashMap<i64, i64> {
        self.pdus.push_back(pdu);
        match self.pdus.len() > MAX_WAITING_PDUS {
            true => self.give_up_events(),
            false => HashMap::new(),
        }
    }

    pub(super) fn push_edu(&mut self, edu: WaitingEdu) {
        self.edus.retain(|known| known.subject != edu.subject);
        if self.edus.len() >= MAX_WAITING_EDUS {
            self.edus.pop_front();
        }
        self.edus.push_back(edu);
    }

    /// What the next transaction holds. Events stay here until [`Queue::delivered`]; of the rest only receipts are
    /// remembered.
    pub(super) fn next(&mut self) -> (Vec<WaitingPdu>, Vec<Arc<RawValue>>) {
        let pdus: Vec<WaitingPdu> = self.pdus.iter().take(MAX_PDUS).cloned().collect();
        self.pdus_under_way = pdus.len();
        let count = self.edus.len().min(MAX_EDUS);
        let edus: Vec<WaitingEdu> = self.edus.drain(..count).collect();
        self.receipts_under_way = edus.iter().filter_map(WaitingEdu::receipt).collect();
        (pdus, edus.into_iter().map(|edu| edu.json).collect())
    }

    /// The transaction that was under way was taken.
    pub(super) fn delivered(&mut self) {
        let count = self.pdus_under_way.min(self.pdus.len());
        self.pdus.drain(..count);
        self.pdus_under_way = 0;
        self.receipts_under_way.clear();
    }

    /// Gives up: nothing waits any more.
    pub(super) fn give_up(&mut self) -> GivenUp {
        let receipts = self.give_up_receipts();
        self.edus.clear();
        GivenUp {
            events: self.give_up_events(),
            receipts,
        }
    }

    /// Gives up the events that wait or are under way: of each room the newest one's position.
    fn give_up_events(&mut self) -> HashMap<i64, i64> {
        let mut events = HashMap::new();
        for pdu in self.pdus.drain(..) {
            let newest = events.entry(pdu.room_nid).or_insert(pdu.position);
            *newest = pdu.position.max(*newest);
        }
        self.pdus_under_way = 0;
        events
    }

    /// Gives up the receipts that wait or are under way: of each room the oldest one's position.
    pub(super) fn give_up_receipts(&mut self) -> HashMap<i64, i64> {
        let mut receipts = HashMap::new();
        let waiting = self.edus.iter().filter_map(WaitingEdu::receipt);
        for (room_nid, position) in waiting.chain(self.receipts_under_way.drain(..)) {
            let oldest = receipts.entry(room_nid).or_insert(position);
            *oldest = position.min(*oldest);
        }
        self.edus.retain(|edu| edu.receipt().is_none());
        receipts
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
        for position in 1..=120 {
            assert_eq!(queue.push(pdu(position, 1)), HashMap::new());
        }
        assert_eq!(queue.next().0.len(), 50);
        assert_eq!(queue.oldest(), Some(1));
        queue.delivered();
        assert_eq!(queue.oldest(), Some(51));
        assert_eq!(queue.next().0[0].position, 51);
        assert_eq!(queue.len(), 70);
    }

    fn edu(subject: Subject, position: Option<i64>, json: &str) -> WaitingEdu {
        WaitingEdu {
            subject,
            position,
            json: raw(json),
        }
    }

    #[test]
    fn of_what_is_fleeting_the_newest_about_a_subject_is_sent() {
        let mut queue = Queue::default();
        let presence = |user: &str, json: &str| edu(Subject::Presence(user.into()), None, json);
        queue.push_edu(presence("a", "1"));
        queue.push_edu(presence("b", "2"));
        queue.push_edu(presence("a", "3"));
        let texts: Vec<String> = queue
            .next()
            .1
            .iter()
            .map(|edu| edu.get().to_owned())
            .collect();
        assert_eq!(texts, ["2", "3"]);
        (0..5_000).for_each(|user| queue.push_edu(presence(&user.to_string(), "4")));
        assert_eq!(queue.len(), MAX_WAITING_EDUS);
        assert_eq!(queue.next().1.len(), MAX_EDUS);
    }

    #[test]
    fn what_cannot_be_delivered_is_a_note_for_each_room() {
        let mut queue = Queue::default();
        for (position, room) in [(1, 7), (2, 8), (3, 7)] {
            assert_eq!(queue.push(pdu(position, room)), HashMap::new());
        }
        let given_up = queue.give_up();
        assert_eq!(given_up.events, HashMap::from([(7, 3), (8, 2)]));
        assert!(given_up.receipts.is_empty());
        assert_eq!(queue.len(), 0);
        assert!(queue.events.add(7));
        assert!(!queue.events.add(7), "a room is noted once");
    }

    #[test]
    fn a_server_for_which_too_much_waits_is_noted_also_while_it_is_being_told() {
        let mut queue = Queue::default();
        for position in 1..=MAX_WAITING_PDUS as i64 {
            assert_eq!(queue.push(pdu(position, position % 2)), HashMap::new());
        }
        assert_eq!(queue.next().0.len(), 50);
        let newest = HashMap::from([(0, 500), (1, 501)]);
        assert_eq!(queue.push(pdu(501, 1)), newest);
        assert_eq!(queue.oldest(), None);
        assert_eq!(queue.push(pdu(502, 1)), HashMap::new());
        queue.delivered();
        assert_eq!(queue.oldest(), Some(502), "it was in no transaction");
    }

    #[test]
    fn receipts_are_remembered_from_the_oldest_on_until_they_are_delivered() {
        let receipt = |position, room: i64| {
            let subject = Subject::Receipt(room, format!("@{position}:a").into(), "".into());
            edu(subject, Some(position), "1")
        };
        let mut queue = Queue::default();
        queue.push_edu(receipt(4, 7));
        queue.push_edu(edu(Subject::Typing(7, "@a:a".into()), None, "1"));
        assert_eq!(queue.next().1.len(), 2);
        queue.push_edu(receipt(5, 7));
        queue.push_edu(receipt(6, 8));
        assert_eq!(queue.give_up().receipts, HashMap::from([(7, 4), (8, 6)]));
        assert_eq!(queue.give_up(), GivenUp::default());

        queue.push_edu(receipt(9, 7));
        assert_eq!(queue.next().1.len(), 1);
        queue.delivered();
        assert_eq!(queue.give_up(), GivenUp::default());
    }

    #[test]
    fn what_comes_up_while_a_room_is_told_is_not_forgotten() {
        let mut behind = Behind::default();
        behind.add(7);
        behind.add(8);
        let counts = [(7, behind.count(7)), (8, behind.count(8))];
        behind.add(7);
        assert_eq!(behind.caught_up(&counts), [8]);
        let counts = [(7, behind.count(7))];
        assert_eq!(behind.caught_up(&counts), [7]);
        assert_eq!(behind.count(7), 0);
    }
}
