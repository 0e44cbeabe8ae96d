//! An artifact in an OCI registry, laid out as the CNCF's TAG Runtime says for WebAssembly ("Wasm OCI Artifact layout"): a manifest
//! with one layer of type `application/wasm`. Its version is the digest of its manifest.

use super::{Fetched, Source, Why, read, refused};
use crate::config::source::{Artifact, is_loopback};
use crate::guest::compiled::digest;
use crate::guest::hexadecimal;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};

/// What is asked for. The others are named in an answer that says why they will not do.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
/// The only type of layer that is a guest.
const LAYER: &str = "application/wasm";
/// Bytes of a manifest or a token: more than any registry allows.
const MOST: u64 = 4 << 20;
/// Where a registry names what it has just sent (OCI distribution specification, "Pulling manifests").
const DIGEST: &str = "docker-content-digest";

/// An artifact, and the token that its registry gave for it.
pub struct Registry {
    artifact: Artifact,
    token: Mutex<Option<String>>,
}

/// Of the manifest, what matters here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

/// What a token service answers: some say the one, some the other.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Nobody has asked for anything yet.
    pub fn new(artifact: Artifact) -> Self {
        Self { artifact, token: Mutex::default() }
    }

    /// Asks for the artifact, unless it is still this one.
    pub async fn fetch(&self, source: &Source, known: Option<&str>) -> Result<Fetched, Why> {
        let Artifact { reference, .. } = &self.artifact;
        if let Some(known) = known {
            if known == reference {
                return Ok(Fetched::Unchanged);
            }
            // Registries that count what is fetched do not count this.
            let head = self.ask(source, Method::HEAD, "manifests", reference).await?;
            if head.headers().get(DIGEST).is_some_and(|now| now == known) {
                return Ok(Fetched::Unchanged);
            }
        }
        let manifest = read(self.ask(source, Method::GET, "manifests", reference).await?, MOST).await?;
        let version = named(&manifest);
        if known == Some(&version) {
            return Ok(Fetched::Unchanged);
        }
        if self.artifact.is_pinned() && version != *reference {
            return Err(Why::Wrong(format!("has a manifest that is not the one of its digest, but {version}")));
        }
        let layer = layer(&manifest)?;
        if layer.size > source.max_size {
            return Err(Why::TooLarge(source.max_size));
        }
        let wasm = read(self.ask(source, Method::GET, "blobs", &layer.digest).await?, source.max_size).await?;
        let found = named(&wasm);
        if found != layer.digest {
            return Err(Why::Wrong(format!(
                "has a layer that is not the one of its digest {}, but {found}",
                layer.digest
            )));
        }
        Ok(Fetched::Guest { wasm, version: Some(version) })
    }

    /// Asks once, and once more if the registry wants to know by whom.
    async fn ask(&self, source: &Source, method: Method, what: &str, which: &str) -> Result<Response, Why> {
        let Artifact { registry, repository, .. } = &self.artifact;
        let url = registry.join(&format!("v2/{repository}/{what}/{which}"));
        let url = url.map_err(|error| Why::Wrong(format!("names no artifact ({error})")))?;
        let send = async || {
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut request = source.client.request(method.clone(), url.clone()).header(ACCEPT, MANIFESTS);
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token);
            }
            request.send().await
        };
        let mut response = send().await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let token = self.prove(source, &response).await?;
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
            response = send().await?;
        }
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(refused(status)),
        }
    }

    /// What the registry wants to see in the header `Authorization`, by what it said in `response`.
    async fn prove(&self, source: &Source, response: &Response) -> Result<String, Why> {
        let wanted =
            response.headers().get(WWW_AUTHENTICATE).and_then(|wanted| wanted.to_str().ok()).unwrap_or_default();
        let challenges: Vec<ChallengeRef<'_>> = ChallengeParser::new(wanted).map_while(Result::ok).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        if let Some(bearer) = of("Bearer") {
            return self.token(source, bearer).await;
        }
        match &source.remote.credentials {
            Some(_) if of("Basic").is_some() => {
                let request = source.authenticated(source.client.get(self.artifact.registry.clone())).build()?;
                let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
                header.map(str::to_owned).ok_or_else(|| refused(response.status()))
            }
            _ => Err(refused(response.status())),
        }
    }

    /// A token of the service that the registry names, which gets the credentials.
    async fn token(&self, source: &Source, bearer: &ChallengeRef<'_>) -> Result<String, Why> {
        let parameter = |name: &str| {
            let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.ok_or_else(|| Why::Wrong("names no token service".to_owned()))?;
        if realm.scheme() != "https" && !(is_loopback(&realm) && is_loopback(&self.artifact.registry)) {
            return Err(Why::Wrong("names a token service without encryption, which gets no credentials".to_owned()));
        }
        let scope = format!("repository:{}:pull", self.artifact.repository);
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter("service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let response = source.authenticated(source.client.get(realm)).send().await?;
        if response.status() != StatusCode::OK {
            return Err(refused(response.status()));
        }
        let token: Option<Token> = serde_json::from_slice(&read(response, MOST).await?).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token
            .map(|token| format!("Bearer {token}"))
            .ok_or_else(|| Why::Wrong("has a token service that gives no token".to_owned()))
    }
}

/// The layer that is the guest.
fn layer(manifest: &[u8]) -> Result<Layer, Why> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| Why::Wrong(format!("has no manifest that can be read ({error})")))?;
    let expected = format!("expected is an artifact with one layer of type {LAYER}, as wkg or oras push it");
    let media_type = manifest.media_type.unwrap_or_default();
    if media_type.contains("index") || media_type.contains("list") {
        return Err(Why::Wrong(format!("is a list of artifacts ({media_type}): {expected}")));
    }
    let types: Vec<String> = manifest.layers.iter().map(|layer| layer.media_type.clone()).collect();
    let mut layers = manifest.layers.into_iter();
    match (layers.next(), layers.next()) {
        (Some(layer), None) if layer.media_type == LAYER => Ok(layer),
        (None, _) => Err(Why::Wrong(format!("has no layer: {expected}"))),
        _ => Err(Why::Wrong(format!("has {} of type {}: {expected}", count(types.len()), types.join(", ")))),
    }
}

fn count(layers: usize) -> String {
    if layers == 1 { "one layer".to_owned() } else { format!("{layers} layers") }
}

/// A digest as registries spell it.
fn named(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&digest(bytes)))
}
