//! A transformer that does whatever a plugin must not do. The first word of the prompt says what.
//!
//! Elsewhere than in a component there is nothing to build: a linker of the machine's own takes no such export names.
#![cfg(target_arch = "wasm32")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit", world: "transformer", generate_all });
}

use bindings::easel::plugin::blobs::BlobWriter;
use bindings::easel::plugin::images::{ImageRequest, ImageResult, PictureInfo};
use bindings::easel::plugin::types::{CallContext, ErrorKind, PluginError};
use bindings::exports::easel::plugin::transform::{Edits, Guest, Verdict};

struct Hostile;

impl Guest for Hostile {
    fn on_request(_: CallContext, req: &ImageRequest, edits: &Edits) -> Verdict {
        let prompt = req.prompt();
        let mut words = prompt.split_whitespace();
        match words.next().unwrap_or_default() {
            "trap" => {
                // Edits of a call that fails must have no effect.
                edits.set_prompt("never seen");
                std::process::abort()
            }
            "getters" => {
                // What an ordinary transformer looks at: with the prompt, eight fields.
                let sizes = (req.count(), req.size(), req.seed(), req.steps(), req.guidance());
                let seen = (req.negative_prompt(), req.model(), sizes);
                if std::hint::black_box(seen).1.is_none() {
                    edits.set_prompt("seen");
                }
                Verdict::Next
            }
            "loop" => loop {
                std::hint::black_box(0);
            },
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(60));
                Verdict::Next
            }
            "reject" => Verdict::Reject(PluginError {
                kind: ErrorKind::ContentPolicy,
                message: "not that".to_owned(),
                param: Some("prompt".to_owned()),
                retry_after: None,
                provider_status: None,
                provider_code: None,
                billed: None,
            }),
            "respond" => respond(&words.collect::<Vec<_>>().join(" ")),
            "size" => {
                edits.set_size(Some((0, 70_000)));
                Verdict::Next
            }
            "format" => {
                edits.set_format(Some("gif"));
                Verdict::Next
            }
            "option" => {
                edits.set_option("x", Some("{not json"));
                Verdict::Next
            }
            "edits" => {
                (0..100_000).for_each(|number| edits.set_option(&format!("option-{number}"), Some("1")));
                Verdict::Next
            }
            "change" => {
                edits.set_prompt("first");
                edits.set_prompt("changed");
                edits.set_count(2);
                edits.set_size(Some((64, 32)));
                edits.set_format(Some("webp"));
                edits.set_option("style", Some("\"vivid\""));
                edits.add_note(Some("negative-prompt"), "left alone");
                Verdict::Next
            }
            _ => Verdict::Next,
        }
    }
}

fn respond(text: &str) -> Verdict {
    let result = ImageResult::new();
    let writer = BlobWriter::new("image/png");
    let _full = writer.write(text.as_bytes());
    result.add_image(BlobWriter::finish(writer), &PictureInfo { seed: None, revised_prompt: None });
    Verdict::Respond(result)
}

bindings::export!(Hostile with_types_in bindings);
