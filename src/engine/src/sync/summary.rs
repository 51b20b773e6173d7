//! What a client needs to name a room without knowing its members.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync_response-200_roomsummary>

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};

use crate::rooms::state::{Member, RoomState};

/// Members that name a room which has no name.
const HEROES: usize = 5;

/// The summary of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Who the room is named after, if it has neither name nor alias.
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many are joined.
    pub joined: usize,
    /// How many are invited.
    pub invited: usize,
}

impl Summary {
    /// The summary for a user.
    pub fn new(state: &RoomState, user_id: &UserId) -> Self {
        let has_name = state.text("m.room.name", "name").is_some()
            || state.text("m.room.canonical_alias", "alias").is_some();
        Self {
            heroes: (!has_name).then(|| heroes(state, user_id)),
            joined: state.joined_count(),
            invited: state.invited_count(),
        }
    }
}

/// The first members besides the user, in the order in which they came; where all have left, those who were there.
fn heroes(state: &RoomState, user_id: &UserId) -> Vec<OwnedUserId> {
    let here = |member: &Member| {
        matches!(
            member.membership,
            MembershipState::Join | MembershipState::Invite
        )
    };
    let pick = |fits: &dyn Fn(&Member) -> bool| {
        let mut members: Vec<(i64, &OwnedUserId)> = state
            .members()
            .filter(|(id, member)| *id != user_id && fits(member))
            .map(|(id, member)| (member.entry.position.get(), id))
            .collect();
        members.sort_unstable();
        members
            .into_iter()
            .take(HEROES)
            .map(|(_, id)| id.clone())
            .collect::<Vec<_>>()
    };
    let heroes = pick(&here);
    if heroes.is_empty() {
        let gone = |member: &Member| {
            matches!(
                member.membership,
                MembershipState::Leave | MembershipState::Ban
            )
        };
        pick(&gone)
    } else {
        heroes
    }
}
