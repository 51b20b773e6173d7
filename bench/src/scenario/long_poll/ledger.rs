//! Who has received which message, how often.

use tokio::time::Instant;

/// A book of every message and every poller.
#[derive(Debug)]
pub(super) struct Ledger {
    messages: Vec<Message>,
    /// By poller, then by message: how often it arrived.
    arrivals: Vec<Vec<u16>>,
    /// Answers of /sync to pollers.
    pub(super) polls: u64,
    /// Those of them that left out messages.
    pub(super) gaps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    sent: Option<Instant>,
    /// Whether the server may lose it, because it did not accept it.
    may_be_lost: bool,
}

impl Ledger {
    /// For this many pollers and messages, none of which has been sent.
    pub(super) fn new(pollers: usize, messages: usize) -> Self {
        Self {
            messages: vec![
                Message {
                    sent: None,
                    may_be_lost: false
                };
                messages
            ],
            arrivals: vec![vec![0; messages]; pollers],
            polls: 0,
            gaps: 0,
        }
    }

    /// A message is about to be sent.
    pub(super) fn sent(&mut self, message: usize, now: Instant) {
        self.messages[message].sent = Some(now);
    }

    /// The server answered with an error or not at all, so the message may arrive or not.
    pub(super) fn not_acknowledged(&mut self, message: usize) {
        self.messages[message].may_be_lost = true;
    }

    /// A message has arrived. Gives when it was sent if it's the first time for this poller; a number that was
    /// never sent is none of ours.
    pub(super) fn arrived(&mut self, poller: usize, message: usize) -> Option<Instant> {
        let sent = self.messages.get(message)?.sent?;
        let times = &mut self.arrivals[poller][message];
        *times = times.saturating_add(1);
        (*times == 1).then_some(sent)
    }

    /// Deliveries that must come and have not.
    pub(super) fn missed(&self) -> usize {
        self.count(|message, times| message.sent.is_some() && !message.may_be_lost && times == 0)
    }

    /// Deliveries that came more than once.
    pub(super) fn duplicated(&self) -> usize {
        self.count(|_, times| times > 1)
    }

    fn count(&self, test: impl Fn(&Message, u16) -> bool) -> usize {
        let of_one = |times: &Vec<u16>| {
            self.messages
                .iter()
                .zip(times)
                .filter(|(message, times)| test(message, **times))
                .count()
        };
        self.arrivals.iter().map(of_one).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_pollers_three_messages() -> Ledger {
        let mut ledger = Ledger::new(2, 3);
        let now = Instant::now();
        ledger.sent(0, now);
        ledger.sent(1, now);
        ledger
    }

    #[test]
    fn every_message_once_to_everybody_is_neither_missed_nor_duplicated() {
        let mut ledger = two_pollers_three_messages();
        for poller in 0..2 {
            for message in 0..2 {
                assert!(ledger.arrived(poller, message).is_some());
            }
        }
        assert_eq!((ledger.missed(), ledger.duplicated()), (0, 0));
    }

    #[test]
    fn a_message_that_one_poller_never_gets_is_missed_once() {
        let mut ledger = two_pollers_three_messages();
        ledger.arrived(0, 0);
        ledger.arrived(0, 1);
        ledger.arrived(1, 1);
        assert_eq!(ledger.missed(), 1);
    }

    #[test]
    fn a_message_that_comes_twice_is_duplicated_and_timed_once() {
        let mut ledger = two_pollers_three_messages();
        assert!(ledger.arrived(1, 0).is_some());
        assert!(ledger.arrived(1, 0).is_none());
        assert!(ledger.arrived(0, 0).is_some());
        assert_eq!(ledger.duplicated(), 1);
    }

    #[test]
    fn a_message_that_was_not_acknowledged_may_be_lost_but_not_doubled() {
        let mut ledger = two_pollers_three_messages();
        ledger.not_acknowledged(0);
        ledger.not_acknowledged(1);
        assert_eq!(ledger.missed(), 0);
        ledger.arrived(0, 0);
        ledger.arrived(0, 0);
        assert_eq!((ledger.missed(), ledger.duplicated()), (0, 1));
    }

    #[test]
    fn messages_that_were_never_sent_are_ignored() {
        let mut ledger = two_pollers_three_messages();
        assert!(ledger.arrived(0, 2).is_none());
        assert!(ledger.arrived(0, 99).is_none());
        assert_eq!(ledger.duplicated(), 0);
    }
}
