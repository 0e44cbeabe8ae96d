//! A guest that is an artifact of an OCI registry, in the layout of the CNCF's Wasm working group that `wkg` and `wash` push: a
//! manifest with a config of its own media type and one layer, the component. Its version is the manifest's digest.
//!
//! Manifest and layer are verified by their digests. `oci-client` is not used: it follows redirects anywhere, sends the
//! password to a token service that need not be encrypted, and reads manifests and tokens without a bound.

use super::{Failure, Fetched, Source, read, send, successful};
use crate::config::digest::Digest;
use crate::config::source::Artifact;
use http_auth::{ChallengeRef, parse_challenges};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The media types that are asked for: the expected manifest, and the others that there may be, so that the error can name what was found.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json";

/// The most bytes of a manifest; a manifest with a single layer takes less than a thousandth of that.
const MAX_MANIFEST: u64 = 1 << 20;
/// The most bytes of a token service's answer.
const MAX_TOKEN: u64 = 64 << 10;
/// The most characters of a registry's own words in an error.
const MAX_QUOTE: usize = 100;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

pub(super) async fn fetch(source: &Source, artifact: &Artifact, known: Option<&str>) -> Result<Fetched, Failure> {
    let Artifact { reference, .. } = artifact;
    if artifact.is_pinned() && known == Some(reference) {
        return Ok(Fetched::Unchanged);
    }
    let mut session = Session { source, artifact, authorization: None };
    let manifest = format!("manifests/{reference}");
    if known.is_some() && !artifact.is_pinned() {
        // Registries count GET requests as downloads, and HEAD requests not.
        let head = session.ask(Method::HEAD, &manifest).await?;
        let digest = head.headers().get(CONTENT_DIGEST).and_then(|digest| digest.to_str().ok());
        if head.status() == StatusCode::OK && digest == known {
            return Ok(Fetched::Unchanged);
        }
    }

    let too_large = |_| Failure::Registry("has a manifest of more than 1MiB: it is no guest's".to_owned());
    let manifest = read(successful(session.ask(Method::GET, &manifest).await?)?, MAX_MANIFEST, too_large).await?;
    let version = format!("sha256:{}", Digest::of(&manifest));
    if artifact.is_pinned() && version != *reference {
        return Err(mismatch("manifest"));
    }
    if known == Some(&version) {
        return Ok(Fetched::Unchanged);
    }

    let layer = layer(&manifest).map_err(|found| {
        let found: String = found.chars().take(MAX_QUOTE).collect();
        Failure::Registry(format!(
            "is {found:?}, but a guest is an artifact with config {CONFIG} and one layer {LAYER}: push it with `wkg oci push`"
        ))
    })?;
    if layer.size > source.max_size {
        return Err(Failure::TooLarge(source.max_size));
    }
    let blob = session.ask(Method::GET, &format!("blobs/sha256:{}", layer.digest)).await?;
    let wasm = read(successful(blob)?, source.max_size, Failure::TooLarge).await?;
    // A large one would hold the thread.
    let digested = tokio::task::spawn_blocking(move || (Digest::of(&wasm), wasm)).await;
    let (digest, wasm) = digested.expect("a digest does not panic");
    if digest != layer.digest {
        return Err(mismatch("layer"));
    }
    Ok(Fetched::Guest { wasm, version: Some(version) })
}

fn mismatch(what: &str) -> Failure {
    let why = format!("has a {what} that is not the one of its digest: look at the registry, and push the guest again");
    Failure::Registry(why)
}

/// The only layer of a guest's manifest.
#[derive(Debug, PartialEq, Eq)]
struct Layer {
    digest: Digest,
    size: u64,
}

/// Reads a manifest.
///
/// # Errors
/// Says what the manifest is, if it is not a guest's.
fn layer(manifest: &[u8]) -> Result<Layer, String> {
    let manifest: Value = serde_json::from_slice(manifest).map_err(|_| "no manifest".to_owned())?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if manifest.get("manifests").is_some() {
        return Err("an index of several manifests".to_owned());
    }
    // The specification of OCI lets a manifest leave its media type out.
    let kind = text(&manifest, "mediaType");
    if !kind.is_empty() && kind != MANIFEST {
        return Err(format!("a manifest {kind}"));
    }
    let config = text(&manifest["config"], "mediaType");
    if config != CONFIG {
        return Err(format!("an artifact with config {config}"));
    }
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [layer] = layers else { return Err(format!("an artifact with {} layers", layers.len())) };
    let kind = text(layer, "mediaType");
    if kind != LAYER {
        return Err(format!("an artifact with a layer {kind}"));
    }
    let digest = text(layer, "digest");
    let named = digest.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    let (Some(digest), Some(size)) = (named, layer["size"].as_u64()) else {
        return Err(format!("an artifact with a layer of digest {digest:?} and size {}", layer["size"]));
    };
    Ok(Layer { digest, size })
}

/// The requests of one fetch, which share the proof that the registry wants.
struct Session<'a> {
    source: &'a Source,
    artifact: &'a Artifact,
    authorization: Option<Authorization>,
}

enum Authorization {
    /// The user's own credentials.
    Basic,
    /// The token that the token service gave, with or without credentials.
    Bearer(String),
}

impl Session<'_> {
    /// Sends a request for a part of the repository, a second time if the registry wants a proof.
    async fn ask(&mut self, method: Method, part: &str) -> Result<Response, Failure> {
        let response = self.ask_once(method.clone(), part).await?;
        // A server to which a redirect led gets no proof.
        let own = response.url().origin() == self.artifact.registry.origin();
        if response.status() != StatusCode::UNAUTHORIZED || !own {
            return Ok(response);
        }
        self.authorization = Some(self.authorize(response.headers()).await?);
        self.ask_once(method, part).await
    }

    async fn ask_once(&self, method: Method, part: &str) -> Result<Response, Failure> {
        let mut url = self.artifact.registry.clone();
        url.set_path(&format!("v2/{}/{part}", self.artifact.repository));
        let request = self.source.client.request(method, url).header(ACCEPT, ACCEPTED);
        send(match &self.authorization {
            Some(Authorization::Basic) => self.source.with_credentials(request),
            Some(Authorization::Bearer(token)) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// Finds out which proof the registry wants, and obtains it.
    async fn authorize(&self, headers: &HeaderMap) -> Result<Authorization, Failure> {
        let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
        let challenges: Vec<_> = lines.filter_map(|line| parse_challenges(line).ok()).flatten().collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = find("Bearer") {
            return self.token(bearer).await.map(Authorization::Bearer);
        }
        match (find("Basic"), &self.source.remote.credentials) {
            (Some(_), Some(_)) => Ok(Authorization::Basic),
            (Some(_), None) => Err(Failure::Registry("wants a user: set guest.username and guest.password".to_owned())),
            (None, _) => {
                let why = "wants a proof that is neither a password nor a token: use a registry that takes one of them";
                Err(Failure::Registry(why.to_owned()))
            }
        }
    }

    /// Asks the token service that the registry names.
    async fn token(&self, challenge: &ChallengeRef<'_>) -> Result<String, Failure> {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let unusable = |why: &str| Failure::Registry(format!("{why}: look at the registry"));
        let mut url: Url = parameter("realm")
            .and_then(|realm| realm.parse().ok())
            .ok_or_else(|| unusable("wants a token, but does not say from where"))?;
        if url.scheme() != "https" && url.origin() != self.artifact.registry.origin() {
            return Err(unusable("names a token service that is not encrypted"));
        }
        let scope = parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.artifact.repository));
        let service = parameter("service").map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service.into_iter().chain([("scope", scope)]));

        let response = send(self.source.with_credentials(self.source.client.get(url))).await?;
        let answer =
            read(successful(response)?, MAX_TOKEN, |_| unusable("has a token service that says too much")).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| answer.get(key)?.as_str());
        token.map(str::to_owned).ok_or_else(|| unusable("has a token service that gives no token"))
    }
}
