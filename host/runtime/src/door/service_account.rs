//! Tokens for service accounts: an assertion signed with the key of the operator's key file is exchanged for a bearer
//! token (RFC 7523), which is kept until shortly before it ends. One token is asked for at a time; who needs the same
//! one waits for it.
//!
//! The token's endpoint stands in the key file. It is reached by TLS only, and by the same address checks as everything
//! else: it is public, unless the operator granted that origin himself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, header};
use reqwest::Request;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{Door, DoorError, Reach, Times, check_literal, host_of};
use crate::Secret;

/// How long an assertion is good for.
const ASSERTED: Duration = Duration::from_secs(600);
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(60);
/// The most tokens that one plugin keeps.
const MAX_TOKENS: usize = 16;
/// The longest answer of a token's endpoint.
const MAX_ANSWER: usize = 64 << 10;

/// What is wrong with a key file. It never repeats what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKey {
    #[error("is no service account's key file: it must be JSON with client_email, private_key and token_uri")]
    Form,
    #[error("has a private_key that is no RSA key in PKCS #8")]
    Key,
    #[error("has a token_uri that is not https")]
    Endpoint,
}

/// A key file that was read.
pub(super) struct Key {
    account: String,
    id: Option<String>,
    pair: RsaKeyPair,
    /// Where tokens come from.
    pub(super) endpoint: Url,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: String,
}

impl Key {
    pub(super) fn read(text: &str) -> Result<Self, BadKey> {
        let file: KeyFile = serde_json::from_str(text).map_err(|_| BadKey::Form)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(file.private_key.as_bytes()).map_err(|_| BadKey::Key)?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| BadKey::Key)?;
        let endpoint = Url::parse(&file.token_uri)
            .ok()
            .filter(|url| url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
        Ok(Self {
            account: file.client_email,
            id: file.private_key_id,
            pair,
            endpoint: endpoint.ok_or(BadKey::Endpoint)?,
        })
    }

    /// The form that asks for a token.
    pub(super) fn form(&self, scope: &str, now: SystemTime) -> Result<String, BadKey> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut head = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.id {
            head["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.account,
            "scope": scope,
            "aud": self.endpoint.as_str(),
            "iat": now,
            "exp": now + ASSERTED.as_secs(),
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| BadKey::Key)?;
        let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok(url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", &assertion)
            .finish())
    }
}

/// A token, and until when it is used.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl Token {
    /// Reads the endpoint's answer.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let answer: Answer =
            serde_json::from_slice(body).ok().filter(|answer: &Answer| !answer.access_token.is_empty())?;
        let seconds = answer.expires_in.min(24 * 60 * 60);
        let until = Instant::now() + Duration::from_secs(seconds).saturating_sub(MARGIN);
        Some(Self { text: Secret::new(answer.access_token), until })
    }
}

impl Door {
    /// A token for a service account.
    pub(super) async fn token(&self, name: &str, key: &Secret, scope: &str, times: Times) -> Result<Secret, DoorError> {
        let why = |why: String| DoorError::Token { name: name.to_owned(), why };
        let ask = async {
            let read = Key::read(key.expose()).and_then(|key| Ok((key.form(scope, SystemTime::now())?, key.endpoint)));
            let (form, endpoint) = read.map_err(|error| why(format!("its key file {error}")))?;
            let reach = self.grant.reach(&endpoint).unwrap_or(Reach::Public);
            check_literal(&endpoint, reach)?;
            let host = host_of(&endpoint);
            let mut request = Request::new(Method::POST, endpoint);
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(header::CONTENT_TYPE, form_type);
            *request.body_mut() = Some(form.into());
            let client = self.clients.reaching(reach).clone();
            let sent = AbortOnDropHandle::new(self.io.spawn(async move {
                let mut response = client.execute(request).await?;
                let (status, mut body) = (response.status(), Vec::new());
                while let Some(part) = response.chunk().await? {
                    body.extend_from_slice(&part);
                    if body.len() > MAX_ANSWER {
                        break;
                    }
                }
                Ok((status, body))
            }));
            let wait = times.first_byte.min(times.until.saturating_duration_since(Instant::now()));
            let (status, body) = timeout(wait, sent)
                .await
                .map_err(|_| DoorError::Timeout { host: host.clone(), what: "give a token", limit: wait })?
                .map_err(|error| why(error.to_string()))?
                .map_err(|error| self.explain(&host, error))?;
            // What it says instead may repeat the assertion.
            let token = Some(body).filter(|body| status.is_success() && body.len() <= MAX_ANSWER);
            let token = token.and_then(|body| Token::read(&body));
            let token = token.ok_or_else(|| why(format!("{host} answered {status} without one")))?;
            self.credentials.vault().scrub_also(token.text.clone());
            Ok(token)
        };
        self.credentials.vault().tokens.get(key, scope, ask).await
    }
}

/// The tokens of one plugin, by key file and scope. Whoever holds the lock asks for one.
#[derive(Default)]
pub(super) struct Tokens(Mutex<BTreeMap<[u8; 32], Token>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens([redacted])")
    }
}

impl Tokens {
    /// The token that is there, or else the one that `ask` gets.
    pub(super) async fn get<E>(
        &self,
        key: &Secret,
        scope: &str,
        ask: impl Future<Output = Result<Token, E>>,
    ) -> Result<Secret, E> {
        let digest = Sha256::new().chain_update(key.expose()).chain_update([0]).chain_update(scope).finalize().into();
        let mut tokens = self.0.lock().await;
        let now = Instant::now();
        tokens.retain(|_, token| token.until > now);
        if let Some(token) = tokens.get(&digest) {
            return Ok(token.text.clone());
        }
        let token = ask.await?;
        let text = token.text.clone();
        if tokens.len() < MAX_TOKENS && token.until > now {
            tokens.insert(digest, token);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_that_are_kept_are_bounded() {
        let tokens = Tokens::default();
        let body = br#"{"access_token":"token","expires_in":3600}"#;
        for number in 0..3 * MAX_TOKENS {
            let ask = async { Token::read(body).ok_or(()) };
            let token = tokens.get(&Secret::new("key"), &format!("scope {number}"), ask).await.unwrap();
            assert_eq!(token.expose(), "token");
        }
        assert_eq!(tokens.0.lock().await.len(), MAX_TOKENS);
    }

    #[tokio::test]
    async fn token_is_for_its_key_and_its_scope_only() {
        let tokens = Tokens::default();
        let mut given = Vec::new();
        for (number, (key, scope)) in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")].into_iter().enumerate() {
            let body = format!(r#"{{"access_token":"token-{number}","expires_in":3600}}"#);
            let ask = async { Token::read(body.as_bytes()).ok_or(()) };
            given.push(tokens.get(&Secret::new(key), scope, ask).await.unwrap().expose().to_owned());
        }
        assert_eq!(given, ["token-0", "token-1", "token-2", "token-0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn token_is_kept_for_a_day_at_most_and_an_empty_one_is_none() {
        let token = Token::read(format!(r#"{{"access_token":"token","expires_in":{}}}"#, u64::MAX).as_bytes());
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(token.unwrap().until, Instant::now() + day - MARGIN);
        assert!(Token::read(br#"{"access_token":"","expires_in":3600}"#).is_none());
    }
}
