//! Commands about other servers.

use parley_federation::Federation;
use ruma::{OwnedServerName, ServerName};

use super::{Answer, Refusal};

pub(crate) async fn check(federation: &Federation, server: &str) -> Result<Answer, Refusal> {
    let findings = federation.check(&name(server)?).await;
    Ok(Answer::Findings(findings))
}

pub(crate) async fn destinations(federation: &Federation) -> Result<Answer, Refusal> {
    let all = federation.destinations_status().await;
    all.map(Answer::Destinations)
        .map_err(|error| Refusal(error.to_string()))
}

pub(crate) async fn retry(federation: &Federation, server: &str) -> Result<Answer, Refusal> {
    Ok(Answer::Retried(federation.retry(&name(server)?).await))
}

fn name(server: &str) -> Result<OwnedServerName, Refusal> {
    ServerName::parse(server)
        .map_err(|error| Refusal(format!("`{server}` is no server's name: {error}")))
}
