//! Judging an event by push rules.
//!
//! What ruma has for this makes a regular expression of each pattern, each time it is compared: that takes long, and fails
//! for some of the patterns that a user can make.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use ruma::{
    OwnedEventId, UserId,
    events::AnySyncTimelineEvent,
    push::{
        AnyPushRuleRef, ConditionalPushRule, FlattenedJson, FlattenedJsonValue, PatternedPushRule,
        PushCondition, PushConditionRoomCtx, Ruleset, ScalarJsonValue,
    },
    serde::Raw,
};

use super::facts::Relation;
use crate::push::pattern::Pattern;

/// About so many bytes of text are compared before others get their turn.
const STRETCH: usize = 256 * 1024;
/// What a rule costs beside the text that its patterns are compared with, in bytes.
const RULE: usize = 100;

/// The values of an event, by their paths.
#[derive(Debug)]
pub(super) struct Values {
    flat: FlattenedJson,
    /// The body in small letters.
    body: Option<Box<str>>,
    /// Whether it says whom it mentions, so that names in the text mean nothing.
    says_mentions: bool,
}

/// What was compared since others had their turn.
#[derive(Debug, Default)]
struct Work(usize);

impl Work {
    /// Notes a part of it.
    async fn take(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= STRETCH {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Values {
    pub(super) fn new(event: &Raw<AnySyncTimelineEvent>) -> Self {
        let flat = FlattenedJson::from_raw(event);
        let body = flat.get_str("content.body").map(str::to_lowercase);
        Self {
            body: body.map(Into::into),
            says_mentions: flat.contains_mentions(),
            flat,
        }
    }

    /// The text, in small letters, if it has to be looked through for names.
    pub(super) fn text(&self) -> Option<&str> {
        self.body.as_deref().filter(|_| !self.says_mentions)
    }

    /// Whether it says that it mentions a user, or is their membership.
    pub(super) fn mentions(&self, user_id: &UserId) -> bool {
        if self.flat.get_str("state_key") == Some(user_id.as_str()) {
            return true;
        }
        let is_user = |value: &ScalarJsonValue| value.as_str() == Some(user_id.as_str());
        let mentioned = self.flat.get(r"content.m\.mentions.user_ids");
        mentioned
            .and_then(FlattenedJsonValue::as_array)
            .is_some_and(|users| users.iter().any(is_user))
    }

    /// How it relates to another event.
    pub(super) fn relation(&self) -> Option<Relation> {
        let text = |key: &str| self.flat.get_str(&format!(r"content.m\.relates_to.{key}"));
        Some(Relation {
            event_id: text("event_id")?.try_into().ok()?,
            rel_type: text("rel_type")?.to_owned(),
        })
    }

    /// The event that it redacts.
    pub(super) fn redacted_event(&self) -> Option<OwnedEventId> {
        self.flat.get_str("redacts")?.try_into().ok()
    }

    /// The first of the rules that applies.
    pub(super) async fn rule<'a>(
        &self,
        rules: &'a Ruleset,
        context: &PushConditionRoomCtx,
    ) -> Option<AnyPushRuleRef<'a>> {
        if self.flat.get_str("sender") == Some(context.user_id.as_str()) {
            return None;
        }
        let mut work = Work::default();
        for rule in rules.iter().filter(|rule| rule.enabled()) {
            work.take(RULE).await;
            if self.applies(rule, context, &mut work).await {
                return Some(rule);
            }
        }
        None
    }

    async fn applies(
        &self,
        rule: AnyPushRuleRef<'_>,
        context: &PushConditionRoomCtx,
        work: &mut Work,
    ) -> bool {
        match rule {
            AnyPushRuleRef::Override(rule) | AnyPushRuleRef::Underride(rule) => {
                self.all_apply(rule, context, work).await
            }
            AnyPushRuleRef::Content(rule) => self.patterned_applies(rule, work).await,
            AnyPushRuleRef::Room(rule) => rule.rule_id == context.room_id,
            AnyPushRuleRef::Sender(rule) => {
                self.flat.get_str("sender") == Some(rule.rule_id.as_str())
            }
            _ => false,
        }
    }

    async fn patterned_applies(&self, rule: &PatternedPushRule, work: &mut Work) -> bool {
        if self.says_mentions && rule.rule_id == ".m.rule.contains_user_name" {
            return false;
        }
        self.body_fits(Pattern::glob(&rule.pattern), work).await
    }

    /// Whether all conditions of a rule hold.
    async fn all_apply(
        &self,
        rule: &ConditionalPushRule,
        context: &PushConditionRoomCtx,
        work: &mut Work,
    ) -> bool {
        let is_by_text = matches!(
            rule.rule_id.as_str(),
            ".m.rule.roomnotif" | ".m.rule.contains_display_name"
        );
        if self.says_mentions && is_by_text {
            return false;
        }
        for condition in &rule.conditions {
            if !self.holds(condition, context, work).await {
                return false;
            }
        }
        true
    }

    async fn holds(
        &self,
        condition: &PushCondition,
        context: &PushConditionRoomCtx,
        work: &mut Work,
    ) -> bool {
        work.take(RULE).await;
        match condition {
            PushCondition::EventMatch(data) if data.key == "content.body" => {
                self.body_fits(Pattern::glob(&data.pattern), work).await
            }
            PushCondition::EventMatch(data) => {
                let value = match data.key.as_str() {
                    "room_id" => Some(context.room_id.as_str()),
                    key => self.flat.get_str(key),
                };
                let (Some(value), Some(pattern)) = (value, Pattern::glob(&data.pattern)) else {
                    return false;
                };
                work.take(value.len()).await;
                pattern.fits(&value.to_lowercase())
            }
            #[expect(deprecated, reason = "a rule of the time when it wasn't still has it")]
            PushCondition::ContainsDisplayName => {
                let name = context.user_display_name.as_str();
                self.body_fits(Pattern::literal(name), work).await
            }
            other => other.applies(&self.flat, context).await,
        }
    }

    /// Whether words of the body fit a pattern.
    async fn body_fits(&self, pattern: Option<Pattern>, work: &mut Work) -> bool {
        let (Some(body), Some(pattern)) = (&self.body, pattern) else {
            return false;
        };
        work.take(body.len()).await;
        pattern.fits_words(body)
    }
}
