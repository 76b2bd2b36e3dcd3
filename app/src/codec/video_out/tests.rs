#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dreamglass_engine::Size;

use super::super::video_in::{Outlet, VideoIn};
use super::*;
use crate::source::barcode::decode_counter;
use crate::source::test_card::test_card;

const SIZE: Size = Size::new(512, 512);

fn card(number: u64) -> Arc<Planes> {
    Arc::new(Planes::from_picture(&test_card(SIZE, number).unwrap()).unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(20), future).await };
    runtime.block_on(limited).expect("nothing came")
}

/// A decoder that keeps the counters of the cards it saw.
fn reader() -> (VideoIn, Arc<Mutex<Vec<u64>>>, Arc<AtomicU64>) {
    let (seen, wishes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let (to, wished) = (Arc::clone(&seen), Arc::clone(&wishes));
    let outlet = Outlet {
        picture: Box::new(move |picture, _| to.lock().unwrap().push(decode_counter(&picture).unwrap())),
        want_key: Box::new(move || {
            wished.fetch_add(1, Ordering::SeqCst);
        }),
    };
    (VideoIn::start(outlet).unwrap(), seen, wishes)
}

#[test]
fn every_viewer_sees_the_newest_pictures_in_order() {
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup::default()).unwrap();
    video.put(card(0), epoch);
    let mut viewers = [video.subscribe(), video.subscribe()];
    let (reader, seen, _) = reader();
    let mut times = Vec::new();
    for n in 1..20 {
        video.put(card(n), epoch + Duration::from_millis(40 * n));
        for (ix, viewer) in viewers.iter_mut().enumerate() {
            let unit = wait(viewer.next()).unwrap();
            assert!(n > 1 || unit.is_key);
            if ix == 0 {
                times.push(unit.rtp_time);
                reader.put(unit.data.clone(), unit.is_key, Instant::now());
            }
        }
        thread::sleep(Duration::from_millis(30));
    }
    drop(reader);
    assert!(times.windows(2).all(|w| w[1] > w[0]), "{times:?}");
    let seen = seen.lock().unwrap();
    // A picture may be coded twice, for a viewer that has just come.
    assert!(seen.len() >= 10 && seen.windows(2).all(|w| w[1] >= w[0]), "{seen:?}");
    assert!(seen.last().is_some_and(|n| *n >= 17), "{seen:?}");
    let figures = video.figures();
    assert!(figures.key_frames >= 1 && figures.frames >= 19 && figures.bytes > 1000, "{figures:?}");
}

#[test]
fn who_joins_a_still_picture_sees_it_at_once_and_joins_are_shared() {
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup::default()).unwrap();
    video.put(card(7), epoch);
    let (reader, seen, _) = reader();
    let mut first = video.subscribe();
    let unit = wait(first.next()).unwrap();
    let began = Instant::now();
    let mut late: Vec<Subscription> = (0..20).map(|_| video.subscribe()).collect();
    for viewer in &mut late {
        let again = wait(viewer.next()).unwrap();
        // The same picture, and a time of its own.
        assert!(again.is_key && again.rtp_time > unit.rtp_time);
        reader.put(again.data.clone(), true, Instant::now());
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(video.figures().key_frames <= 3, "{:?}", video.figures());
    drop(reader);
    assert!(seen.lock().unwrap().iter().all(|n| *n == 7));
}

#[test]
fn a_slow_viewer_begins_again_with_a_key_frame() {
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup { max_fps: 1000.0, ..Setup::default() }).unwrap();
    let mut slow = video.subscribe();
    let mut quick = video.subscribe();
    for n in 0..40 {
        video.put(card(n), epoch + Duration::from_millis(n));
        assert!(wait(quick.next()).is_some());
    }
    video.put(card(40), epoch + Duration::from_millis(40));
    assert!(wait(slow.next()).unwrap().is_key);
}

#[test]
fn the_rate_follows_the_viewers() {
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup::default()).unwrap();
    let mut viewer = video.subscribe();
    let mut before = 0.0;
    for n in 0..90 {
        let began = Instant::now();
        video.put(card(n * 3), epoch.elapsed().checked_add(Duration::ZERO).map_or(epoch, |d| epoch + d));
        wait(viewer.next()).unwrap();
        if n == 44 {
            before = video.figures().bits_per_s;
            viewer.estimated(before * 0.4);
        }
        thread::sleep(Duration::from_millis(33).saturating_sub(began.elapsed()));
    }
    let after = video.figures();
    assert!(f64::from(after.target) < before * 0.5, "{before} {after:?}");
}

#[test]
fn nobody_watching_costs_nothing() {
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup::default()).unwrap();
    (0..10).for_each(|n| video.put(card(n), epoch));
    thread::sleep(Duration::from_millis(50));
    assert_eq!(video.figures().frames, 0);
    assert!(video.latest().is_some());
}

#[test]
fn garbage_is_counted_and_a_key_frame_is_asked_for() {
    let (reader, seen, wishes) = reader();
    let mut word = 7_u32;
    for n in 0..300_u32 {
        let mut garbage: Vec<u8> = (0..n * 7 % 2000)
            .map(|_| {
                word = word.wrapping_mul(0x9e37_79b1).rotate_left(9) ^ 0x1234_5678;
                word as u8
            })
            .collect();
        // Every kind of NAL unit, with a start code.
        garbage.splice(0..0, [0, 0, 0, 1, (n % 32) as u8 | 0x60]);
        reader.put(garbage.into(), true, Instant::now());
        thread::sleep(Duration::from_micros(300));
    }
    reader.put(Bytes::from_static(&[1, 2, 3]), false, Instant::now());
    let epoch = Instant::now();
    let video = VideoOut::start(epoch, Setup::default()).unwrap();
    let mut viewer = video.subscribe();
    video.put(card(5), epoch);
    thread::sleep(Duration::from_millis(300));
    reader.put(wait(viewer.next()).unwrap().data.clone(), true, Instant::now());
    drop(reader);
    assert!(wishes.load(Ordering::SeqCst) > 0);
    assert_eq!(*seen.lock().unwrap(), [5], "good video is read after garbage");
}
