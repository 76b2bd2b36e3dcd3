#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use anyhow::bail;
use dreamglass_engine::kernels::DType;
use dreamglass_engine::kernels::gpu::{Gpu, GpuOptions};
use dreamglass_engine::params::Value;
use dreamglass_engine::{EngineOptions, Planes, Size};

use super::*;
use crate::codec::video_out::VideoOut;
use crate::live::Phase;
use crate::model;
use crate::source::barcode::decode_counter;
use crate::source::test_card::test_card;
use crate::source::{self, Options};

const SIZE: Size = Size::new(256, 256);

pub(crate) fn setup(opened: &Arc<AtomicUsize>) -> Setup {
    let files = model::files(Path::new("demo")).unwrap();
    let looks = Arc::new(Looks::open(&files).unwrap());
    let gpu = Gpu::open(&GpuOptions::default()).unwrap();
    let options = EngineOptions { dtype: DType::F32, ..Default::default() };
    let opened = Arc::clone(opened);
    Setup {
        host: Host::new(gpu, Box::new(|| bail!("not in this test")), files, options),
        looks,
        params: Params::default(),
        passes_through: true,
        source: Arc::new(move || {
            opened.fetch_add(1, Ordering::SeqCst);
            source::open(&"synthetic:256x256@50".parse().unwrap(), &Options::default())
        }),
        max_streams: 2,
        linger: Duration::from_millis(200),
        video: video_out::Setup::default(),
    }
}

fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} does not come");
        thread::sleep(Duration::from_millis(5));
    }
}

fn counter(channel: &Channel) -> Option<u64> {
    decode_counter(&channel.snapshot()?.to_picture().unwrap())
}

/// Test cards from `first` on as a publisher's units.
fn publish(publication: &Publication, first: u64, count: u64) {
    let video = VideoOut::start(Instant::now(), video_out::Setup::default()).unwrap();
    let mut units = video.subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for n in first..first + count {
        let card = Planes::from_picture(&test_card(SIZE, n).unwrap()).unwrap();
        video.put(Arc::new(card), Instant::now());
        let unit = runtime.block_on(units.next()).unwrap();
        publication.put(unit.data.clone(), unit.is_key, Instant::now());
        thread::sleep(Duration::from_millis(25));
    }
}

#[test]
fn a_publisher_takes_the_place_of_the_source_and_gives_it_back() {
    let opened = Arc::new(AtomicUsize::new(0));
    let hub = Hub::start(setup(&opened), Vec::new()).unwrap();
    let main = hub.stream(MAIN).unwrap();
    until("a picture", || counter(&main).is_some_and(|n| n > 2));
    let publication = hub.publish(MAIN).unwrap();
    assert_eq!(hub.publish(MAIN).err(), Some(Refusal::Busy));
    publish(&publication, 1_000_000, 10);
    until("the publisher's picture", || counter(&main).is_some_and(|n| n >= 1_000_000));
    assert!(main.has_publisher() && main.report().publisher.is_some_and(|p| p.decoded > 0));
    assert!(main.phase().1.contains("publisher"), "{:?}", main.phase());
    drop(publication);
    until("the server's source", || counter(&main).is_some_and(|n| n < 1_000_000));
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert!(!main.has_publisher());
}

#[test]
fn reports_and_publishers_do_not_wait_for_each_other() {
    let hub = Arc::new(Hub::start(setup(&Arc::default()), Vec::new()).unwrap());
    let main = hub.stream(MAIN).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let (reported, over) = (Arc::clone(&main), Arc::clone(&is_over));
    thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            reported.report();
        }
    });
    let (sender, done) = std::sync::mpsc::channel();
    let publishing = Arc::clone(&hub);
    thread::spawn(move || {
        // Each is dropped at once.
        let _ = sender.send((0..100).all(|_| publishing.publish(MAIN).is_ok()));
    });
    // Threads that wait for each other keep the hub, so that it does not wait for them, too, when this fails.
    assert_eq!(done.recv_timeout(Duration::from_secs(30)), Ok(true));
    is_over.store(true, Ordering::SeqCst);
}

#[test]
fn streams_come_with_their_publishers_and_end_after_them() {
    let hub = Hub::start(setup(&Arc::default()), Vec::new()).unwrap();
    for name in ["", "Main", "../x", "a b", &"x".repeat(33)] {
        assert_eq!(hub.publish(name).err(), Some(Refusal::Name), "{name}");
    }
    let publication = hub.publish("stage-1").unwrap();
    assert_eq!(hub.publish("stage-2").err(), Some(Refusal::Full { max_streams: 2 }));
    publish(&publication, 5, 10);
    let stage = hub.stream("stage-1").unwrap();
    until("the publisher's picture", || counter(&stage).is_some_and(|n| (5..15).contains(&n)));
    assert_ne!(
        stage.params(),
        hub.stream(MAIN).map(|_| Arc::new(Params { seed: 9, ..Params::default() })).unwrap()
    );
    let mut notices = stage.notices();
    drop(publication);
    until("the end of the stream", || hub.stream("stage-1").is_none());
    until("the notice", || matches!(notices.try_recv(), Ok(Notice::Over(_))));
    // There is room again.
    drop(hub.publish("stage-2").unwrap());
    assert!(hub.stream(MAIN).is_some());
}

#[tokio::test]
async fn parameters_change_all_or_nothing_and_everybody_hears() {
    let hub = Hub::start(setup(&Arc::default()), Vec::new()).unwrap();
    let main = hub.stream(MAIN).unwrap();
    let mut notices = main.notices();
    let change = |pairs: &[(&str, Value)]| {
        let pairs = pairs.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        main.change(pairs)
    };
    let params =
        change(&[("seed", Value::Whole(7)), ("strength", Value::Number(0.3))]).await.unwrap().unwrap();
    assert_eq!((params.seed, params.strength), (7, Some(0.3)));
    let error =
        change(&[("seed", Value::Whole(8)), ("strength", Value::Number(3.0))]).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("strength"), "{error}");
    assert_eq!(main.params().seed, 7);
    let notice = loop {
        match notices.recv().await.unwrap() {
            Notice::Params(params) => break params,
            _ => continue,
        }
    };
    assert_eq!(notice.seed, 7);
    let summaries = hub.shut_down("test");
    assert!(summaries.iter().all(|(_, s)| s.is_ok()) && summaries.len() == 1);
    assert!(change(&[]).await.is_none(), "the stream is over");
    assert!(main.report().phase == report::Phase::Ended);
}

/// Several streams of the model on one device: each gets its turn.
#[test]
fn the_device_is_shared_fairly() {
    let mut setup = setup(&Arc::default());
    setup.passes_through = false;
    setup.params = Params {
        prompt: "a photo".into(),
        strength: Some(0.02),
        steps: Some(1),
        size: Some(Size::new(64, 64)),
        ..Params::default()
    };
    let hub = Hub::start(setup, Vec::new()).unwrap();
    let main = hub.stream(MAIN).unwrap();
    until("a picture", || main.report().phase == report::Phase::Live);
    let publication = hub.publish("other").unwrap();
    publish(&publication, 0, 5);
    let other = hub.stream("other").unwrap();
    until("the other's picture", || other.phase().0 == Phase::Live);
    let before = [&main, &other].map(|c| c.report().frames.shown);
    publish(&publication, 5, 100);
    let after = [&main, &other].map(|c| c.report().frames.shown);
    let shown = [after[0] - before[0], after[1] - before[1]];
    // The main stream's source is quicker than the device, the publisher sends 100 in that time.
    assert!(shown[0] * 3 >= shown[1] && shown[1] * 3 >= shown[0].min(100), "{shown:?}");
}
