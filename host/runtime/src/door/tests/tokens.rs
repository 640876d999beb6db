//! Tokens for service accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::service_account::{BadKey, Key};
use super::super::{Door, DoorError};
use super::upstream::{Came, Upstream};
use super::{Script, get, send};
use crate::HostLimits;

const PEM: &str = include_str!("certificates/account.key");

/// Two origins that the operator named, and a credential that is a service account.
const WANTS: &str = "[network]\norigins = [\"operator\"]\n[[credential]]\nname = \"account\"\n\
                     service_account = \"https://scopes.example/images\"\n";

fn key_file(endpoint: &str) -> String {
    let (email, id) = ("easel@example.com", "key-1");
    json!({ "type": "service_account", "client_email": email, "private_key_id": id, "private_key": PEM,
            "token_uri": endpoint })
    .to_string()
}

/// Gives tokens that are good for so long, and echoes the one that comes back.
async fn provider(seconds: u64) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(
        Some("right"),
        Arc::new(move |came: &Came| {
            if came.head.starts_with("POST /token ") {
                let token = format!("token-number-{}", count.fetch_add(1, Ordering::Relaxed));
                let answer = json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" });
                return ("200 OK".to_owned(), answer.to_string());
            }
            ("200 OK".to_owned(), came.head.clone())
        }),
    )
    .await
}

fn door_to(upstream: &Upstream) -> (Arc<Door>, String) {
    let script = Script::default();
    script.leads_to([upstream.address]);
    let origin = format!("https://api.example.com:{}", upstream.address.port());
    let key = key_file(&format!("{origin}/token"));
    (super::door(&script.network(), &[&origin], WANTS, &[("account", &key)]), origin)
}

async fn asked(door: &Arc<Door>, url: &str) -> String {
    let mut incoming = send(door, get(url, Some("account"))).await.unwrap();
    let mut body = Vec::new();
    while let Some(part) = incoming.chunk(door).await.unwrap() {
        body.extend_from_slice(&part);
    }
    String::from_utf8(body).unwrap()
}

fn tokens(upstream: &Upstream) -> Vec<String> {
    let came = upstream.came();
    let bearer = |came: &Came| Some(came.head.split("authorization: Bearer ").nth(1)?.lines().next()?.to_owned());
    came.iter().filter_map(bearer).collect()
}

#[tokio::test]
async fn token_is_got_for_the_key_file_kept_and_scrubbed_from_what_comes_back() {
    let upstream = provider(3600).await;
    let (door, origin) = door_to(&upstream);
    let url = format!("{origin}/v1");
    let echoed = asked(&door, &url).await;
    assert!(echoed.contains("authorization: Bearer **************\r\n"), "{echoed}");
    asked(&door, &url).await;
    assert_eq!(tokens(&upstream), ["token-number-0", "token-number-0"]);
    assert_eq!(upstream.came().len(), 3, "one token for two requests");
}

#[tokio::test]
async fn token_is_asked_for_again_shortly_before_it_ends() {
    // Sixty seconds before its end a token is not used any more.
    let upstream = provider(60).await;
    let (door, origin) = door_to(&upstream);
    asked(&door, &format!("{origin}/v1")).await;
    asked(&door, &format!("{origin}/v1")).await;
    assert_eq!(tokens(&upstream), ["token-number-0", "token-number-1"]);
}

#[tokio::test]
async fn many_requests_at_once_wait_for_one_token() {
    let upstream = provider(3600).await;
    let (door, origin) = door_to(&upstream);
    let url = format!("{origin}/v1");
    let all = futures_util::future::join_all((0..20).map(|_| asked(&door, &url))).await;
    assert_eq!(all.len(), 20);
    let asked = upstream.came().iter().filter(|came| came.head.starts_with("POST /token ")).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn assertion_is_signed_with_the_key_and_says_what_it_should() {
    let key = Key::read(&key_file("https://token.example/t")).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let form = key.form("the scope", now).unwrap();
    let pairs: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).collect();
    assert_eq!(pairs[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    let (signed, signature) = pairs[1].1.rsplit_once('.').unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(json(head), json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" }));
    let expected = json!({ "iss": "easel@example.com", "scope": "the scope", "aud": "https://token.example/t",
                           "iat": 1_700_000_000, "exp": 1_700_000_600 });
    assert_eq!(json(claims), expected);
    let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn endpoint_of_tokens_is_checked_like_everything_else() {
    let script = Script::default();
    let upstream = provider(3600).await;
    script.leads_to([upstream.address]);
    let origin = format!("https://api.example.com:{}", upstream.address.port());
    // An endpoint that nobody granted must be public; this one leads inside.
    let rows = [
        (format!("https://tokens.example:{}/token", upstream.address.port()), "a loopback address"),
        (format!("https://127.0.0.1:{}/token", upstream.address.port()), "a loopback address"),
        ("https://169.254.169.254/token".to_owned(), "a cloud's metadata address"),
    ];
    for (endpoint, expected) in rows {
        let key = key_file(&endpoint);
        let door = super::door(&script.network(), &[&origin], WANTS, &[("account", &key)]);
        let error = send(&door, get(&origin, Some("account"))).await.err().unwrap();
        assert!(matches!(&error, DoorError::Address(_)), "{endpoint}: {error}");
        assert!(error.to_string().contains(expected), "{endpoint}: {error}");
    }
    assert!(upstream.came().is_empty());
}

#[tokio::test]
async fn refused_token_is_told_without_what_the_endpoint_said() {
    let upstream = Upstream::start(
        Some("right"),
        Arc::new(|came: &Came| ("400 Bad Request".to_owned(), format!("you said {}", came.body))),
    )
    .await;
    let (door, origin) = door_to(&upstream);
    let error = send(&door, get(&origin, Some("account"))).await.err().unwrap();
    assert!(matches!(&error, DoorError::Token { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("400 Bad Request") && !text.contains("assertion"), "{text}");
}

#[tokio::test]
async fn token_in_an_answer_that_is_no_success_is_none() {
    let answer = r#"{"access_token":"token-number-0","expires_in":3600}"#;
    let script = Arc::new(move |_: &Came| ("403 Forbidden".to_owned(), answer.to_owned()));
    let upstream = Upstream::start(Some("right"), script).await;
    let (door, origin) = door_to(&upstream);
    let error = send(&door, get(&origin, Some("account"))).await.err().unwrap();
    assert!(matches!(&error, DoorError::Token { .. }), "{error}");
    assert!(tokens(&upstream).is_empty());
}

#[tokio::test]
async fn answer_of_an_endpoint_is_bounded() {
    // What comes first would be a whole token by itself, and the rest is never sent.
    for status in ["200 OK", "200 OK\r\ncontent-length: 1000000000"] {
        let script = Arc::new(|_: &Came| {
            let answer = r#"{"access_token":"token-number-0","expires_in":3600}"#;
            (status.to_owned(), format!("{answer}{}", " ".repeat(1 << 17)))
        });
        let upstream = Upstream::start(Some("right"), script).await;
        let (door, origin) = door_to(&upstream);
        let asked = tokio::time::timeout(Duration::from_secs(30), send(&door, get(&origin, Some("account"))));
        let error = asked.await.expect("nothing more is waited for").err().unwrap();
        assert!(matches!(&error, DoorError::Token { .. }), "{error}");
    }
}

#[tokio::test]
async fn endpoint_that_says_nothing_is_a_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let script = Script::default();
    script.leads_to([silent.local_addr().unwrap()]);
    let origin = format!("https://api.example.com:{}", silent.local_addr().unwrap().port());
    let key = key_file(&format!("{origin}/token"));
    let limits = HostLimits { first_byte: Duration::from_millis(100), ..HostLimits::default() };
    let door = super::limited_door(&script.network(), &[&origin], (WANTS, &[("account", &key)]), limits);
    let asked = tokio::time::timeout(Duration::from_secs(30), send(&door, get(&origin, Some("account"))));
    let error = asked.await.expect("the door ends it").err().unwrap();
    assert!(matches!(&error, DoorError::Timeout { what: "give a token", .. }), "{error}");
}

#[test]
fn key_file_that_cannot_be_used_is_refused() {
    let wrong_key = key_file("https://a.com").replace("PRIVATE KEY", "PUBLIC KEY");
    let rows = [
        ("not json".to_owned(), BadKey::Form),
        (json!({ "client_email": "x" }).to_string(), BadKey::Form),
        (wrong_key, BadKey::Key),
        (key_file("http://a.com/token"), BadKey::Endpoint),
        (key_file("https://u:p@a.com/token"), BadKey::Endpoint),
        (key_file("https://u@a.com/token"), BadKey::Endpoint),
    ];
    for (text, expected) in rows {
        let error = Key::read(&text).err().unwrap();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains("BEGIN"));
    }
}
