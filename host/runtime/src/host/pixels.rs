//! `pixels`: what is done to pictures for a plugin. The work runs on blocking threads, never on those of guests, a few at
//! a time over all plugins; a call whose caller has gone stops at the next step of it.
//!
//! Its processor time is the host's, so it is bounded by what it is spent on: the pixels of one picture, read from its head
//! before anything is decoded, and the pixels of all that one call has had worked on.

use std::sync::Arc;

use bytes::Bytes;
use easel_core::{Image, ImageFormat, Size};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wasmtime::component::Resource;

use super::blobs::Blob;
use crate::bindings::easel::plugin::pixels;
use crate::bindings::easel::plugin::types::ErrorKind;
use crate::fault::{Failure, clean};
use crate::pixels::{
    Fit, Head, White, alpha_to_mask, decode, encode, inspect, mask_to_alpha, pixels_on_the_way, resize,
};
use crate::state::State;

/// How much of it one call may still ask for.
#[derive(Debug)]
pub(crate) struct PixelWork {
    /// The pixels of one picture.
    most: u64,
    /// Those of all that are still to come.
    left: u64,
    all: u64,
    /// A permit for each picture that is worked on, over all plugins.
    workers: Arc<Semaphore>,
}

/// What is to be done with a picture.
#[derive(Clone, Copy)]
enum Task {
    Resize((u32, u32), Fit),
    Convert(ImageFormat, Option<u8>),
    Mask(White),
    Hole(White),
}

impl PixelWork {
    pub(crate) fn new(most: u64, all: u64, workers: Arc<Semaphore>) -> Self {
        Self { most, left: all, all, workers }
    }

    /// Accounts for a picture and what becomes of it.
    fn take(&mut self, head: Head, task: Task) -> Result<(), Failure> {
        let from = (head.width, head.height);
        let made = match task {
            Task::Resize(to, fit) => pixels_on_the_way(from, to, fit),
            Task::Convert(..) | Task::Mask(_) | Task::Hole(_) => head.pixels(),
        };
        let too_much = |message| Failure::new(ErrorKind::LimitExceeded, message);
        if head.pixels() > self.most {
            let (width, height, most) = (head.width, head.height, self.most);
            return Err(too_much(format!("the picture is {width}x{height}, more than {most} pixels")));
        }
        if made > self.most {
            let most = self.most;
            return Err(too_much(format!("a picture of {made} pixels would be made, more than {most}")));
        }
        let Some(left) = self.left.checked_sub(head.pixels().saturating_add(made)) else {
            let all = self.all;
            return Err(too_much(format!("a call may have at most {all} pixels worked on")));
        };
        self.left = left;
        Ok(())
    }
}

/// Stops the work when the call that waits for it is dropped.
struct Wanted(CancellationToken);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl State {
    /// Has a thread do something, once one is free.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&CancellationToken) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        if !self.call.is_wanted() {
            return Err(gone());
        }
        let stopping = |_| Failure::new(ErrorKind::Internal, "the plugins are stopping");
        let permit = Arc::clone(&self.call.pixels.workers).acquire_owned().await.map_err(stopping)?;
        let wanted = Wanted(CancellationToken::new());
        let is_over = wanted.0.clone();
        let work = move || {
            // Held until the work has really stopped.
            let _permit = permit;
            work(&is_over)
        };
        let failed = |error| Failure::Trap(wasmtime::format_err!("the host failed at a picture: {error}"));
        tokio::task::spawn_blocking(work).await.map_err(failed)
    }

    /// Reads a picture's head; what stands before it in the file may be long.
    async fn head_of(&mut self, bytes: &Bytes) -> Result<Result<Head, String>, Failure> {
        let bytes = bytes.clone();
        self.on_thread(move |_| Head::read(&bytes)).await
    }

    /// Takes a blob of the plugin's as a picture.
    pub(super) async fn picture(&mut self, blob: Resource<Blob>) -> Result<Image, Failure> {
        let bytes = self.table.delete(blob)?.bytes;
        self.on_thread(move |_| inspect(bytes)).await?.map_err(|error| no_picture(&error))
    }

    async fn work(&mut self, picture: &Resource<Blob>, task: Task) -> Result<Resource<Blob>, Failure> {
        let bytes = self.table.get(picture)?.bytes.clone();
        let head = self.head_of(&bytes).await?.map_err(|error| no_picture(&error))?;
        self.call.pixels.take(head, task)?;
        let work = move |is_over: &CancellationToken| {
            let go_on = || if is_over.is_cancelled() { Err(gone()) } else { Ok(()) };
            go_on()?;
            let picture = decode(&bytes, head.format).map_err(|error| no_picture(&error))?;
            go_on()?;
            let (picture, format, quality) = match task {
                Task::Resize(to, fit) => (resize(&picture, to, fit), head.format, None),
                Task::Convert(format, quality) => (picture, format, quality),
                Task::Mask(white) => (alpha_to_mask(picture, white), ImageFormat::Png, None),
                Task::Hole(white) => (mask_to_alpha(picture, white), ImageFormat::Png, None),
            };
            go_on()?;
            encode(picture, format, quality).map_err(|error| Failure::new(ErrorKind::Internal, error))
        };
        let bytes = self.on_thread(work).await??;
        let mut held = self.call.blobs.open();
        held.grow(bytes.len())?;
        Ok(self.table.push(Blob::new(bytes, "", held))?)
    }
}

impl pixels::Host for State {
    async fn head(&mut self, image: Resource<Blob>) -> wasmtime::Result<Option<pixels::PictureHead>> {
        self.trail.step("pixels.head");
        let bytes = self.table.get(&image)?.bytes.clone();
        let head = match self.head_of(&bytes).await {
            Ok(head) => head.ok(),
            // Nobody waits for it.
            Err(Failure::Value(_)) => None,
            Err(Failure::Trap(error)) => return Err(error),
        };
        Ok(head.map(|Head { format, width, height }| pixels::PictureHead {
            format: format.name().to_owned(),
            width,
            height,
        }))
    }

    async fn resize(
        &mut self,
        image: Resource<Blob>,
        width: u32,
        height: u32,
        fit: pixels::Fit,
    ) -> Result<Resource<Blob>, Failure> {
        self.trail.step("pixels.resize");
        if Size::new(width, height).is_none() {
            let message = format!("a picture cannot become {width}x{height}; a side is 1 to {}", Size::MAX_SIDE);
            return Err(Failure::new(ErrorKind::InvalidRequest, message));
        }
        let fit = match fit {
            pixels::Fit::Exact => Fit::Exact,
            pixels::Fit::Contain => Fit::Contain,
            pixels::Fit::Cover => Fit::Cover,
        };
        self.work(&image, Task::Resize((width, height), fit)).await
    }

    async fn convert(
        &mut self,
        image: Resource<Blob>,
        format: String,
        quality: Option<u8>,
    ) -> Result<Resource<Blob>, Failure> {
        self.trail.step("pixels.convert");
        let Ok(format) = format.parse() else {
            let message = format!("a picture cannot become {:?}; it is png, jpeg or webp", clean(&format, 20));
            return Err(Failure::new(ErrorKind::InvalidRequest, message));
        };
        if let Some(quality) = quality.filter(|quality| *quality > 100) {
            return Err(Failure::new(ErrorKind::InvalidRequest, format!("a quality is 0 to 100, not {quality}")));
        }
        self.work(&image, Task::Convert(format, quality)).await
    }

    async fn alpha_to_mask(
        &mut self,
        image: Resource<Blob>,
        white: pixels::MaskFrom,
    ) -> Result<Resource<Blob>, Failure> {
        self.trail.step("pixels.alpha-to-mask");
        self.work(&image, Task::Mask(white.into())).await
    }

    async fn mask_to_alpha(
        &mut self,
        mask: Resource<Blob>,
        white: pixels::MaskFrom,
    ) -> Result<Resource<Blob>, Failure> {
        self.trail.step("pixels.mask-to-alpha");
        self.work(&mask, Task::Hole(white.into())).await
    }
}

impl From<pixels::MaskFrom> for White {
    fn from(white: pixels::MaskFrom) -> Self {
        match white {
            pixels::MaskFrom::Transparent => Self::Transparent,
            pixels::MaskFrom::Opaque => Self::Opaque,
        }
    }
}

fn no_picture(error: &str) -> Failure {
    Failure::new(ErrorKind::Upstream, format!("the bytes are no picture: {}", clean(error, 200)))
}

fn gone() -> Failure {
    Failure::new(ErrorKind::Cancelled, "the caller has gone, or the deadline has passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(most: u64, all: u64) -> PixelWork {
        PixelWork::new(most, all, Arc::new(Semaphore::new(1)))
    }

    fn head(width: u32, height: u32) -> Head {
        Head { format: ImageFormat::Png, width, height }
    }

    fn refused(result: Result<(), Failure>, expected: &str) {
        let Err(Failure::Value(error)) = result else { panic!("nothing was refused") };
        assert!(matches!(error.kind, ErrorKind::LimitExceeded));
        assert!(error.message.contains(expected), "{}", error.message);
    }

    #[test]
    fn picture_may_have_so_many_pixels_before_and_after() {
        let to_jpeg = Task::Convert(ImageFormat::Jpeg, None);
        let mut work = work(100, 1_000_000);
        work.take(head(10, 10), to_jpeg).ok().unwrap();
        refused(work.take(head(101, 1), to_jpeg), "the picture is 101x1, more than 100 pixels");
        refused(work.take(head(50_000, 50_000), Task::Mask(White::Opaque)), "the picture is 50000x50000");
        refused(work.take(head(1, 101), Task::Hole(White::Opaque)), "the picture is 1x101, more than 100 pixels");
        refused(work.take(head(1, 1), Task::Resize((11, 10), Fit::Exact)), "a picture of 110 pixels would be made");
        // Neither end is too large, but what lies between them.
        refused(work.take(head(100, 1), Task::Resize((1, 100), Fit::Exact)), "a picture of 10000 pixels");
    }

    #[test]
    fn call_may_have_so_many_pixels_worked_on() {
        let mut work = work(100, 500);
        let shrink = Task::Resize((5, 10), Fit::Exact);
        work.take(head(10, 10), shrink).ok().unwrap();
        work.take(head(10, 10), Task::Hole(White::Opaque)).ok().unwrap();
        refused(work.take(head(10, 10), shrink), "at most 500 pixels worked on");
        work.take(head(5, 10), Task::Convert(ImageFormat::Png, None)).ok().unwrap();
        assert_eq!(work.left, 0);
    }
}
