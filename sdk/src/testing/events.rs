//! Server-sent events of a scripted answer, all at once: the whole stream is there.

use std::collections::VecDeque;

use super::stand_in::fetch::Event;

/// The events of a stream, as the HTML standard reads them.
pub(super) fn events(stream: &[u8]) -> VecDeque<Event> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // What comes after the last line end is no line yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let mut events = VecDeque::new();
    let (mut name, mut data, mut id) = (String::new(), Vec::new(), String::new());
    for line in whole.split('\n') {
        if line.is_empty() {
            if !data.is_empty() {
                let name = if name.is_empty() { "message".to_owned() } else { name };
                let id = Some(id.clone()).filter(|id| !id.is_empty());
                events.push_back(Event { name, data: data.join("\n"), id });
            }
            (name, data) = (String::new(), Vec::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "event" => value.clone_into(&mut name),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            _ => {}
        }
    }
    events
}
