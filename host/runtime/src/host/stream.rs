//! `fetch.response` read bit by bit: parts as they come, and server-sent events. What was read and not yet given away
//! counts against the call's blobs.

use bytes::Bytes;

use super::blobs::{BlobQuota, Held, MAX_READ};
use super::document::Document;
use super::fetch::Response;
use crate::bindings::easel::plugin::fetch;
use crate::bindings::easel::plugin::types::ErrorKind;
use crate::events::{Event, EventParser, TooLong};
use crate::fault::Failure;
use crate::json;

/// The longest data of an event that enters a plugin's memory.
const MAX_TEXT: usize = 1 << 20;

/// Where the reading stands.
pub(super) struct Stream {
    /// What came and was not given away.
    pending: Bytes,
    parser: EventParser,
    most: usize,
    held: Held,
    counted: usize,
}

impl Stream {
    pub(super) fn new(most: usize, quota: &BlobQuota) -> Self {
        Self { pending: Bytes::new(), parser: EventParser::new(most), most, held: quota.open(), counted: 0 }
    }

    /// Accounts for what it holds now.
    fn count(&mut self) -> Result<(), Failure> {
        let bytes = self.pending.len() + self.parser.size();
        match bytes.checked_sub(self.counted) {
            Some(more) => self.held.grow(more)?,
            None => self.held.shrink_to(bytes),
        }
        self.counted = bytes;
        Ok(())
    }
}

impl Response {
    /// The next part of the body; nothing at its end.
    pub(super) async fn next_part(&mut self) -> Result<Option<Bytes>, Failure> {
        if !self.stream.pending.is_empty() {
            let part = std::mem::take(&mut self.stream.pending);
            self.stream.count()?;
            return Ok(Some(part));
        }
        Ok(self.incoming.chunk(&self.door).await?)
    }

    pub(super) async fn next_chunk(&mut self, max: u32) -> Result<Option<Vec<u8>>, Failure> {
        let Some(mut part) = self.next_part().await? else { return Ok(None) };
        let chunk = part.split_to(MAX_READ.min(max as usize).min(part.len()));
        self.stream.pending = part;
        self.stream.count()?;
        Ok(Some(chunk.to_vec()))
    }

    /// The next event, however long within the host's limit; nothing at the end of the stream.
    pub(super) async fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            // Before it is taken apart, or an event that comes in one part would never count; and again for whoever asks again.
            self.stream.count()?;
            let Stream { pending, parser, most, .. } = &mut self.stream;
            let event = parser.next(pending).map_err(|TooLong| {
                Failure::new(ErrorKind::LimitExceeded, format!("the answer has an event of more than {most} bytes"))
            })?;
            self.stream.count()?;
            if event.is_some() {
                return Ok(event);
            }
            let Some(part) = self.incoming.chunk(&self.door).await? else { return Ok(None) };
            self.stream.pending = part;
        }
    }

    /// The next event, if it may enter the plugin's memory.
    pub(super) async fn next_short_event(&mut self) -> Result<Option<fetch::Event>, Failure> {
        let Some(Event { name, data, id }) = self.next_event().await? else { return Ok(None) };
        check_text(&data)?;
        Ok(Some(fetch::Event { name, data, id }))
    }
}

/// An event's data as a document, or as it is where it is no JSON object or array.
pub(super) fn document_of(data: String, mut held: Held) -> Result<Result<Document, String>, Failure> {
    let is_container = data.trim_ascii_start().starts_with(['{', '[']);
    if is_container && json::check(data.as_bytes()).is_ok() {
        held.grow(data.len())?;
        return Ok(Ok(Document::parse(data.into_bytes(), held)?));
    }
    check_text(&data)?;
    Ok(Err(data))
}

fn check_text(data: &str) -> Result<(), Failure> {
    if data.len() <= MAX_TEXT {
        return Ok(());
    }
    let message = format!("an event's data of {} bytes does not enter a plugin, at most {MAX_TEXT} do", data.len());
    Err(Failure::new(ErrorKind::LimitExceeded, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(data: &str) -> Option<bool> {
        document_of(data.to_owned(), BlobQuota::new(4 << 20).open()).ok().map(|read| read.is_ok())
    }

    #[test]
    fn data_is_a_document_where_it_is_a_json_object_or_array_and_text_elsewhere() {
        for (data, is_document) in
            [("{}", true), (" [1]", true), ("[DONE]", false), ("{\"a\":", false), ("7", false), ("", false)]
        {
            assert_eq!(kind(data), Some(is_document), "{data}");
        }
    }

    #[test]
    fn long_data_enters_a_plugin_by_a_document_only() {
        let long = "x".repeat(MAX_TEXT);
        assert_eq!(kind(&long), Some(false));
        assert_eq!(kind(&format!("{long}x")), None);
        assert_eq!(kind(&format!("[\"{long}\"]")), Some(true));
    }

    #[test]
    fn document_counts_against_the_blobs_of_the_call() {
        assert!(document_of("[1,2,3]".to_owned(), BlobQuota::new(6).open()).is_err());
    }
}
