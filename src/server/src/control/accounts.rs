//! Commands as calls of the engine.

use parley_engine::{
    Engine, EngineError,
    accounts::{Account, NewUser},
    settings::Secret,
};
use ruma::{OwnedUserId, UserId};

use super::{Answer, Command, ListedAccount, Refusal};

/// Accounts that are read at once.
const PAGE: u32 = 1_000;

pub(crate) async fn execute(engine: &Engine, command: Command) -> Result<Answer, Refusal> {
    let accounts = engine.accounts();
    match command {
        Command::Create {
            username,
            password,
            admin,
        } => {
            let new = NewUser {
                username: Some(localpart(engine, &username)?),
                password: Some(Secret::new(password.expose())),
                admin,
                ..NewUser::default()
            };
            let account = accounts.create(new).await.map_err(refusal)?;
            Ok(done(&account.user_id))
        }
        Command::List => list(engine).await.map(Answer::Accounts).map_err(refusal),
        Command::ResetPassword {
            user,
            password,
            keep_devices,
        } => {
            let user = user_id(engine, &user)?;
            let reset = accounts.reset_password(&user, password.expose(), !keep_devices);
            reset.await.map_err(refusal)?;
            Ok(done(&user))
        }
        Command::Deactivate { user, erase } => {
            let user = user_id(engine, &user)?;
            accounts.deactivate(&user, erase).await.map_err(refusal)?;
            Ok(done(&user))
        }
        _ => Err(Refusal("this is no command about accounts".to_owned())),
    }
}

fn done(user_id: &UserId) -> Answer {
    Answer::Done {
        user_id: user_id.to_string(),
    }
}

fn refusal(error: EngineError) -> Refusal {
    Refusal(error.to_string())
}

async fn list(engine: &Engine) -> Result<Vec<ListedAccount>, EngineError> {
    let mut listed = Vec::new();
    let mut last = 0;
    loop {
        let page = engine.accounts().list(last, PAGE).await?;
        let Some(account) = page.last() else {
            return Ok(listed);
        };
        last = account.user_nid;
        listed.extend(page.into_iter().map(listed_account));
    }
}

fn listed_account(account: Account) -> ListedAccount {
    ListedAccount {
        user_id: account.user_id.into(),
        created_at: account.created_at,
        admin: account.admin,
        deactivated: account.deactivated_at.is_some(),
        locked: account.locked,
        suspended: account.suspended,
    }
}

/// The ID that is meant by an ID or its part before the colon.
fn user_id(engine: &Engine, user: &str) -> Result<OwnedUserId, Refusal> {
    let server = &engine.settings().server_name;
    let user_id = UserId::parse_with_server_name(user, server)
        .map_err(|error| Refusal(format!("`{user}` is not a user: {error}")))?;
    if user_id.server_name() != server {
        return Err(Refusal(format!(
            "{user_id} is not a user of this server, {server}"
        )));
    }
    Ok(user_id)
}

/// The part before the colon, where an ID of this server was given.
fn localpart(engine: &Engine, user: &str) -> Result<String, Refusal> {
    if user.starts_with('@') {
        user_id(engine, user).map(|user_id| user_id.localpart().to_owned())
    } else {
        Ok(user.to_owned())
    }
}
