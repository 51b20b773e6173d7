//! The rules that everyone has from the beginning.

use ruma::{
    UserId,
    power_levels::NotificationPowerLevelsKey,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData,
        HighlightTweakValue, PatternedPushRule, PatternedPushRuleInit, PushCondition, Ruleset,
        SenderNotificationPermissionConditionData, SoundTweakValue, Tweak,
    },
};

/// The rules of the specification, and those that it had until v1.16, which look for names in the text: they do nothing
/// where the sender's client says whom it mentions, but many bots and bridges don't say.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#predefined-rules>
pub fn server_default(user_id: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user_id);
    for (rule, after) in [
        (contains_display_name(), ".m.rule.is_user_mention"),
        (room_notification(), ".m.rule.is_room_mention"),
    ] {
        let (last, _) = rules.override_.insert_full(rule);
        if let Some(before) = rules.override_.get_index_of(after) {
            rules.override_.move_index(last, before + 1);
        }
    }
    rules.content.insert(contains_user_name(user_id));
    rules
}

fn loud() -> Vec<Action> {
    vec![
        Action::Notify,
        Action::SetTweak(Tweak::Sound(SoundTweakValue::Default)),
        Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes)),
    ]
}

fn contains_display_name() -> ConditionalPushRule {
    ConditionalPushRuleInit {
        actions: loud(),
        default: true,
        enabled: true,
        rule_id: ".m.rule.contains_display_name".to_owned(),
        #[expect(deprecated, reason = "the rule is of the time when it wasn't")]
        conditions: vec![PushCondition::ContainsDisplayName],
    }
    .into()
}

fn room_notification() -> ConditionalPushRule {
    ConditionalPushRuleInit {
        actions: vec![
            Action::Notify,
            Action::SetTweak(Tweak::Highlight(HighlightTweakValue::Yes)),
        ],
        default: true,
        enabled: true,
        rule_id: ".m.rule.roomnotif".to_owned(),
        conditions: vec![
            PushCondition::EventMatch(EventMatchConditionData::new(
                "content.body".to_owned(),
                "@room".to_owned(),
            )),
            PushCondition::SenderNotificationPermission(
                SenderNotificationPermissionConditionData::new(NotificationPowerLevelsKey::Room),
            ),
        ],
    }
    .into()
}

fn contains_user_name(user_id: &UserId) -> PatternedPushRule {
    PatternedPushRuleInit {
        actions: loud(),
        default: true,
        enabled: true,
        rule_id: ".m.rule.contains_user_name".to_owned(),
        pattern: user_id.localpart().to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn the_older_rules_stand_beside_those_that_took_their_place() {
        let rules = server_default(user_id!("@ada:x"));
        let ids: Vec<&str> = rules
            .override_
            .iter()
            .map(|rule| rule.rule_id.as_str())
            .collect();
        assert_eq!(ids[0], ".m.rule.master");
        let at = |id: &str| ids.iter().position(|other| *other == id).unwrap();
        assert_eq!(
            at(".m.rule.contains_display_name"),
            at(".m.rule.is_user_mention") + 1
        );
        assert_eq!(at(".m.rule.roomnotif"), at(".m.rule.is_room_mention") + 1);
        assert_eq!(rules.content[0].pattern, "ada");
    }
}
