//! User-interactive authentication: what has to be proved before a request is served,
//! <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>.

mod terms;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parley_storage::{
    Database, StorageError,
    accounts::AcceptedTerm,
    interactive::{self, InteractiveSession},
};
use ruma::api::{
    client::uiaa::{AuthData, AuthFlow, AuthType, Password, UiaaInfo, UserIdentifier},
    error::{ErrorKind, StandardErrorBody},
};
use serde_json::value::RawValue;

use crate::{
    EngineError, Result, accounts::Accounts, background::Background, clock::Clock, random::Random,
    sessions::Session, settings::RegistrationMode,
};

/// Characters of a session's ID: 143 bits.
const SESSION_ID_LENGTH: usize = 24;
/// How often expired sessions are removed.
const REMOVE_EVERY: Duration = Duration::from_secs(10 * 60);

/// The operation that is authorised by who has no account yet.
const REGISTER: &str = "register";

/// Asks for proofs and checks them.
#[derive(Clone, Debug)]
pub struct InteractiveAuthentication {
    database: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    accounts: Accounts,
    timeout: Duration,
}

/// What is to be authorised. A session serves only the operation, the user and, once something is proved, the request
/// that it was begun for.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// What it is, with what it is about, `delete device ABC`.
    pub name: &'a str,
    /// Who wants it; `None` at registration.
    pub session: Option<&'a Session>,
    /// SHA-256 of the request without `auth`.
    pub request_hash: [u8; 32],
}

/// What was proved: the stages done, each with what it told.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    stages: BTreeMap<String, Option<String>>,
}

impl Proof {
    /// The registration token, if one was used.
    pub fn registration_token(&self) -> Option<&str> {
        let stage = self.stages.get(AuthType::RegistrationToken.as_str())?;
        stage.as_deref()
    }

    /// The documents that were agreed to.
    pub fn accepted_terms(&self) -> Vec<AcceptedTerm> {
        let stage = self.stages.get(AuthType::Terms.as_str());
        stage
            .and_then(Option::as_deref)
            .map(terms::told)
            .unwrap_or_default()
    }

    fn completes(&self, flow: &AuthFlow) -> bool {
        flow.stages
            .iter()
            .all(|stage| self.stages.contains_key(stage.as_str()))
    }

    /// Whether all stages of the flow that come before this one are done.
    fn comes_next(&self, flow: &AuthFlow, next: &AuthType) -> bool {
        let mut before = flow.stages.iter().take_while(|stage| *stage != next);
        flow.stages.contains(next) && before.all(|stage| self.stages.contains_key(stage.as_str()))
    }
}

/// What came of one stage.
enum Stage {
    /// It is done, and told that.
    Done(Option<String>),
    /// It was attempted in vain.
    Failed(ErrorKind, &'static str),
    /// Nothing was attempted.
    None,
}

impl InteractiveAuthentication {
    pub(crate) fn start(
        database: &Database,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
        accounts: &Accounts,
        timeout: Duration,
        background: &Background,
    ) -> Self {
        let service = Self {
            database: database.clone(),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            accounts: accounts.clone(),
            timeout,
        };
        let cleaner = service.clone();
        background.every(REMOVE_EVERY, move || {
            let cleaner = cleaner.clone();
            async move {
                if let Err(error) = cleaner.remove_expired().await {
                    tracing::warn!(%error, "could not remove expired authentications");
                }
            }
        });
        service
    }

    /// Lets pass who has proved what the registration of this server demands.
    ///
    /// # Errors
    /// [`EngineError::AuthenticationRequired`] with what is still to be proved; `M_FORBIDDEN` if nobody may register.
    pub async fn authorise_registration(
        &self,
        request_hash: [u8; 32],
        auth: Option<&AuthData>,
    ) -> Result<Proof> {
        let flow = self.registration_flow()?;
        let operation = Operation {
            name: REGISTER,
            session: None,
            request_hash,
        };
        self.authorise(&operation, vec![flow], auth).await
    }

    /// What has to be proved to register.
    fn registration_flow(&self) -> Result<AuthFlow> {
        let mut stages = match self.accounts.registration_mode() {
            RegistrationMode::Closed => {
                return Err(EngineError::forbidden(
                    "registration is closed on this server",
                ));
            }
            RegistrationMode::Token => vec![AuthType::RegistrationToken],
            RegistrationMode::Open => Vec::new(),
        };
        if !self.accounts.terms().is_empty() {
            stages.push(AuthType::Terms);
        }
        if stages.is_empty() {
            stages.push(AuthType::Dummy);
        }
        Ok(AuthFlow::new(stages))
    }

    /// Does a stage of a registration that was begun, in the place of a client that doesn't know the stage. Whether the
    /// stage is done now.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such session, or the stage isn't asked for in it.
    pub async fn complete_stage(&self, session_id: &str, auth: &AuthData) -> Result<bool> {
        let unknown =
            || EngineError::not_found("no registration of that session waits for this; begin anew");
        if session_id.contains('\0') {
            return Err(unknown());
        }
        let now = self.clock.now_ms();
        let found = interactive::find(&self.database, session_id, now).await?;
        let mut session = found
            .filter(|session| session.operation == REGISTER)
            .ok_or_else(unknown)?;
        let operation = Operation {
            name: REGISTER,
            session: None,
            request_hash: session
                .request_hash
                .as_slice()
                .try_into()
                .map_err(|_| StorageError::Corrupt("a hash of another length".to_owned()))?,
        };
        let flows = [self.registration_flow()?];
        let kind = auth.auth_type().ok_or_else(unknown)?;
        if !flows[0].stages.contains(&kind) {
            return Err(unknown());
        }
        let mut proof = resume(&mut session, &operation)?;
        if proof.stages.contains_key(kind.as_str()) {
            return Ok(true);
        }
        let Stage::Done(told) = self.attempt(&operation, &flows, &proof, auth).await? else {
            return Ok(false);
        };
        proof.stages.insert(kind.to_string(), told);
        self.keep(&mut session, &proof).await?;
        Ok(true)
    }

    /// Lets pass a user who has given their password again.
    ///
    /// # Errors
    /// [`EngineError::AuthenticationRequired`] with what is still to be proved; `M_FORBIDDEN` if someone else proved who
    /// they are, or the session was begun for something else.
    pub async fn authorise_by_password(
        &self,
        operation: &Operation<'_>,
        auth: Option<&AuthData>,
    ) -> Result<Proof> {
        let flow = AuthFlow::new(vec![AuthType::Password]);
        self.authorise(operation, vec![flow], auth).await
    }

    async fn authorise(
        &self,
        operation: &Operation<'_>,
        flows: Vec<AuthFlow>,
        auth: Option<&AuthData>,
    ) -> Result<Proof> {
        let known = match auth.and_then(AuthData::session) {
            Some(id) if !id.contains('\0') => {
                interactive::find(&self.database, id, self.clock.now_ms()).await?
            }
            _ => None,
        };
        let is_new = known.is_none();
        let mut session = match known {
            Some(session) => session,
            None => self.new_session(operation),
        };
        let mut proof = resume(&mut session, operation)?;
        let stage = match auth {
            // Nobody agrees to what they haven't been shown.
            Some(AuthData::Terms(_)) if is_new => Stage::Failed(
                ErrorKind::MissingParam,
                "ask for the documents first, then agree with the `session` that you got",
            ),
            Some(auth) => self.attempt(operation, &flows, &proof, auth).await?,
            None => Stage::None,
        };
        let mut failure = None;
        match stage {
            Stage::Done(told) => {
                if let Some(kind) = auth.and_then(AuthData::auth_type) {
                    proof.stages.insert(kind.to_string(), told);
                }
            }
            Stage::Failed(kind, message) => {
                failure = Some(StandardErrorBody::new(kind, message.to_owned()));
            }
            Stage::None => {}
        }
        if flows.iter().any(|flow| proof.completes(flow)) {
            if !is_new {
                self.end(&session).await?;
            }
            return Ok(proof);
        }
        self.keep(&mut session, &proof).await?;
        let params = self.params(&flows)?;
        let challenge = challenge(flows, params, &proof, session, failure);
        Err(EngineError::AuthenticationRequired(Box::new(challenge)))
    }

    async fn keep(&self, session: &mut InteractiveSession, proof: &Proof) -> Result<()> {
        session.completed = serde_json::to_string(&proof.stages)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let mut transaction = self.database.write().await?;
        interactive::put(&mut transaction, session).await?;
        Ok(transaction.commit().await?)
    }

    /// What clients have to know for the stages. It is there even if that is nothing, as clients look for it.
    fn params(&self, flows: &[AuthFlow]) -> Result<Box<RawValue>> {
        let mut params = serde_json::Map::new();
        if flows
            .iter()
            .any(|flow| flow.stages.contains(&AuthType::Terms))
        {
            let terms = terms::params(self.accounts.terms());
            params.insert(AuthType::Terms.to_string(), terms);
        }
        serde_json::value::to_raw_value(&params)
            .map_err(|error| EngineError::Internal(error.to_string()))
    }

    fn new_session(&self, operation: &Operation<'_>) -> InteractiveSession {
        let now = self.clock.now_ms();
        let timeout = i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX);
        InteractiveSession {
            session_id: self.random.alphanumeric(SESSION_ID_LENGTH),
            operation: operation.name.to_owned(),
            user_nid: operation.session.map(|session| session.user_nid),
            completed: "{}".to_owned(),
            request_hash: operation.request_hash.to_vec(),
            created_at: now,
            expires_at: now.saturating_add(timeout),
        }
    }

    /// Ends a session whose stages are done. Whoever ends it is served; who comes second at the same moment isn't.
    async fn end(&self, session: &InteractiveSession) -> Result<()> {
        let mut transaction = self.database.write().await?;
        let ended = interactive::delete(&mut transaction, &session.session_id).await?;
        transaction.commit().await?;
        if ended {
            return Ok(());
        }
        Err(EngineError::forbidden(
            "this authentication was used already",
        ))
    }

    async fn attempt(
        &self,
        operation: &Operation<'_>,
        flows: &[AuthFlow],
        proof: &Proof,
        auth: &AuthData,
    ) -> Result<Stage> {
        let kind = match auth.auth_type() {
            Some(kind) if !proof.stages.contains_key(kind.as_str()) => kind,
            // The client asks how far it has come, or does again what is done.
            _ => return Ok(Stage::None),
        };
        if !flows.iter().any(|flow| flow.stages.contains(&kind)) {
            return Ok(Stage::Failed(
                ErrorKind::Unrecognized,
                "this kind of authentication is not asked for here",
            ));
        }
        if !flows.iter().any(|flow| proof.comes_next(flow, &kind)) {
            return Ok(Stage::Failed(
                ErrorKind::Forbidden,
                "another stage comes before this one",
            ));
        }
        match (auth, operation.session) {
            (AuthData::Dummy(_), _) => Ok(Stage::Done(None)),
            (AuthData::Terms(_), _) => Ok(Stage::Done(Some(terms::agreed(self.accounts.terms())))),
            (AuthData::RegistrationToken(given), _) => {
                let valid = self
                    .accounts
                    .is_registration_token_valid(&given.token)
                    .await?;
                Ok(match valid {
                    true => Stage::Done(Some(given.token.clone())),
                    false => Stage::Failed(
                        ErrorKind::Unauthorized,
                        "the registration token is not valid",
                    ),
                })
            }
            (AuthData::Password(given), Some(session)) => self.check_password(session, given).await,
            _ => Ok(Stage::Failed(
                ErrorKind::Unrecognized,
                "this kind of authentication is not supported",
            )),
        }
    }

    async fn check_password(&self, session: &Session, given: &Password) -> Result<Stage> {
        let UserIdentifier::Matrix(identifier) = &given.identifier else {
            return Ok(Stage::Failed(
                ErrorKind::Forbidden,
                "only identifiers of type m.id.user are supported",
            ));
        };
        let named = self.accounts.named_user(&identifier.user);
        if named.as_ref() != Some(&session.user_id) {
            return Err(EngineError::forbidden(
                "you have to authenticate as the user who is logged in",
            ));
        }
        let right = self
            .accounts
            .is_password_of(&session.user_id, &given.password)
            .await?;
        Ok(match right {
            true => Stage::Done(None),
            false => Stage::Failed(ErrorKind::Forbidden, "the password is wrong"),
        })
    }

    async fn remove_expired(&self) -> Result<()> {
        let mut transaction = self.database.write().await?;
        interactive::delete_expired(&mut transaction, self.clock.now_ms()).await?;
        Ok(transaction.commit().await?)
    }
}

/// What was proved in a session, if it serves `operation`.
fn resume(session: &mut InteractiveSession, operation: &Operation<'_>) -> Result<Proof> {
    let user_nid = operation.session.map(|session| session.user_nid);
    if session.operation != operation.name || session.user_nid != user_nid {
        return Err(EngineError::forbidden(
            "this authentication was begun for something else",
        ));
    }
    let stages: BTreeMap<String, Option<String>> = serde_json::from_str(&session.completed)
        .map_err(|error| StorageError::Corrupt(error.to_string()))?;
    if session.request_hash != operation.request_hash {
        if !stages.is_empty() {
            return Err(EngineError::forbidden(
                "the request differs from the one that the authentication was begun for",
            ));
        }
        // Nothing was proved for the other request, so nothing is lost: clients ask for the flows with an empty one.
        session.request_hash = operation.request_hash.to_vec();
    }
    Ok(Proof { stages })
}

fn challenge(
    flows: Vec<AuthFlow>,
    params: Box<RawValue>,
    proof: &Proof,
    session: InteractiveSession,
    failure: Option<StandardErrorBody>,
) -> UiaaInfo {
    let mut info = UiaaInfo::new(flows);
    info.completed = proof
        .stages
        .keys()
        .map(|stage| AuthType::from(stage.as_str()))
        .collect();
    info.params = Some(params);
    info.session = Some(session.session_id);
    info.auth_error = failure.map(Box::new);
    info
}
