//! What push rules look at in an event, found out once for all members of a room.

use std::sync::LazyLock;

use parley_protocol::client_event;
use ruma::{
    OwnedEventId, UserId,
    events::AnySyncTimelineEvent,
    push::{Action, AnyPushRuleRef, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    serde::Raw,
    uint, user_id,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

use super::judgement::Values;
use crate::{
    push::server_default,
    rooms::{room::Room, state::RoomState, timeline::TimelineEvent},
};

/// What an event does to a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) notifies: bool,
    pub(super) highlights: bool,
}

impl From<AnyPushRuleRef<'_>> for Outcome {
    fn from(rule: AnyPushRuleRef<'_>) -> Self {
        Self {
            notifies: rule.triggers_notification(),
            highlights: rule.triggers_notification() && rule.triggers_highlight(),
        }
    }
}

/// An event as push rules see it.
#[derive(Debug)]
pub(super) struct Facts {
    values: Values,
    /// How long the event is, in bytes.
    length: usize,
    /// What it does to somebody with the server's rules whom it doesn't name.
    anyone: Outcome,
    /// The thread it is in, found out when it is needed.
    pub(super) thread: OnceCell<Box<str>>,
    /// For a redaction: where the event stands that it redacts.
    pub(super) redacts: OnceCell<Option<i64>>,
}

/// The server's rules without those that look for a certain user.
static RULES_FOR_ANYONE: LazyLock<Ruleset> = LazyLock::new(|| {
    let mut rules = server_default(nobody());
    rules.content.clear();
    rules.override_.retain(|rule| {
        !matches!(
            rule.rule_id.as_str(),
            ".m.rule.invite_for_me" | ".m.rule.is_user_mention" | ".m.rule.contains_display_name"
        )
    });
    rules
});

/// Somebody who is in no room.
fn nobody() -> &'static UserId {
    user_id!("@nobody:invalid")
}

/// What rules may ask of a room.
pub(super) fn context(
    room: &Room,
    state: &RoomState,
    user_id: &UserId,
    display_name: String,
) -> PushConditionRoomCtx {
    let members = u32::try_from(state.joined_count()).map_or(uint!(0), Into::into);
    let power_levels = PushConditionPowerLevelsCtx::from(state.power_levels().clone());
    PushConditionRoomCtx::new(
        room.id().to_owned(),
        members,
        user_id.to_owned(),
        display_name,
    )
    .with_power_levels(power_levels)
}

/// What rules say to an event.
async fn judge(rules: &Ruleset, values: &Values, context: &PushConditionRoomCtx) -> Outcome {
    let rule = values.rule(rules, context).await;
    rule.map(Outcome::from).unwrap_or_default()
}

impl Facts {
    pub(super) async fn new(room: &Room, state: &RoomState, event: &TimelineEvent) -> Self {
        let mut json = String::with_capacity(event.body.len() + 128);
        client_event::write(&mut json, &event.body, Some(room.id()), |json| {
            json.push_str("{}");
        });
        // A body is JSON that was read or written here.
        let json = RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let context = context(room, state, nobody(), String::new());
        Self::of(&Raw::from_json(json), &context).await
    }

    async fn of(event: &Raw<AnySyncTimelineEvent>, context: &PushConditionRoomCtx) -> Self {
        let values = Values::new(event);
        Self {
            anyone: judge(&RULES_FOR_ANYONE, &values, context).await,
            length: event.json().get().len(),
            values,
            thread: OnceCell::new(),
            redacts: OnceCell::new(),
        }
    }

    /// About how much memory this takes: the values and, in small letters, the text.
    pub(super) fn bytes(&self) -> u64 {
        const OVERHEAD: u64 = 1_000;
        OVERHEAD + 3 * self.length as u64
    }

    /// What it does to somebody whom it doesn't name, by the server's rules.
    pub(super) fn anyone(&self) -> Outcome {
        self.anyone
    }

    /// What it does by these rules.
    pub(super) async fn judged(&self, rules: &Ruleset, context: &PushConditionRoomCtx) -> Outcome {
        judge(rules, &self.values, context).await
    }

    /// What the rule says that applies to it; nothing, if there is none.
    pub(super) async fn actions(
        &self,
        rules: &Ruleset,
        context: &PushConditionRoomCtx,
    ) -> Vec<Action> {
        let rule = self.values.rule(rules, context).await;
        rule.map(|rule| rule.actions().to_vec()).unwrap_or_default()
    }

    /// Whether its text has to be looked through for the names of users.
    pub(super) fn has_text(&self) -> bool {
        self.values.text().is_some()
    }

    /// Whether it may name a user; one of the rules that look for names then has to say whether it does.
    pub(super) fn may_name(&self, user_id: &UserId, display_name: &str) -> bool {
        if self.values.mentions(user_id) {
            return true;
        }
        let Some(text) = self.values.text() else {
            return false;
        };
        let contains = |name: &str| !name.is_empty() && text.contains(&name.to_lowercase());
        let localpart = user_id.localpart();
        // A rule has the localpart as its pattern: it may hold what a pattern understands as any text.
        localpart.contains(['*', '?']) || contains(localpart) || contains(display_name)
    }

    /// How it relates to another event.
    pub(super) fn relation(&self) -> Option<Relation> {
        self.values.relation()
    }

    /// The event that it redacts.
    pub(super) fn redacted_event(&self) -> Option<OwnedEventId> {
        self.values.redacted_event()
    }
}

/// How an event relates to another.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Relation {
    pub(super) event_id: OwnedEventId,
    pub(super) rel_type: String,
}

impl Relation {
    /// Whether it puts the event into the thread that begins with the other.
    pub(super) fn is_thread(&self) -> bool {
        self.rel_type == "m.thread"
    }

    /// Reads the relation of a PDU.
    pub(super) fn of_pdu(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Pdu {
            content: Content,
        }
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relation: Relation,
        }
        let pdu: Pdu = serde_json::from_str(json).ok()?;
        Some(pdu.content.relation)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id};
    use serde_json::{Value, json};

    use super::*;

    async fn facts(content: Value) -> Facts {
        let event = json!({
            "content": content,
            "event_id": "$e",
            "origin_server_ts": 1,
            "room_id": "!r:x",
            "sender": "@bob:x",
            "type": "m.room.message",
        });
        let event: Raw<AnySyncTimelineEvent> = serde_json::from_value(event).unwrap();
        Facts::of(&event, &context_of(nobody(), "")).await
    }

    fn context_of(user_id: &UserId, name: &str) -> PushConditionRoomCtx {
        PushConditionRoomCtx::new(
            owned_room_id!("!r:x"),
            uint!(5),
            user_id.to_owned(),
            name.to_owned(),
        )
    }

    /// The short way must say what all rules say: for each of these messages and each of these users.
    #[tokio::test]
    async fn who_is_not_named_is_judged_as_by_all_rules() {
        let messages = [
            json!({ "msgtype": "m.text", "body": "hi" }),
            json!({ "msgtype": "m.notice", "body": "hi ada" }),
            json!({ "msgtype": "m.text", "body": "hi Ada!" }),
            json!({ "msgtype": "m.text", "body": "Grace H is here" }),
            json!({ "msgtype": "m.text", "body": "adamant" }),
            json!({ "msgtype": "m.text", "body": "@room" }),
            json!({ "msgtype": "m.text", "body": "ada", "m.mentions": {} }),
            json!({ "msgtype": "m.text", "body": "x", "m.mentions": { "user_ids": ["@ada:x"] } }),
            json!({ "msgtype": "m.text", "body": "x", "m.mentions": { "room": true } }),
            json!({
                "msgtype": "m.text",
                "body": "* ada",
                "m.relates_to": { "rel_type": "m.replace", "event_id": "$0" },
            }),
            json!({}),
        ];
        let users = [
            (owned_user_id!("@ada:x"), ""),
            (owned_user_id!("@grace:x"), "Grace H"),
            (owned_user_id!("@eve:x"), "Eve"),
        ];
        for message in messages {
            let facts = facts(message.clone()).await;
            for (user_id, name) in &users {
                let context = context_of(user_id, name);
                let all = facts.judged(&server_default(user_id), &context).await;
                if !facts.may_name(user_id, name) {
                    assert_eq!(facts.anyone(), all, "{message} for {user_id}");
                }
                if all.highlights {
                    assert!(facts.may_name(user_id, name), "{message} for {user_id}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_relation_is_read_from_an_event_and_from_a_pdu() {
        let content = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": "$root" } });
        let relation = facts(content.clone()).await.relation().unwrap();
        assert!(relation.is_thread());
        let pdu = json!({ "content": content }).to_string();
        let relation = Relation::of_pdu(&pdu).unwrap();
        assert_eq!(relation.event_id, "$root");
    }
}
