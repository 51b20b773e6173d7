//! What is fleeting: typing, receipts, presence.

use std::{collections::HashSet, sync::Arc};

use parley_engine::{outgoing::Outgoing, receipts::Receipt};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde_json::{Value, json, value::to_raw_value};
use tokio::sync::mpsc;

use super::{
    Inner,
    queue::{Subject, WaitingEdu},
};

/// Something fleeting.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    Typing {
        room_nid: i64,
        user_id: OwnedUserId,
        types: bool,
    },
    Receipt(Arc<Receipt>),
    Presence {
        user_id: OwnedUserId,
        rooms: Vec<i64>,
    },
}

/// What the engine says.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// For other servers.
    Happened(Happened),
    /// By another node, of another server.
    ServerFailed(OwnedServerName),
    ServerReturned(OwnedServerName),
}

/// Hears of what is fleeting.
#[derive(Debug)]
pub(super) struct Fleeting(pub(super) mpsc::Sender<Heard>);

impl Fleeting {
    fn tell(&self, happened: Happened) {
        self.pass_on(Heard::Happened(happened));
    }

    fn pass_on(&self, heard: Heard) {
        // If there is more than can be sorted, it isn't worth waiting for.
        let _ = self.0.try_send(heard);
    }
}

impl Outgoing for Fleeting {
    fn typing(&self, room_nid: i64, user_id: &UserId, types: bool) {
        self.tell(Happened::Typing {
            room_nid,
            user_id: user_id.to_owned(),
            types,
        });
    }

    fn receipt(&self, receipt: &Arc<Receipt>) {
        self.tell(Happened::Receipt(Arc::clone(receipt)));
    }

    fn presence(&self, user_id: &UserId, rooms: &[i64]) {
        self.tell(Happened::Presence {
            user_id: user_id.to_owned(),
            rooms: rooms.to_vec(),
        });
    }

    fn server_failed(&self, server: &ServerName) {
        self.pass_on(Heard::ServerFailed(server.to_owned()));
    }

    fn server_returned(&self, server: &ServerName) {
        self.pass_on(Heard::ServerReturned(server.to_owned()));
    }
}

impl Inner {
    /// Sorts what is fleeting into the queues.
    pub(super) async fn sort_fleeting(self: Arc<Self>, mut arrived: mpsc::Receiver<Heard>) {
        while let Some(Some(heard)) = self.stopping.run_until_cancelled(arrived.recv()).await {
            let destinations = self.client.destinations();
            match heard {
                Heard::Happened(happened) if self.leads() && self.is_own(&happened) => {
                    self.sort(happened).await;
                }
                Heard::Happened(_) => {}
                Heard::ServerFailed(server) => destinations.forget(&server),
                Heard::ServerReturned(server) => {
                    destinations.returned_elsewhere(&server).await;
                    self.try_now(&server);
                }
            }
        }
    }

    /// Whether it is for this server to tell.
    fn is_own(&self, happened: &Happened) -> bool {
        let user_id = match happened {
            Happened::Typing { user_id, .. } | Happened::Presence { user_id, .. } => user_id,
            Happened::Receipt(receipt) if receipt.receipt_type == "m.read" => &receipt.user_id,
            // Private.
            Happened::Receipt(_) => return false,
        };
        user_id.server_name() == self.client.own_name()
    }

    async fn sort(self: &Arc<Self>, happened: Happened) {
        let mut servers = HashSet::new();
        let rooms = match &happened {
            Happened::Typing { room_nid, .. } => std::slice::from_ref(room_nid),
            Happened::Receipt(receipt) => std::slice::from_ref(&receipt.room_nid),
            Happened::Presence { rooms, .. } => rooms,
        };
        for room_nid in rooms {
            servers.extend(self.servers_in(*room_nid).await);
        }
        servers.retain(|server| server != self.client.own_name() && self.policy.allows(server));
        if servers.is_empty() {
            return;
        }
        let position = match &happened {
            Happened::Receipt(receipt) => Some(receipt.position),
            _ => None,
        };
        let Some((subject, json)) = self.edu(happened).await else {
            return;
        };
        let Ok(json) = to_raw_value(&json) else {
            return;
        };
        let edu = WaitingEdu {
            subject,
            position,
            json: json.into(),
        };
        for server in servers {
            self.queue_edu(&server, edu.clone()).await;
        }
    }

    async fn queue_edu(self: &Arc<Self>, server: &OwnedServerName, edu: WaitingEdu) {
        if self.client.destinations().pause(server).await == 0 {
            self.queues().of(server).push_edu(edu);
            self.deliver_to(server);
        } else if let (Subject::Receipt(room_nid, ..), Some(position)) = (edu.subject, edu.position)
        {
            self.queues()
                .lacks_receipts(server, room_nid, position, false);
            self.schedule(server).await;
        }
        // By the time that it is back, the rest is no longer true.
    }

    /// What is said of it, and about what that is.
    async fn edu(&self, happened: Happened) -> Option<(Subject, Value)> {
        match happened {
            Happened::Typing {
                room_nid,
                user_id,
                types,
            } => {
                let room_id = self.room_id(room_nid).await?;
                let content = json!({ "room_id": room_id, "user_id": user_id, "typing": types });
                let subject = Subject::Typing(room_nid, user_id.as_str().into());
                Some((subject, edu("m.typing", &content)))
            }
            Happened::Receipt(receipt) => {
                let room_id = self.room_id(receipt.room_nid).await?;
                let user = receipt.user_id.as_str();
                let content = json!({ room_id: { "m.read": { user: said(&receipt) } } });
                let thread = receipt.thread.as_str().into();
                let subject = Subject::Receipt(receipt.room_nid, user.into(), thread);
                Some((subject, edu("m.receipt", &content)))
            }
            Happened::Presence { user_id, .. } => {
                let state = self.engine.presence().get(&user_id).await.ok()?;
                let mut said = state.content(self.now());
                said["user_id"] = user_id.as_str().into();
                if said.get("last_active_ago").is_none() {
                    said["last_active_ago"] = 0.into();
                }
                let subject = Subject::Presence(user_id.as_str().into());
                Some((subject, edu("m.presence", &json!({ "push": [said] }))))
            }
        }
    }

    pub(super) async fn room_id(&self, room_nid: i64) -> Option<String> {
        let room = self.engine.rooms().registry().by_nid(room_nid).await;
        room.ok().map(|room| room.id().to_string())
    }
}

/// What is said of a receipt, beside room and user.
pub(super) fn said(receipt: &Receipt) -> Value {
    let mut data = json!({ "ts": receipt.received_at });
    if !receipt.thread.is_empty() {
        data["thread_id"] = receipt.thread.as_str().into();
    }
    json!({ "data": data, "event_ids": [receipt.event_id] })
}

pub(super) fn edu(edu_type: &str, content: &Value) -> Value {
    json!({ "edu_type": edu_type, "content": content })
}
