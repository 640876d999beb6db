//! A transformer that does whatever a plugin must not do. The option `do`, or else the prompt, says what.
//!
//! Elsewhere than in a component there is nothing to build: a linker of the machine's own takes no such export names.
#![cfg(target_arch = "wasm32")]

mod results;

#[path = "../../src/memory.rs"]
mod memory;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../../wit",
        inline: "
            package easel:hostile;

            world twist {
                include easel:plugin/transformer@0.3.0;
                include easel:plugin/results@0.3.0;
                import easel:plugin/fetch@0.3.0;
                import easel:plugin/store@0.3.0;
            }
        ",
        world: "easel:hostile/twist",
        generate_all,
    });
}

use bindings::easel::plugin::blobs::{Blob, BlobWriter};
use bindings::easel::plugin::fetch::{self, Body};
use bindings::easel::plugin::images::{ImageRequest, ImageResult, PictureInfo};
use bindings::easel::plugin::types::{CallContext, ErrorKind, PluginError};
use bindings::easel::plugin::{host, store};
use bindings::exports::easel::plugin::transform::{Edits, Guest, Verdict};

struct Hostile;

impl Guest for Hostile {
    fn check() -> Result<(), PluginError> {
        let config = host::config();
        let told = config.split("\"check\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        match told {
            "refuse" => Err(error(ErrorKind::Internal, "config: check must not be refuse")),
            "store" => store::get("key").map(drop),
            "fetch" => send("http://127.0.0.1:1/").map(drop),
            other => {
                misbehave(other);
                Ok(())
            }
        }
    }

    fn on_request(_: CallContext, req: &ImageRequest, edits: &Edits) -> Verdict {
        let told = told(req);
        let words: Vec<&str> = told.split_whitespace().collect();
        match act(req, edits, &words) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Reject(error),
        }
    }
}

/// What to do: the option, since the prompt is not for every transformer to see.
fn told(req: &ImageRequest) -> String {
    req.option("do").map_or_else(|| req.prompt(), |json| json.trim_matches('"').to_owned())
}

fn act(req: &ImageRequest, edits: &Edits, words: &[&str]) -> Result<Verdict, PluginError> {
    let (first, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    match first {
        "trap" => {
            // Edits of a call that fails must have no effect.
            edits.set_prompt("never seen");
            misbehave("trap");
        }
        "loop" | "sleep" => misbehave(first),
        "keep-and-trap" => {
            store::set("a secret-word", b"a secret-word")?;
            edits.set_option("secret-word", Some("\"secret-word\""));
            misbehave("trap");
        }
        "reject" => {
            return Ok(Verdict::Reject(PluginError {
                param: Some("prompt".to_owned()),
                ..error(ErrorKind::ContentPolicy, "not that")
            }));
        }
        "respond" => return Ok(respond(&rest.join(" "))),
        "size" => edits.set_size(Some((0, 70_000))),
        "format" => edits.set_format(Some("gif")),
        "task" => edits.set_task("painting"),
        "option" => edits.set_option("x", Some("{not json")),
        "edits" => (0..100_000).for_each(|number| edits.set_option(&format!("option-{number}"), Some("1"))),
        "change" => {
            edits.set_prompt("first");
            edits.set_prompt("changed");
            edits.set_count(2);
            edits.set_size(Some((64, 32)));
            edits.set_format(Some("webp"));
            edits.set_compression(Some(7));
            edits.set_option("style", Some("\"vivid\""));
            edits.add_note(Some("negative-prompt"), "left alone");
        }
        "getters" => {
            // What an ordinary transformer looks at: with the prompt, eight fields.
            let sizes = (req.count(), req.size(), req.seed(), req.steps(), req.guidance());
            let seen = (req.negative_prompt(), req.model(), sizes);
            if std::hint::black_box(seen).1.is_none() {
                edits.set_prompt("seen");
            }
        }
        "change-prompt" => edits.set_prompt("changed"),
        "see" => edits.add_note(None, &seen(req)),
        "inputs" => inputs(req, edits, rest)?,
        "fetch" => edits.add_note(None, &format!("status {}", send(rest.first().unwrap_or(&""))?)),
        "fetch-as" => {
            let (url, credential) = (rest.first().unwrap_or(&""), rest.get(1).map(|name| (*name).to_owned()));
            edits.add_note(None, &format!("status {}", request("GET", url, Body::None, credential)?));
        }
        "store" => edits.add_note(None, &stored(rest)?),
        "dump" => dump(req, rest)?,
        _ => {}
    }
    Ok(Verdict::Next)
}

/// What ends a call.
fn misbehave(what: &str) {
    match what {
        "trap" => std::process::abort(),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(60)),
        _ => {}
    }
}

/// `dump TO CREDENTIAL…`: looks at all there is, asks for credentials by their names, and sends its whole memory away.
fn dump(req: &ImageRequest, words: &[&str]) -> Result<(), PluginError> {
    let (to, names) = words.split_first().ok_or_else(|| error(ErrorKind::Internal, "dump where"))?;
    let options: Vec<_> = req.option_names().iter().map(|name| req.option(name)).collect();
    let known: Vec<_> = names.iter().map(|name| host::has_credential(name)).collect();
    let all = (seen(req), options, req.model(), host::config(), std::env::vars().collect::<Vec<_>>());
    let all = std::hint::black_box(all);
    let writer = BlobWriter::new("application/octet-stream");
    drop(writer.write(format!("knows {known:?}").as_bytes()));
    memory::parts(|part| drop(writer.write(part)));
    drop(all);
    request("POST", to, Body::Blob(BlobWriter::finish(writer)), None).map(drop)
}

fn seen(req: &ImageRequest) -> String {
    let input = |info: &bindings::easel::plugin::images::InputInfo| {
        format!("{} {} {}x{} {}", info.role, info.format, info.width, info.height, info.bytes)
    };
    let inputs: Vec<_> = req.inputs().iter().map(input).collect();
    let blobs: Vec<_> = (0..3).map(|index| req.input(index).map(|blob| blob.size())).collect();
    format!("{} {:?} {:?} [{}] {blobs:?}", req.task(), req.prompt(), req.negative_prompt(), inputs.join(", "))
}

/// `inputs [task TASK] [add ROLE PICTURE] [replace NUMBER PICTURE] [remove NUMBER] …`, a picture being `first` for the
/// request's first one, or some text.
fn inputs(req: &ImageRequest, edits: &Edits, words: &[&str]) -> Result<(), PluginError> {
    let picture = |word: &str| match word {
        "first" => req.input(0).ok_or_else(|| error(ErrorKind::Internal, "there is no first input")),
        text => Ok(blob(text)),
    };
    let number = |word: &str| word.parse().unwrap_or(u32::MAX);
    match words {
        [] => Ok(()),
        ["task", task, rest @ ..] => {
            edits.set_task(task);
            inputs(req, edits, rest)
        }
        ["add", role, word, rest @ ..] => {
            edits.add_input(role, picture(word)?)?;
            inputs(req, edits, rest)
        }
        ["replace", index, word, rest @ ..] => {
            edits.replace_input(number(index), picture(word)?)?;
            inputs(req, edits, rest)
        }
        ["remove", index, rest @ ..] => {
            edits.remove_input(number(index));
            inputs(req, edits, rest)
        }
        [other, ..] => Err(error(ErrorKind::Internal, other)),
    }
}

fn send(url: &str) -> Result<u16, PluginError> {
    request("GET", url, Body::None, None)
}

fn request(method: &str, url: &str, body: Body, credential: Option<String>) -> Result<u16, PluginError> {
    let request = fetch::Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body,
        credential,
        first_byte_timeout: None,
        total_timeout: None,
    };
    Ok(fetch::send(request)?.status())
}

/// `store get KEY`, `store set KEY BYTES`, `store delete KEY`, `store keys PREFIX`, `store flood`, `store ask`.
fn stored(words: &[&str]) -> Result<String, PluginError> {
    let number = |word: &str| word.parse::<usize>().unwrap_or(0);
    match words {
        ["get", key] => Ok(format!("{:?}", store::get(key)?.map(|value| value.len()))),
        ["set", key, length] => store::set(key, &vec![7; number(length)]).map(|()| "set".to_owned()),
        ["delete", key] => store::delete(key).map(|()| "deleted".to_owned()),
        ["keys", prefix @ ..] => Ok(store::keys(prefix.first().unwrap_or(&""))?.join(" ")),
        ["long-key", length] => store::set(&"k".repeat(number(length)), b"").map(|()| "set".to_owned()),
        ["flood", length] => loop {
            let keys = store::keys("")?.len();
            store::set(&keys.to_string(), &vec![7; number(length)])?;
        },
        _ => loop {
            store::get("key")?;
        },
    }
}

fn blob(text: &str) -> Blob {
    let writer = BlobWriter::new("image/png");
    let _full = writer.write(text.as_bytes());
    BlobWriter::finish(writer)
}

fn respond(text: &str) -> Verdict {
    let result = ImageResult::new();
    result.add_image(blob(text), &PictureInfo { seed: None, revised_prompt: None });
    Verdict::Respond(result)
}

fn error(kind: ErrorKind, message: &str) -> PluginError {
    PluginError {
        kind,
        message: message.to_owned(),
        param: None,
        retry_after: None,
        provider_status: None,
        provider_code: None,
        billed: None,
    }
}

bindings::export!(Hostile with_types_in bindings);
