//! Push rules: which events notify whom, and how loudly.
//!
//! They are account data of the type `m.push_rules`, which a user has from the beginning: as long as they change nothing,
//! it is what the server proposes, and nothing is stored.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

mod cache;
mod defaults;
pub mod pattern;
pub mod pushers;

use std::sync::Arc;

use parley_storage::{Database, StorageError};
use ruma::{
    RoomId, UserId,
    api::error::ErrorKind,
    push::{
        Action, AnyPushRule, AnyPushRuleRef, ConditionalPushRule, InsertPushRuleError,
        NewConditionalPushRule, NewPushRule, NewSimplePushRule, PushCondition, RemovePushRuleError,
        RuleKind, Ruleset,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use self::cache::{RuleCache, Rules};
pub use self::defaults::server_default;
use self::pattern::MAX_PATTERN;
use crate::{
    EngineError, Result,
    account_data::{Piece, Pieces},
    sessions::Session,
};

/// The type of account data that holds them.
pub const TYPE: &str = "m.push_rules";

/// The most bytes that all rules of a user may take as JSON.
const MAX_BYTES: usize = 1024 * 1024;
/// The most rules that a user may add to those of the server.
const MAX_RULES: usize = 1_000;
/// The most conditions of a rule.
const MAX_CONDITIONS: usize = 100;

/// The content of `m.push_rules`.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    global: Ruleset,
}

/// Reads and changes push rules.
#[derive(Clone, Debug)]
pub struct PushRules {
    database: Database,
    cache: Arc<RuleCache>,
    pieces: Pieces,
}

impl PushRules {
    pub(crate) fn new(database: Database, cache: Arc<RuleCache>, pieces: Pieces) -> Self {
        Self {
            database,
            cache,
            pieces,
        }
    }

    /// A user's rules.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ruleset(&self, user_id: &UserId, user_nid: i64) -> Result<Ruleset> {
        Ok(self.rules(user_nid).await?.of(user_id).into_owned())
    }

    /// A user's rules, or that they are the server's.
    pub(crate) async fn rules(&self, user_nid: i64) -> Result<Rules> {
        self.cache.get(&self.database, user_nid).await
    }

    /// A user's rules as clients see them: the content of `m.push_rules`. Every kind is there, also where there is no
    /// rule of it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn content(&self, user_id: &UserId, user_nid: i64) -> Result<Value> {
        content(&self.ruleset(user_id, user_nid).await?)
    }

    /// One rule.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such rule.
    pub async fn rule(
        &self,
        session: &Session,
        kind: RuleKind,
        rule_id: &str,
    ) -> Result<AnyPushRule> {
        let rules = self.rules(session.user_nid).await?;
        let rules = rules.of(&session.user_id);
        let rule = rules.get(kind, rule_id).ok_or_else(no_such_rule)?;
        Ok(rule.to_owned())
    }

    /// Adds a rule, or replaces the one of the same kind and ID, which stays where it is and as enabled as it is unless it
    /// is put elsewhere. `before` says which rule it is next more important than; without that, `after` says which it is
    /// next less important than.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the ID can't be a rule's or belongs to one of the server's, `M_UNKNOWN` if there is no rule to
    /// stand by, `M_TOO_LARGE` for a long pattern, many conditions and too many rules.
    pub async fn insert(
        &self,
        session: &Session,
        rule: NewPushRule,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<()> {
        let after = after.filter(|_| before.is_none());
        check_size(&rule)?;
        self.change(session, |rules| {
            let (kind, id) = (rule.kind(), rule.rule_id().to_owned());
            if before == Some(id.as_str()) || after == Some(id.as_str()) {
                return Err(not_inserted(InsertPushRuleError::UnknownRuleId));
            }
            let known = rules.get(kind.clone(), &id).map(AnyPushRuleRef::enabled);
            if known.is_none() && is_full(rules) {
                return Err(EngineError::too_large(format!(
                    "you may have at most {MAX_RULES} push rules of your own"
                )));
            }
            if known.is_some() && (before.is_some() || after.is_some()) {
                // It is taken away first: the place of the others is counted without it.
                rules.remove(kind.clone(), &id).map_err(not_removed)?;
            }
            let rule = rule.clone();
            rules.insert(rule, after, before).map_err(not_inserted)?;
            if let Some(enabled) = known {
                rules
                    .set_enabled(kind, &id, enabled)
                    .map_err(|_| no_such_rule())?;
            }
            Ok(())
        })
        .await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such rule, `M_INVALID_PARAM` if it is one of the server's.
    pub async fn remove(&self, session: &Session, kind: RuleKind, rule_id: &str) -> Result<()> {
        self.change(session, |rules| {
            let kind = kind.clone();
            rules.remove(kind, rule_id).map_err(not_removed)
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such rule.
    pub async fn set_enabled(
        &self,
        session: &Session,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<()> {
        self.change(session, |rules| {
            rules
                .set_enabled(kind.clone(), rule_id, enabled)
                .map_err(|_| no_such_rule())
        })
        .await
    }

    /// Sets what a rule does.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such rule, `M_TOO_LARGE`.
    pub async fn set_actions(
        &self,
        session: &Session,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Action>,
    ) -> Result<()> {
        self.change(session, |rules| {
            rules
                .set_actions(kind.clone(), rule_id, actions.clone())
                .map_err(|_| no_such_rule())
        })
        .await
    }

    /// Gives a room the rules that the user has for another: the rule of the room, and those that hold in that room only.
    /// A rule that is there already stays.
    ///
    /// # Errors
    /// If the database fails, `M_TOO_LARGE`.
    pub(crate) async fn hand_over(
        &self,
        session: &Session,
        from: &RoomId,
        to: &RoomId,
    ) -> Result<()> {
        let rules = self.ruleset(&session.user_id, session.user_nid).await?;
        if successors(&rules, from, to).is_empty() {
            return Ok(());
        }
        self.change(session, |rules| {
            for (rule, enabled) in successors(rules, from, to) {
                let (kind, rule_id) = (rule.kind(), rule.rule_id().to_owned());
                if is_full(rules) {
                    break;
                }
                let added = rules.insert(rule, None, None);
                if added.is_ok() && !enabled {
                    rules
                        .set_enabled(kind, &rule_id, false)
                        .map_err(|_| no_such_rule())?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        session: &Session,
        change: impl Fn(&mut Ruleset) -> Result<()>,
    ) -> Result<()> {
        let piece = Piece {
            user_nid: session.user_nid,
            room_nid: 0,
            event_type: TYPE,
        };
        let changed = |stored: Option<&str>| {
            let mut rules = match stored {
                Some(stored) => parse(stored, &session.user_id)?,
                None => server_default(&session.user_id),
            };
            change(&mut rules)?;
            let content = content(&rules)?.to_string();
            if content.len() > MAX_BYTES {
                return Err(EngineError::too_large(format!(
                    "all your push rules together may have at most {MAX_BYTES} bytes"
                )));
            }
            Ok(Some(content))
        };
        self.pieces.change(piece, changed).await
    }
}

/// Rules as they are stored, with those of the server as it has them by now.
fn parse(stored: &str, user_id: &UserId) -> Result<Ruleset> {
    let mut rules = serde_json::from_str::<Content>(stored)
        .map_err(|error| StorageError::Corrupt(format!("push rules: {error}")))?
        .global;
    rules.update_with_server_default(server_default(user_id));
    Ok(rules)
}

/// Whether a user may have no more rules.
fn is_full(rules: &Ruleset) -> bool {
    let own = rules.iter().filter(|rule| !rule.is_server_default());
    own.count() >= MAX_RULES
}

/// Refuses a rule that takes long to judge by.
fn check_size(rule: &NewPushRule) -> Result<()> {
    let mut patterns = Vec::new();
    match rule {
        NewPushRule::Content(rule) => patterns.push(rule.pattern.as_str()),
        NewPushRule::Override(rule) | NewPushRule::Underride(rule) => {
            if rule.conditions.len() > MAX_CONDITIONS {
                return Err(EngineError::too_large(format!(
                    "a push rule may have at most {MAX_CONDITIONS} conditions"
                )));
            }
            patterns.extend(
                rule.conditions
                    .iter()
                    .filter_map(|condition| match condition {
                        PushCondition::EventMatch(data) => Some(data.pattern.as_str()),
                        _ => None,
                    }),
            );
        }
        _ => {}
    }
    if patterns.iter().any(|pattern| pattern.len() > MAX_PATTERN) {
        return Err(EngineError::too_large(format!(
            "a pattern may have at most {MAX_PATTERN} bytes"
        )));
    }
    Ok(())
}

/// The rules of a user that hold in one room, made for another that has none of them yet, with whether they are switched
/// on.
fn successors(rules: &Ruleset, from: &RoomId, to: &RoomId) -> Vec<(NewPushRule, bool)> {
    let mut found = Vec::new();
    if let Some(rule) = rules.room.get(from.as_str())
        && !rules.room.contains(to.as_str())
    {
        let new = NewSimplePushRule::new(to.to_owned(), rule.actions.clone());
        found.push((NewPushRule::Room(new), rule.enabled));
    }
    for rule in &rules.override_ {
        let Some(new) = successor(rule, from, to) else {
            continue;
        };
        if !rules.override_.contains(new.rule_id.as_str()) {
            found.push((NewPushRule::Override(new), rule.enabled));
        }
    }
    found
}

/// The rule for `to`, if this is one for `from`: clients name them after their room.
fn successor(
    rule: &ConditionalPushRule,
    from: &RoomId,
    to: &RoomId,
) -> Option<NewConditionalPushRule> {
    let mut conditions = rule.conditions.clone();
    let mut is_of_room = false;
    for condition in &mut conditions {
        if let PushCondition::EventMatch(data) = condition
            && data.key == "room_id"
            && data.pattern == from.as_str()
        {
            to.as_str().clone_into(&mut data.pattern);
            is_of_room = true;
        }
    }
    if !is_of_room || !rule.rule_id.contains(from.as_str()) {
        return None;
    }
    let rule_id = rule.rule_id.replace(from.as_str(), to.as_str());
    let actions = rule.actions.clone();
    Some(NewConditionalPushRule::new(rule_id, conditions, actions))
}

fn not_inserted(error: InsertPushRuleError) -> EngineError {
    match error {
        InsertPushRuleError::UnknownRuleId => EngineError::refused(
            ErrorKind::Unknown,
            "there is no rule with the ID that `before` or `after` names",
        ),
        error => EngineError::invalid_param(error.to_string()),
    }
}

fn not_removed(error: RemovePushRuleError) -> EngineError {
    match error {
        RemovePushRuleError::NotFound => no_such_rule(),
        error => EngineError::invalid_param(error.to_string()),
    }
}

fn no_such_rule() -> EngineError {
    EngineError::not_found("you have no such push rule")
}

/// Rules as clients see them: clients look for each kind without asking whether it is there.
pub(crate) fn content(rules: &Ruleset) -> Result<Value> {
    let mut rules = serde_json::to_value(rules)
        .map_err(|error| EngineError::Internal(format!("push rules aren't JSON: {error}")))?;
    if let Some(rules) = rules.as_object_mut() {
        for kind in ["override", "content", "room", "sender", "underride"] {
            rules.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(json!({ "global": rules }))
}
