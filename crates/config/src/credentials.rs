//! What the host adds to the requests of guests, which never see it: `identity` and `headers` of an entry of `grants.hosts`.

use super::AppSettings;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// Headers that decide where a request goes or ends, so that nobody may set them.
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Keys of an entry that say what is added.
pub const KEYS: [&str; 4] = ["identity", "clientId", "token", "headers"];

/// What is added, as it is written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Credentials {
    identity: Option<Identity>,
    headers: Vec<(HeaderName, Template)>,
}

/// What a token for Azure Storage is for, the same in every cloud that documents it.
const STORAGE: &str = "https://storage.azure.com";

/// A token of an identity, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    resource: String,
    client_id: Option<Template>,
    token: Option<Template>,
}

/// A text in which `%NAME%` stands for an app setting. It may hold a secret all the same.
#[derive(Clone, PartialEq, Eq)]
struct Template(String);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template(not shown)")
    }
}

impl Template {
    /// The text with the values of the app settings that it names.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    fn fill(&self, settings: &AppSettings) -> Result<String, String> {
        let mut filled = String::new();
        for (at, piece) in self.0.split('%').enumerate() {
            if at % 2 == 0 {
                filled.push_str(piece);
                continue;
            }
            let missing = || format!("there is no app setting {piece}: set it, or write another name");
            filled.push_str(settings.get(piece).ok_or_else(missing)?);
        }
        Ok(filled)
    }
}

/// What is added, with every value in place.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Added {
    /// Headers, none of them twice, marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whose token is sent as `authorization: Bearer`.
    pub token: Option<TokenFor>,
}

/// Which token it takes, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenFor {
    /// What it is for, such as `https://storage.azure.com`.
    pub resource: Arc<str>,
    /// The client id of a user-assigned identity; none for that of the app.
    pub client_id: Option<String>,
    /// Who has it.
    pub issuer: Issuer,
}

/// Who has tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// The platform, at this address, with the secret that it wants to see (`IDENTITY_ENDPOINT` and `IDENTITY_HEADER`; App Service,
    /// "REST endpoint reference" of managed identities).
    Endpoint(Uri, HeaderValue),
    /// An app setting, for a machine without an identity.
    Setting(HeaderValue),
    /// The person who is signed in to the Azure CLI.
    AzureCli,
}

impl Identity {
    /// One for Azure Storage, from an entry that may have `clientId` and `token`.
    ///
    /// # Errors
    /// What to write instead, for a person; without a value.
    pub fn storage(entry: &Map<String, Value>) -> Result<Self, String> {
        let (client_id, token) = holder(entry)?;
        Ok(Self { resource: STORAGE.to_owned(), client_id, token })
    }

    /// Finds out who has the token on this machine.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    pub fn fill(&self, settings: &AppSettings) -> Result<TokenFor, String> {
        let client_id = self.client_id.as_ref().map(|template| template.fill(settings)).transpose()?;
        // It is for a machine without an identity, so that the app does without the setting elsewhere.
        let own = || self.token.as_ref().and_then(|template| template.fill(settings).ok());
        let issuer = match settings.get("IDENTITY_ENDPOINT") {
            Some(endpoint) => {
                let endpoint = endpoint.parse::<Uri>().ok().filter(|uri| uri.scheme() == Some(&Scheme::HTTP));
                let endpoint =
                    endpoint.ok_or("the app setting IDENTITY_ENDPOINT is no http URL: the platform sets it")?;
                let header = settings.get("IDENTITY_HEADER").cloned();
                let header = header.ok_or(
                    "there is no app setting IDENTITY_HEADER beside IDENTITY_ENDPOINT: the platform sets both",
                )?;
                Issuer::Endpoint(endpoint, secret("IDENTITY_HEADER", header)?)
            }
            None => match own() {
                Some(token) => Issuer::Setting(secret("token", format!("Bearer {token}"))?),
                None => Issuer::AzureCli,
            },
        };
        Ok(TokenFor { resource: self.resource.as_str().into(), client_id, issuer })
    }
}

impl Credentials {
    /// Reads them from an entry.
    ///
    /// # Errors
    /// What to write instead, for a person; without a value.
    pub fn read(entry: &Map<String, Value>) -> Result<Self, String> {
        let identity = text(entry, "identity")?;
        let (client_id, token) = holder(entry)?;
        let mut headers: Vec<(HeaderName, Template)> = Vec::new();
        let written = match entry.get("headers") {
            None => &Map::new(),
            Some(Value::Object(written)) => written,
            Some(_) => {
                return Err("has headers that are no object: write them like {\"x-api-key\": \"%API_KEY%\"}".to_owned());
            }
        };
        for (name, value) in written {
            let name = HeaderName::try_from(name).map_err(|_| {
                format!("has a header {name:?}, whose name cannot be sent: write it like \"x-api-key\"")
            })?;
            if FRAMING.contains(&name) {
                return Err(format!("sets {name}, which the host sets by itself: remove it"));
            }
            if headers.iter().any(|(other, _)| *other == name) {
                return Err(format!("sets {name} twice: remove one of them"));
            }
            if name == header::AUTHORIZATION && identity.is_some() {
                return Err("sets authorization by identity and by headers: remove one of them".to_owned());
            }
            let text = value.as_str().ok_or_else(|| format!("sets {name} to what is no text"))?;
            let value = template(name.as_str(), text.to_owned())?;
            headers.push((name, value));
        }
        let Some(resource) = identity else {
            let alone =
                [("clientId", client_id.is_some()), ("token", token.is_some())].into_iter().find(|(_, has)| *has);
            return match alone {
                Some((key, _)) => {
                    Err(format!("has a {key}, which is of no use without identity: add it, or remove {key}"))
                }
                None => Ok(Self { identity: None, headers }),
            };
        };
        Ok(Self { identity: Some(Identity { resource, client_id, token }), headers })
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts the values of app settings in their places.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    pub fn fill(&self, settings: &AppSettings) -> Result<Added, String> {
        let header = |(name, template): &(HeaderName, Template)| {
            Ok((name.clone(), secret(name.as_str(), template.fill(settings)?)?))
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, String>>()?;
        let token = self.identity.as_ref().map(|identity| identity.fill(settings)).transpose()?;
        Ok(Added { headers, token })
    }
}

/// What is added, in words without a value.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.iter().map(|identity| format!("a token for {}", identity.resource));
        let headers = self.headers.iter().map(|(name, _)| name.to_string());
        f.write_str(&identity.chain(headers).collect::<Vec<_>>().join(", "))
    }
}

/// A text of an entry.
fn text(entry: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match entry.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && !text.contains(char::is_control) => Ok(Some(text.clone())),
        Some(_) => Err(format!("has no text without line breaks as {key}")),
    }
}

/// `clientId` and `token` of an entry.
fn holder(entry: &Map<String, Value>) -> Result<(Option<Template>, Option<Template>), String> {
    let read = |key: &str| text(entry, key)?.map(|text| template(key, text)).transpose();
    let (client_id, token) = (read("clientId")?, read("token")?);
    if token.as_ref().is_some_and(|Template(text)| !text.starts_with('%')) {
        return Err(
            "holds a token, which must not stand here: write \"%NAME%\", and put it into that app setting".to_owned()
        );
    }
    Ok((client_id, token))
}

/// A value that must not be shown.
fn secret(what: &str, text: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| format!("{what} cannot be sent: its app setting holds a line break or the like"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a text in which `%NAME%` stands for an app setting.
fn template(key: &str, text: String) -> Result<Template, String> {
    let even = text.matches('%').count().is_multiple_of(2);
    let named = text.split('%').skip(1).step_by(2).all(|name| !name.is_empty());
    let fits = even && named && !text.contains(char::is_control);
    fits.then_some(Template(text)).ok_or_else(|| {
        format!("has a value of {key} that cannot be read: write the app settings in it as %NAME%, and put every other % into one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(entry: &Value) -> Result<Credentials, String> {
        Credentials::read(entry.as_object().expect("an object"))
    }

    fn settings(pairs: &[(&str, &str)]) -> AppSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_come_from_app_settings_and_are_not_shown() {
        let read = read(&json!({"headers": {"Authorization": "Bearer %T%", "x-both": "%T%-%T%", "x-plain": "1"}}));
        let read = read.expect("they can be read");
        assert_eq!(read.to_string(), "authorization, x-both, x-plain");
        assert_eq!(
            read.fill(&settings(&[])),
            Err("there is no app setting T: set it, or write another name".to_owned())
        );
        let added = read.fill(&settings(&[("T", "hush")])).expect("it is set");
        let values: Vec<_> = added.headers.iter().map(|(_, value)| value.to_str().expect("a text")).collect();
        assert_eq!(values, ["Bearer hush", "hush-hush", "1"]);
        assert!(!format!("{added:?}{read:?}").contains("hush"));
        let wrong = read.fill(&settings(&[("T", "hush\n")])).expect_err("it cannot be sent");
        assert!(wrong.starts_with("authorization cannot be sent") && !wrong.contains("hush"), "{wrong}");
    }

    #[test]
    fn who_has_the_token_follows_from_the_machine() {
        let read = read(&json!({"identity": "https://a.example", "clientId": "%ID%", "token": "%T%"})).expect("read");
        let issuer = |more: &[(&str, &str)]| {
            read.fill(&settings(&[&[("ID", "1")], more].concat()))
                .map(|added| added.token.expect("it is asked for").issuer)
        };
        assert_eq!(issuer(&[]), Ok(Issuer::AzureCli));
        assert_eq!(issuer(&[("T", "hush")]), Ok(Issuer::Setting(HeaderValue::from_static("Bearer hush"))));
        let platform = [("T", "hush"), ("IDENTITY_ENDPOINT", "http://a/b"), ("IDENTITY_HEADER", "h")];
        assert_eq!(
            issuer(&platform),
            Ok(Issuer::Endpoint(Uri::from_static("http://a/b"), HeaderValue::from_static("h")))
        );
        assert!(issuer(&platform[..2]).expect_err("it is missing").contains("IDENTITY_HEADER"));
        assert!(
            issuer(&[("IDENTITY_ENDPOINT", "x y")]).expect_err("none").contains("IDENTITY_ENDPOINT is no http URL")
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (entry, words) in [
            (json!({"headers": []}), "headers that are no object"),
            (
                json!({"headers": {"a b": "hush"}}),
                "has a header \"a b\", whose name cannot be sent: write it like \"x-api-key\"",
            ),
            (json!({"headers": {"a": 1}}), "no text"),
            (json!({"headers": {"A": "1", "a": "hush"}}), "sets a twice"),
            (json!({"headers": {"Host": "hush"}}), "sets host"),
            (json!({"headers": {"a": "hush%"}}), "has a value of a that cannot be read"),
            (json!({"headers": {"a": "%%hush"}}), "write the app settings in it as %NAME%"),
            (json!({"headers": {"authorization": "hush"}, "identity": "x"}), "by identity and by headers"),
            (json!({"clientId": "hush"}), "of no use without identity"),
            (json!({"identity": "x", "token": "hush"}), "must not stand here"),
            (json!({"identity": ["hush"]}), "no text without line breaks as identity"),
        ] {
            let wrong = read(&entry).expect_err(words);
            assert!(wrong.contains(words) && !wrong.contains("hush"), "{entry}: {wrong}");
        }
    }
}
