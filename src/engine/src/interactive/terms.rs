//! Agreeing to documents at registration:
//! <https://spec.matrix.org/v1.19/client-server-api/#terms-of-service-at-registration>.

use parley_storage::accounts::AcceptedTerm;
use serde_json::{Map, Value, json};

use crate::settings::Policy;

/// The documents as clients are told of them.
pub(super) fn params(policies: &[Policy]) -> Value {
    let mut documents: Map<String, Value> = Map::new();
    for policy in policies {
        let document = documents
            .entry(policy.id.clone())
            .or_insert_with(|| json!({ "version": policy.version }));
        document[&policy.language] = json!({ "name": policy.name, "url": policy.url });
    }
    json!({ "policies": documents })
}

/// What is noted of an agreement to the documents as they are now.
pub(super) fn agreed(policies: &[Policy]) -> String {
    let versions: Map<String, Value> = policies
        .iter()
        .map(|policy| (policy.id.clone(), policy.version.clone().into()))
        .collect();
    Value::Object(versions).to_string()
}

/// The documents of such a note.
pub(super) fn told(note: &str) -> Vec<AcceptedTerm> {
    let versions: Map<String, Value> = serde_json::from_str(note).unwrap_or_default();
    let term = |(policy, version): (String, Value)| AcceptedTerm {
        policy,
        version: version.as_str().unwrap_or_default().to_owned(),
    };
    versions.into_iter().map(term).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(id: &str, language: &str) -> Policy {
        Policy {
            id: id.to_owned(),
            version: "1.2".to_owned(),
            language: language.to_owned(),
            name: format!("{id} ({language})"),
            url: format!("https://a.test/{id}/{language}").parse().unwrap(),
        }
    }

    #[test]
    fn a_document_is_told_once_with_all_its_languages() {
        let policies = [
            policy("terms", "en"),
            policy("terms", "fr"),
            policy("privacy", "en"),
        ];
        let told_of = params(&policies);
        let terms = &told_of["policies"]["terms"];
        assert_eq!(terms["version"], "1.2");
        assert_eq!(terms["fr"]["url"], "https://a.test/terms/fr");
        assert_eq!(told_of["policies"].as_object().unwrap().len(), 2);
        let noted: Vec<_> = told(&agreed(&policies))
            .into_iter()
            .map(|term| term.policy)
            .collect();
        assert_eq!(noted, ["privacy", "terms"]);
    }
}
