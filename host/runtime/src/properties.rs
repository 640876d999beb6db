//! Properties of manifests and grants, over inputs that a seeded generator makes: the same ones in every run.
//!
//! No text makes the reader of manifests panic; what passes is never more than what is wanted, nor more than what is given;
//! and how an address is spelled changes nothing.

use http::Method;
use url::Url;

use crate::contract::CONTRACT;
use crate::door::{Grant, OriginPattern, PathPattern};
use crate::manifest::Manifest;
use crate::{NetworkGrant, PluginSettings};

/// A generator of numbers that look random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn some_of<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        of.iter().copied().filter(|_| self.below(2) == 0).collect()
    }

    fn is_heads(&mut self) -> bool {
        self.below(2) == 0
    }
}

const MANIFEST: &str = r#"
[plugin]
id = "p"
version = "0.1.0"
kind = "adapter"
contract = "CONTRACT"
[[network]]
origin = "https://*.example.com"
methods = ["GET", "POST"]
paths = ["/v1/**", "/v1/models/*"]
credential = ["key"]
redirects = "same-origin"
[[credential]]
name = "key"
header = "authorization"
prefix = "Bearer "
[limits]
cpu_ms = 20
[config]
base_url = ""
retries = 2
"#;

/// Pieces that manifests are made of, right and wrong.
const PIECES: [&str; 40] = [
    "[",
    "]",
    "[[",
    "]]",
    "=",
    "\"",
    "'''",
    "\n",
    ".",
    ",",
    "{",
    "}",
    "#",
    "\\",
    "\u{0}",
    "é",
    "\u{202e}",
    "1979-05-27",
    "1e400",
    "-0",
    "0x",
    "nan",
    "true",
    "network",
    "origin",
    "https://*.",
    "https://[::",
    "://",
    "%2f",
    "/**",
    "/*",
    "operator",
    "paths",
    "credential",
    "config",
    "limits",
    "plugin",
    "99999999999999999999",
    "*",
    "methods",
];

fn mangled(dice: &mut Dice, text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(4) {
        let at = dice.below(text.len().max(1)).min(text.len());
        let to = (at + dice.below(24)).min(text.len());
        match dice.below(4) {
            0 => drop(text.drain(at..to)),
            1 => drop(text.splice(at..at, dice.one_of(&PIECES).chars())),
            2 => drop(text.splice(at..to, dice.one_of(&PIECES).chars())),
            _ => {
                let part = text[at..to].to_vec();
                let other = dice.below(text.len().max(1)).min(text.len());
                drop(text.splice(other..other, part));
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn no_text_makes_the_reader_of_manifests_panic() {
    let mut dice = Dice(1);
    let right = MANIFEST.replace("CONTRACT", CONTRACT);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        match Manifest::parse(&mangled(&mut dice, &right)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(read > 300 && refused > 10_000, "{read} were read, {refused} were refused");
    for _ in 0..20_000 {
        let text: String = (0..dice.below(12)).map(|_| dice.one_of(&PIECES)).collect();
        drop((Manifest::parse(&text), OriginPattern::parse(&text), PathPattern::parse(&text)));
    }
}

#[test]
fn pattern_that_is_read_says_what_it_was_read_from() {
    let mut dice = Dice(2);
    let mut read = 0;
    for _ in 0..20_000 {
        let right = TEXTS[dice.below(TEXTS.len())];
        let text = mangled(&mut dice, right);
        if let Ok(pattern) = OriginPattern::parse(&text) {
            assert_eq!(OriginPattern::parse(&pattern.to_string()), Ok(pattern.clone()), "{text:?}");
            assert!(pattern.covers(&pattern));
            read += 1;
        }
        if let Ok(pattern) = PathPattern::parse(&text) {
            assert_eq!(PathPattern::parse(&pattern.to_string()), Ok(pattern), "{text:?}");
            read += 1;
        }
    }
    assert!(read > 500, "{read}");
}

const TEXTS: [&str; 4] = ["https://*.example.com:8443", "http://10.0.0.5", "/v1/models/*/x", "/v1/**"];

const ORIGINS: [&str; 6] = [
    "https://a.example.com",
    "https://*.example.com",
    "https://*.eu.example.com",
    "http://a.example.com",
    "https://a.example.com:8443",
    "https://example.org",
];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const PATHS: [&str; 6] = ["/v1/**", "/v1/*", "/v1/a", "/", "/v1/*/b", "/**"];
const CREDENTIALS: [&str; 2] = ["one", "two"];
const ASKED: [&str; 8] = ["/", "/v1", "/v1/a", "/v1/b", "/v1/a/b", "/v1/a/c", "/v2", "/v1/a/b/c"];
const HOSTS: [&str; 7] = [
    "https://a.example.com",
    "https://b.example.com",
    "https://x.eu.example.com",
    "https://example.com",
    "http://a.example.com",
    "https://a.example.com:8443",
    "https://example.org",
];

fn rule(dice: &mut Dice) -> NetworkGrant {
    let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
    NetworkGrant {
        origin: dice.one_of(&ORIGINS).to_owned(),
        methods: dice.is_heads().then(|| texts(dice.some_of(&METHODS))),
        paths: dice.is_heads().then(|| texts(dice.some_of(&PATHS))),
        credentials: texts(dice.some_of(&CREDENTIALS)),
    }
}

/// A manifest that wants these; methods that are not said are all of them.
fn wanting(rules: &[NetworkGrant]) -> Manifest {
    let mut text = format!("[plugin]\nid = \"p\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = {CONTRACT:?}\n");
    for name in CREDENTIALS {
        text.push_str(&format!("[[credential]]\nname = {name:?}\nheader = \"x-{name}\"\n"));
    }
    for rule in rules {
        let methods = rule.methods.clone().unwrap_or_else(|| METHODS.map(str::to_owned).to_vec());
        text.push_str(&format!("[[network]]\norigin = {:?}\nmethods = {methods:?}\n", rule.origin));
        text.push_str(&format!("credential = {:?}\n", rule.credentials));
        if let Some(paths) = &rule.paths {
            text.push_str(&format!("paths = {paths:?}\n"));
        }
    }
    Manifest::parse(&text).unwrap()
}

/// Whether a rule lets a request through, told without the code under test.
fn lets(rule: &NetworkGrant, method: &str, host: &str, path: &str) -> bool {
    let is_host = match rule.origin.split_once("*.") {
        None => rule.origin == host,
        Some((scheme, name)) => host.strip_prefix(scheme).is_some_and(|host| host.ends_with(&format!(".{name}"))),
    };
    let is_path = |pattern: &String| {
        let mut parts = path[1..].split('/');
        for wanted in pattern[1..].split('/') {
            match (wanted, parts.next()) {
                ("**", _) => return true,
                ("*", Some(part)) if !part.is_empty() => {}
                (wanted, Some(part)) if wanted == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    };
    is_host
        && rule.methods.as_ref().is_none_or(|methods| methods.iter().any(|known| known == method))
        && rule.paths.as_ref().is_none_or(|paths| paths.iter().any(is_path))
}

#[test]
fn what_passes_is_wanted_and_given_and_nothing_else_does() {
    let mut dice = Dice(3);
    let (mut passed, mut denied) = (0, 0);
    for _ in 0..1_500 {
        let wants: Vec<_> = (0..dice.below(4)).map(|_| rule(&mut dice)).collect();
        let given: Vec<_> = (0..dice.below(4)).map(|_| rule(&mut dice)).collect();
        let settings = PluginSettings { network: given.clone(), ..PluginSettings::default() };
        let grant = Grant::new(&wanting(&wants), &settings).unwrap();
        for _ in 0..40 {
            let (method, host, path) = (dice.one_of(&METHODS), dice.one_of(&HOSTS), dice.one_of(&ASKED));
            let url = Url::parse(&format!("{host}{path}?x={}", dice.next())).unwrap();
            let asked = Method::from_bytes(method.as_bytes()).unwrap();
            let lets = |rules: &[NetworkGrant]| rules.iter().any(|rule| lets(rule, method, host, path));
            let is_right = lets(&wants) && lets(&given);
            assert_eq!(grant.check(&asked, &url).is_ok(), is_right, "{method} {url}\n{wants:#?}\n{given:#?}");
            if is_right {
                passed += 1;
            } else {
                denied += 1;
            }
            for name in CREDENTIALS {
                let names = |rules: &[NetworkGrant]| {
                    let named = rules.iter().filter(|rule| rule.credentials.iter().any(|known| known == name));
                    named.cloned().collect::<Vec<_>>()
                };
                let may = lets_any(&names(&wants), method, host, path) && lets_any(&names(&given), method, host, path);
                assert_eq!(grant.may_carry(name, &asked, &url), may, "{name} {method} {url}\n{wants:#?}\n{given:#?}");
            }
        }
    }
    assert!(passed > 2_000 && denied > 10_000, "{passed} passed, {denied} were denied");
}

fn lets_any(rules: &[NetworkGrant], method: &str, host: &str, path: &str) -> bool {
    rules.iter().any(|rule| lets(rule, method, host, path))
}

/// The same name in another spelling.
fn respelled(dice: &mut Dice, name: &str) -> String {
    let letter = |letter: char| match dice.below(4) {
        0 => letter.to_uppercase().collect(),
        1 if letter.is_ascii_alphabetic() => format!("%{:02x}", u32::from(letter)),
        // Letters and dots as East Asian text writes them.
        2 if letter.is_ascii_alphabetic() => char::from_u32(u32::from(letter) + 0xfee0).into_iter().collect(),
        3 if letter == '.' => "\u{3002}".to_owned(),
        _ => letter.to_string(),
    };
    name.chars().map(letter).collect()
}

#[test]
fn spelling_of_an_address_changes_nothing() {
    let mut dice = Dice(4);
    let names =
        ["a.example.com", "b.example.com", "example.com", "xn--bcher-kva.example.com", "a.example.com.evil.org"];
    for _ in 0..400 {
        let rules: Vec<_> = (0..3).map(|_| rule(&mut dice)).collect();
        let settings = PluginSettings { network: rules.clone(), ..PluginSettings::default() };
        let grant = Grant::new(&wanting(&rules), &settings).unwrap();
        let passes = |text: &str| grant.check(&Method::GET, &Url::parse(text).unwrap()).is_ok();
        let (name, path) = (dice.one_of(&names), dice.one_of(&ASKED));
        let plain = passes(&format!("https://{name}{path}"));
        for _ in 0..8 {
            let scheme = dice.one_of(&["https", "HTTPS", "hTTps"]);
            let port = dice.one_of(&["", ":443", ":0443", ":"]);
            let other = respelled(&mut dice, name);
            let spelled = format!("{scheme}://{other}{port}{path}#x");
            assert_eq!(passes(&spelled), plain, "{spelled} is https://{name}{path}\n{rules:#?}");
            assert!(!passes(&format!("https://u@{other}{path}")) && !passes(&format!("https://u:p@{other}{path}")));
            assert!(!passes(&format!("https://{other}.{port}{path}")), "a name that ends in a dot");
        }
    }
    let settings = |origin: &str| PluginSettings { origins: vec![origin.to_owned()], ..PluginSettings::default() };
    let any = Manifest::parse(
        &MANIFEST
            .replace("CONTRACT", CONTRACT)
            .replace("https://*.example.com", "operator")
            .replace("paths = [\"/v1/**\", \"/v1/models/*\"]\n", ""),
    )
    .unwrap();
    let addresses = [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
    ];
    for given in addresses {
        let grant = Grant::new(&any, &settings(&format!("http://{given}")));
        // An origin to grant is written plainly.
        let Ok(grant) = grant else { continue };
        for asked in addresses {
            let url = Url::parse(&format!("http://{asked}/")).unwrap();
            grant.check(&Method::GET, &url).unwrap_or_else(|_| panic!("{given} is {asked}"));
        }
        for other in ["127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1.example.com"] {
            assert!(grant.check(&Method::GET, &Url::parse(&format!("http://{other}/")).unwrap()).is_err(), "{other}");
        }
    }
}
