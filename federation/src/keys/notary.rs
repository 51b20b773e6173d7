//! Keys of servers that another server, which is trusted, vouches for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use parley_engine::remote::WantedKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::discovery::get_remote_server_keys_batch::v2::{QueryCriteria, Request},
};
use tokio::sync::{
    Mutex as AsyncMutex,
    oneshot::{self, error::TryRecvError},
};

use super::{
    Inner,
    published::{Published, is_signed_by},
};
use crate::outbound::client::Effort;

/// Servers that a notary is asked about at once.
const AT_ONCE: usize = 50;
/// Answers of a notary on one server that are looked at.
const MAX_ANSWERS: usize = 20;

/// What a notary says of the keys of a server.
type Told = Result<Vec<Published>, String>;

/// A server that is trusted to tell the keys of others. It is asked one question at a time; meanwhile those who want to know
/// of other servers gather, and the next question is about all of these.
#[derive(Debug)]
pub(super) struct Notary {
    pub(super) name: OwnedServerName,
    waiting: Mutex<Vec<Question>>,
    turn: AsyncMutex<()>,
}

/// What somebody wants to know.
#[derive(Debug)]
struct Question {
    server: OwnedServerName,
    wanted: Vec<WantedKey>,
    answer: oneshot::Sender<Told>,
}

impl Notary {
    pub(super) fn new(name: OwnedServerName) -> Self {
        Self {
            name,
            waiting: Mutex::default(),
            turn: AsyncMutex::default(),
        }
    }

    /// What the notary says of the keys of `server`.
    pub(super) async fn ask(
        &self,
        inner: &Inner,
        server: &ServerName,
        wanted: &[WantedKey],
    ) -> Told {
        loop {
            let (answer, mut told) = oneshot::channel();
            self.waiting().push(Question {
                server: server.to_owned(),
                wanted: wanted.to_vec(),
                answer,
            });
            let _turn = tokio::select! {
                biased;
                told = &mut told => match told {
                    Ok(told) => return told,
                    // Who asked for all has gone away meanwhile.
                    Err(_) => continue,
                },
                turn = self.turn.lock() => turn,
            };
            loop {
                match told.try_recv() {
                    Ok(told) => return told,
                    Err(TryRecvError::Empty) => self.put(inner, self.next()).await,
                    Err(TryRecvError::Closed) => break,
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Question>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is asked next, of those who still want to know.
    fn next(&self) -> Vec<Question> {
        let mut waiting = self.waiting();
        waiting.retain(|question| !question.answer.is_closed());
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).collect()
    }

    /// Asks, and tells everybody what they wanted to know.
    async fn put(&self, inner: &Inner, questions: Vec<Question>) {
        let told = self.query(inner, &questions).await;
        for question in questions {
            let told = match &told {
                Ok(told) => told
                    .get(&question.server)
                    .cloned()
                    .unwrap_or(Ok(Vec::new())),
                Err(reason) => Err(reason.clone()),
            };
            // Fails where the asker has gone away.
            let _ = question.answer.send(told);
        }
    }

    async fn query(
        &self,
        inner: &Inner,
        questions: &[Question],
    ) -> Result<HashMap<OwnedServerName, Told>, String> {
        let mut query: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for question in questions {
            let criteria = question.wanted.iter().map(|key| {
                let mut criteria = QueryCriteria::new();
                criteria.minimum_valid_until_ts = Some(key.valid_at);
                (key.key_id.clone(), criteria)
            });
            let server = question.server.clone();
            query.entry(server).or_default().extend(criteria);
        }
        let request = Request::new(query);
        let answer = inner.client.send(&self.name, request, Effort::VOUCHED);
        let answer = answer.await.map_err(|error| error.to_string())?;
        let most = MAX_ANSWERS * questions.len();
        let told = answer.server_keys.iter().take(most);
        let told: Vec<(&str, CanonicalJsonObject)> = told
            .map(|keys| keys.json().get())
            .filter_map(|json| Some((json, serde_json::from_str(json).ok()?)))
            .collect();
        Ok(self.sort(inner, told).await)
    }

    /// Checks what was told, each for itself: what is wrong of one server says nothing of another.
    async fn sort(
        &self,
        inner: &Inner,
        told: Vec<(&str, CanonicalJsonObject)>,
    ) -> HashMap<OwnedServerName, Told> {
        let now = inner.clock.now();
        let signed_by = told.iter().flat_map(|(_, object)| self.signed_by(object));
        let wanted = signed_by.map(|key_id| WantedKey {
            server: self.name.clone(),
            key_id,
            valid_at: now,
        });
        let mut wanted: Vec<WantedKey> = wanted.collect();
        wanted.sort_by(|one, other| one.key_id.cmp(&other.key_id));
        wanted.dedup_by(|one, other| one.key_id == other.key_id);
        let own = inner.of_notary(&self.name, &wanted).await;
        let mut sorted: HashMap<OwnedServerName, Told> = HashMap::new();
        for (json, object) in told {
            let Some(CanonicalJsonValue::String(name)) = object.get("server_name") else {
                continue;
            };
            let Ok(server) = OwnedServerName::try_from(name.as_str()) else {
                continue;
            };
            let checked = match is_signed_by(&object, &self.name, &own) {
                true => Published::check(&server, json, now),
                false => Err("the notary hasn't signed what it says".to_owned()),
            };
            let of_server = sorted.entry(server).or_insert(Ok(Vec::new()));
            match (of_server, checked) {
                (Ok(all), Ok(published)) => all.push(published),
                (Ok(all), Err(_)) if !all.is_empty() => {}
                (of_server, checked) => *of_server = checked.map(|published| vec![published]),
            }
        }
        sorted
    }

    /// With which of its keys the notary says to have signed something.
    fn signed_by(&self, object: &CanonicalJsonObject) -> Vec<OwnedServerSigningKeyId> {
        let Some(CanonicalJsonValue::Object(all)) = object.get("signatures") else {
            return Vec::new();
        };
        let Some(CanonicalJsonValue::Object(own)) = all.get(self.name.as_str()) else {
            return Vec::new();
        };
        let ids = own.keys().take(MAX_ANSWERS);
        ids.filter_map(|id| id.as_str().try_into().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use ruma::{server_name, signatures::sign_json};
    use serde_json::json;

    use super::{
        super::tests::{keys, publish, published, wanted},
        *,
    };
    use crate::outbound::testing::{Way, answer, key};

    /// How often a notary was asked for its own keys, and for those of others.
    #[derive(Debug, Default)]
    struct Asked {
        own: AtomicUsize,
        others: AtomicUsize,
    }

    impl Asked {
        fn counts(&self) -> (usize, usize) {
            let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
            (count(&self.own), count(&self.others))
        }
    }

    /// All servers are gone but a notary, which vouches for each, and forgets to sign what it says of one.
    fn vouch(way: &Way) -> Arc<Asked> {
        let asked: Arc<Asked> = Arc::default();
        let counting = Arc::clone(&asked);
        let notary = server_name!("notary.example");
        let (of_notary, of_others) = (key(notary.to_owned()), key(notary.to_owned()));
        way.line.answer(move |server, request| {
            if server != notary {
                return answer(502, "{}");
            }
            let path = request.uri().path();
            if path == "/_matrix/key/v2/server" {
                counting.own.fetch_add(1, Ordering::SeqCst);
                return published(&publish(notary, &of_notary));
            }
            counting.others.fetch_add(1, Ordering::SeqCst);
            let query: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
            let names = query["server_keys"].as_object().unwrap().keys();
            let told: Vec<CanonicalJsonObject> = names
                .map(|name| {
                    let server = <&ServerName>::try_from(name.as_str()).unwrap();
                    let mut object = publish(server, &of_others);
                    if server != "forgotten.example" {
                        sign_json(notary.as_str(), of_notary.pair(), &mut object).unwrap();
                    }
                    object
                })
                .collect();
            answer(200, json!({ "server_keys": told }).to_string())
        });
        asked
    }

    #[tokio::test]
    async fn a_notary_is_asked_about_several_servers_at_once_and_for_its_own_keys_once() {
        let way = Way::open().await;
        let asked = vouch(&way);
        let keys = keys(&way, &[server_name!("notary.example")]);
        let inner = &keys.inner;
        let notary = &inner.notaries[0];
        let names = (0..30).map(|number| format!("server{number}.example"));
        let names = names.chain(["forgotten.example".to_owned()]);
        let names: Vec<OwnedServerName> = names.map(|name| name.try_into().unwrap()).collect();
        let turn = notary.turn.lock().await;
        let all = names.iter().map(async |name| {
            let told = notary.ask(inner, name, &wanted(name)).await;
            told.map(|told| told.len())
        });
        let mut all = Box::pin(futures::future::join_all(all));
        assert!(futures::poll!(&mut all).is_pending());
        assert_eq!(notary.waiting().len(), names.len());
        drop(turn);
        let told = all.await;
        let (forgotten, told) = told.split_last().unwrap();
        assert!(told.iter().all(|told| *told == Ok(1)), "{told:?}");
        assert!(forgotten.as_ref().unwrap_err().contains("signed"));
        assert_eq!(asked.counts(), (1, 1));
        // The next question finds the notary's keys where those of all servers are.
        let other = server_name!("other.example");
        assert_eq!(keys.find(wanted(other)).await.len(), 1);
        assert_eq!(asked.counts(), (1, 2));
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_asks_themselves_when_the_asker_has_gone_away() {
        let way = Way::open().await;
        let asked = vouch(&way);
        let keys = keys(&way, &[server_name!("notary.example")]);
        let (inner, notary) = (&keys.inner, &keys.inner.notaries[0]);
        let (one, other) = (server_name!("one.example"), server_name!("other.example"));
        let (of_one, of_other) = (wanted(one), wanted(other));
        let turn = notary.turn.lock().await;
        let mut waits = Box::pin(notary.ask(inner, one, &of_one));
        let mut gone = Box::pin(notary.ask(inner, other, &of_other));
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(futures::poll!(&mut gone).is_pending());
        // As if somebody had taken the questions and was cut off.
        drop(notary.next());
        drop((turn, gone));
        assert_eq!(waits.await.unwrap().len(), 1);
        assert_eq!(asked.counts(), (1, 1));
    }
}
