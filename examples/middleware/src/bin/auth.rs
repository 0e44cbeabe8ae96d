//! Lets those requests pass that bear a valid token: a JSON Web Token (RFC 7519) that has not expired, and is signed by the Ed25519 key
//! whose public half is in `JWT_PUBLIC_KEY`, as a JSON Web Key (RFC 8037). All others get 401, as RFC 6750 has it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_compact::{PublicKey, Signature};
use middleware_examples::{ErrorCode, Request, Response, answer, header, in_front, next};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let given = header(&request.get_headers(), "authorization");
    let given = given.as_deref().and_then(|given| given.split_once(' '));
    let Some((_, token)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Ok(answer(401, &[("www-authenticate", "Bearer")], b"a bearer token is needed\n".to_vec()));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64();
    match check(token, &key(), now) {
        Some(()) => next::handle(request).await,
        None => {
            let challenge = [("www-authenticate", "Bearer error=\"invalid_token\"")];
            Ok(answer(401, &challenge, b"the bearer token is not valid\n".to_vec()))
        }
    }
}

/// The key that signs. Without one nobody passes: the invocation ends in a trap, which the log tells with this component's name.
fn key() -> PublicKey {
    let setting = std::env::var("JWT_PUBLIC_KEY").expect("the grant grants.env JWT_PUBLIC_KEY");
    let key = serde_json::from_str(&setting).ok().filter(|key: &Value| key["crv"] == "Ed25519");
    let bytes = key.and_then(|key| decode(key["x"].as_str()?));
    let key = bytes.and_then(|bytes| PublicKey::from_slice(&bytes).ok());
    key.expect("JWT_PUBLIC_KEY like {\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"...\"}")
}

/// Whether a token is valid at this time, in seconds since 1970. No algorithm but EdDSA is taken, whatever the token says.
fn check(token: &str, key: &PublicKey, now: f64) -> Option<()> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    key.verify(signed, &Signature::from_slice(&decode(signature)?).ok()?).ok()?;
    let [head, claims] = [head, claims].map(|part| serde_json::from_slice::<Value>(&decode(part)?).ok());
    let (head, claims) = (head?, claims?);
    // An extension that has to be understood is not understood here.
    let known = head["alg"] == "EdDSA" && head.get("crit").is_none();
    let begun = claims.get("nbf").is_none_or(|begins| begins.as_f64().is_some_and(|begins| begins <= now));
    (known && begun && claims["exp"].as_f64()? > now).then_some(())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

in_front!(handle);
