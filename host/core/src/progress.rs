//! Progress of one request: a bounded channel that drops its oldest events, so that no listener, slow or absent, can
//! hold up a generation.

use tokio::sync::broadcast;

use crate::Image;

/// How many events wait for a slow listener before the oldest are dropped.
const CAPACITY: usize = 64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new part of the work began: `loading`, `encoding`, `denoising`, `decoding` or a backend's own word.
    Stage(String),
    /// One step of one image is done.
    Step {
        /// Which image, from 0.
        image: u32,
        /// Steps done, from 1.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
    /// A real intermediate state of an image.
    Partial {
        /// Which image, from 0.
        image: u32,
        /// The picture so far.
        picture: Image,
    },
}

/// The telling end. Cloning shares the channel; telling never waits and never fails.
#[derive(Clone, Debug)]
pub struct Progress(broadcast::Sender<Event>);

/// The listening end.
#[derive(Debug)]
pub struct ProgressReader(broadcast::Receiver<Event>);

impl Progress {
    /// Makes a channel with nobody listening yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// Starts to listen, from now on.
    pub fn listen(&self) -> ProgressReader {
        ProgressReader(self.0.subscribe())
    }

    /// Whether anybody listens: previews are made only then.
    pub fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells an event to whoever listens.
    pub fn tell(&self, event: Event) {
        // The only error is that nobody listens.
        drop(self.0.send(event));
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgressReader {
    /// Waits for the next event; `None` when the request is over. Events that were dropped are skipped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
