//! Frames through three threads: one reads, one stylises, one writes.
//!
//! Bounded channels keep them in step, so memory stays at a few frames however long a video is. An
//! offline video drops nothing: every frame read is written, in order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Result, anyhow};
use dreamglass_engine::Picture;

/// Frames that wait between two threads: enough that none waits for another's hiccup.
const WAITING: usize = 2;

/// Sends the frames of `source` through `stylise` (on this thread) to `write`, and returns how many
/// were written. Ends early, with all that was stylised written, when `stylise` returns none.
pub fn run(
    source: impl Iterator<Item = Result<Picture>> + Send,
    mut stylise: impl FnMut(&Picture) -> Result<Option<Picture>>,
    write: impl FnMut(&Picture) -> Result<()> + Send,
) -> Result<u64> {
    thread::scope(|scope| {
        let (to_stylise, frames) = sync_channel(WAITING);
        let (to_write, stylised) = sync_channel(WAITING);
        scope.spawn(move || read_all(source, &to_stylise));
        let writer = scope.spawn(move || write_all(&stylised, write));
        let stylised = stylise_all(&frames, &mut stylise, &to_write);
        // Both ends go: the reader stops at its next frame, the writer after its last one.
        drop((frames, to_write));
        let written = writer.join().map_err(|_| anyhow!("the writing thread panicked"))?;
        // A writer that failed is why there was no more to do.
        let written = written?;
        stylised.map(|()| written)
    })
}

fn read_all(source: impl Iterator<Item = Result<Picture>>, frames: &SyncSender<Result<Picture>>) {
    for frame in source {
        if frames.send(frame).is_err() {
            return;
        }
    }
}

fn stylise_all(
    frames: &Receiver<Result<Picture>>,
    stylise: &mut impl FnMut(&Picture) -> Result<Option<Picture>>,
    stylised: &SyncSender<Picture>,
) -> Result<()> {
    for frame in frames {
        let Some(picture) = stylise(&frame?)? else { return Ok(()) };
        if stylised.send(picture).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn write_all(pictures: &Receiver<Picture>, mut write: impl FnMut(&Picture) -> Result<()>) -> Result<u64> {
    let mut written = 0;
    for picture in pictures {
        write(&picture)?;
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use anyhow::bail;
    use dreamglass_engine::Size;

    use super::*;

    fn frame(value: u8) -> Picture {
        Picture::new(Size::new(1, 1), vec![value; 4]).unwrap()
    }

    #[test]
    fn every_frame_is_written_in_order() {
        let mut seen = Vec::new();
        let written = run(
            (0..100).map(|v| Ok(frame(v))),
            |p| Ok(Some(frame(p.rgba()[0] + 1))),
            |p| {
                seen.push(p.rgba()[0]);
                Ok(())
            },
        );
        assert_eq!(written.unwrap(), 100);
        assert_eq!(seen, (1..=100).collect::<Vec<u8>>());
    }

    #[test]
    fn an_end_keeps_what_was_stylised() {
        let mut left = 7;
        let stylise = |p: &Picture| {
            left -= 1;
            Ok((left >= 0).then(|| p.clone()))
        };
        assert_eq!(run((0..100).map(|v| Ok(frame(v))), stylise, |_| Ok(())).unwrap(), 7);
    }

    #[test]
    fn each_threads_error_comes_out() {
        let broken = |v: u8| if v == 3 { bail!("source") } else { Ok(frame(v)) };
        let same = |p: &Picture| Ok(Some(p.clone()));
        let error = run((0..9).map(broken), same, |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "source");
        let error = run((0..9).map(|v| Ok(frame(v))), |_| bail!("device"), |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "device");
        let error = run((0..99).map(|v| Ok(frame(v))), same, |_| bail!("disk")).unwrap_err();
        assert_eq!(error.to_string(), "disk");
    }
}
