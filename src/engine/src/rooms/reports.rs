//! Telling the administrators of what shouldn't be.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use parley_storage::reports::{EventReport, NewReport, ReportQuery};
use ruma::{EventId, RoomId, UserId};

use super::Rooms;
use crate::{EngineError, Result, sessions::Session};

/// The most bytes of a reason.
const MAX_REASON: usize = 4 * 1024;

impl Rooms {
    /// Reports an event of a room that the user is in.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such event that the user may see, or they aren't in the room; `M_TOO_LARGE`.
    pub async fn report_event(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
        reason: Option<&str>,
    ) -> Result<()> {
        let unknown = || EngineError::not_found("there is no such event, or you may not see it");
        let joined = self.joined_room(session, room_id).await;
        joined.map_err(|_| unknown())?;
        let (event, _, room) = self.event(session, room_id, event_id).await?;
        self.report(session, room.nid(), Some(event.position), None, reason)
            .await
    }

    /// Reports a room, which the user needn't be in.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room; `M_TOO_LARGE`; `M_INVALID_PARAM`.
    pub async fn report_room(
        &self,
        session: &Session,
        room_id: &RoomId,
        reason: &str,
    ) -> Result<()> {
        let room = self.room(room_id).await?;
        self.report(session, room.nid(), None, None, Some(reason))
            .await
    }

    /// Reports a user. Of one who doesn't exist nothing is noted, and that isn't told.
    ///
    /// # Errors
    /// `M_TOO_LARGE`.
    pub async fn report_user(
        &self,
        session: &Session,
        user_id: &UserId,
        reason: &str,
    ) -> Result<()> {
        match self.database.user_nid(user_id).await? {
            Some(user) => {
                self.report(session, 0, None, Some(user), Some(reason))
                    .await
            }
            None => Ok(()),
        }
    }

    async fn report(
        &self,
        session: &Session,
        room_nid: i64,
        event_position: Option<i64>,
        reported_user_nid: Option<i64>,
        reason: Option<&str>,
    ) -> Result<()> {
        if reason.is_some_and(|reason| reason.len() > MAX_REASON) {
            return Err(EngineError::too_large(format!(
                "a reason has at most {MAX_REASON} bytes"
            )));
        }
        if reason.is_some_and(|reason| reason.contains('\0')) {
            return Err(EngineError::invalid_param(
                "a reason has no null characters",
            ));
        }
        let report = NewReport {
            reporter_nid: session.user_nid,
            room_nid,
            event_position,
            reported_user_nid,
            reason,
            received_at: self.clock.now_ms(),
        };
        tracing::info!(reporter = %session.user_id, room_nid, "a user reports something");
        Ok(self.database.add_report(report).await?)
    }

    /// A page of the reports of events, and how many there are in all; for administrators.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn event_reports(&self, query: ReportQuery<'_>) -> Result<(Vec<EventReport>, i64)> {
        let reports = self.database.event_reports(query).await?;
        Ok((reports, self.database.event_report_count(query).await?))
    }
}
