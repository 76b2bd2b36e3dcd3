#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use super::super::{Event, Source};
use super::*;

/// A camera of the test.
#[derive(Clone)]
struct Fake {
    info: CameraInfo,
    modes: Vec<Mode>,
    refusal: Option<Refusal>,
    /// What it sends instead of a whole frame, each once.
    broken: Vec<Vec<u8>>,
    frame_time: Duration,
}

/// What is plugged in.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Vec<Fake>>>);

struct FakeStream {
    desk: Desk,
    name: String,
    mode: Mode,
}

const WEBCAM: [Mode; 4] = [
    mode(640, 480, 30, Format::Yuyv),
    mode(1280, 720, 10, Format::Yuyv),
    mode(1280, 720, 30, Format::Mjpeg),
    mode(1920, 1080, 30, Format::Mjpeg),
];

const fn mode(width: u32, height: u32, fps: u32, format: Format) -> Mode {
    Mode { size: Size::new(width, height), fps, format }
}

impl Fake {
    fn new(index: u32, name: &str, modes: &[Mode]) -> Self {
        Self {
            info: CameraInfo { index, name: name.into() },
            modes: modes.to_vec(),
            refusal: None,
            broken: Vec::new(),
            frame_time: Duration::from_millis(3),
        }
    }
    fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..self }
    }
}

impl Desk {
    fn with(cameras: &[Fake]) -> Self {
        Self(Arc::new(Mutex::new(cameras.to_vec())))
    }
    fn cameras(&self) -> MutexGuard<'_, Vec<Fake>> {
        self.0.lock().unwrap()
    }
    fn open(&self, choice: &str) -> Result<Worker> {
        let wish = Wish { size: Some(Size::new(640, 480)), fps: None };
        let choice = match choice.parse() {
            _ if choice.is_empty() => None,
            Ok(index) => Some(CameraChoice::Index(index)),
            Err(_) => Some(CameraChoice::Name(choice.into())),
        };
        start(self.clone(), choice, wish, Duration::from_millis(5))
    }
    fn refused(&self, choice: &str) -> String {
        self.open(choice).err().unwrap().to_string()
    }
}

impl CameraBackend for Desk {
    fn list(&self) -> Result<Vec<CameraInfo>> {
        Ok(self.cameras().iter().map(|c| c.info.clone()).collect())
    }
    fn open(&self, index: u32, wish: Asked) -> Result<Box<dyn CameraStream>, Refusal> {
        let cameras = self.cameras();
        let camera = cameras.iter().find(|c| c.info.index == index).ok_or(Refusal::Gone)?;
        if let Some(refusal) = &camera.refusal {
            return Err(refusal.clone());
        }
        let mode = wish.nearest(&camera.modes).ok_or(Refusal::Unusable("it offers no pictures".into()))?;
        Ok(Box::new(FakeStream { desk: self.clone(), name: camera.info.name.clone(), mode }))
    }
}

impl CameraStream for FakeStream {
    fn frame(&mut self) -> Result<RawFrame, Refusal> {
        let Mode { size, format, .. } = self.mode;
        let mut cameras = self.desk.cameras();
        let camera = cameras.iter_mut().find(|c| c.info.name == self.name).ok_or(Refusal::Gone)?;
        let whole = vec![128; (size.width * size.height * 2) as usize];
        let bytes = camera.broken.pop().unwrap_or(whole);
        let frame_time = camera.frame_time;
        drop(cameras);
        thread::sleep(frame_time);
        Ok(RawFrame { size, format, bytes })
    }
    fn negotiated(&self) -> Mode {
        self.mode
    }
}

/// Waits for what `is_wanted`, at most `seconds`.
fn until(source: &mut Worker, is_wanted: impl Fn(&Event) -> bool) -> Event {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if let Some(event) = source.next().unwrap().filter(&is_wanted) {
            return event;
        }
    }
    panic!("it never came");
}

fn frame(source: &mut Worker) -> u64 {
    match until(source, |e| matches!(e, Event::Frame(_))) {
        Event::Frame(frame) => frame.index,
        other => panic!("{other:?}"),
    }
}

fn trouble(source: &mut Worker) -> String {
    match until(source, |e| matches!(e, Event::Trouble(_))) {
        Event::Trouble(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_nearest_mode_is_chosen() {
    let nearest = |width, height, fps| {
        Asked { size: Size::new(width, height), fps }.nearest(&WEBCAM).unwrap().to_string()
    };
    assert_eq!(nearest(1280, 720, 30), "1280x720 30 fps MJPEG");
    assert_eq!(nearest(1280, 720, 10), "1280x720 10 fps YUYV");
    assert_eq!(nearest(512, 512, 30), "640x480 30 fps YUYV");
    assert_eq!(nearest(8000, 6000, 60), "1920x1080 30 fps MJPEG");
    assert_eq!(nearest(0, 0, 0), "640x480 30 fps YUYV");
    assert_eq!(Asked::from(Wish::default()).nearest(&[]), None);
    assert_eq!(Asked::from(Wish::default()).nearest(&WEBCAM), Some(WEBCAM[2]));
}

#[test]
fn cameras_are_chosen_by_number_and_name() {
    // The second entry of the webcam is its metadata, as V4L2 has it.
    let desk = Desk::with(&[
        Fake::new(0, "HD Webcam", &[]),
        Fake::new(1, "HD Webcam", &WEBCAM),
        Fake::new(2, "Logitech BRIO", &WEBCAM),
    ]);
    let described = |choice: &str| {
        let mut source = desk.open(choice).unwrap();
        frame(&mut source);
        source.describe()
    };
    assert_eq!(described(""), "camera 1: HD Webcam, 640x480 30 fps YUYV");
    assert_eq!(described("logitech"), "camera 2: Logitech BRIO, 640x480 30 fps YUYV");
    assert_eq!(described("2"), "camera 2: Logitech BRIO, 640x480 30 fps YUYV");
    assert!(desk.refused("0").contains("camera 0: HD Webcam cannot be used: it offers no pictures"));
    let there = "there are 0: HD Webcam, 1: HD Webcam, 2: Logitech BRIO";
    assert_eq!(desk.refused("7"), format!("there is no camera 7; {there}"));
    assert_eq!(desk.refused("Sony"), format!("there is no camera called `Sony`; {there}"));
    assert!(Desk::default().refused("").contains("no camera here"));
}

#[test]
fn a_camera_that_is_taken_or_forbidden() {
    let desk = Desk::with(&[
        Fake::new(0, "Webcam", &WEBCAM).refusing(Refusal::Busy),
        Fake::new(1, "Secret", &WEBCAM).refusing(Refusal::Denied),
    ]);
    assert!(desk.refused("").contains("camera 0: Webcam is used by another program"));
    assert!(desk.refused("secret").contains("may not be opened"));
}

#[test]
fn a_camera_that_is_pulled_out_comes_back() {
    let desk = Desk::with(&[Fake::new(0, "Webcam", &WEBCAM), Fake::new(1, "Other", &WEBCAM)]);
    let mut source = desk.open("").unwrap();
    let before = frame(&mut source);
    desk.cameras().remove(0);
    assert!(trouble(&mut source).contains("camera 0: Webcam is unplugged, waiting for it"));
    thread::sleep(Duration::from_millis(50));
    assert!(!matches!(source.next().unwrap(), Some(Event::Frame(_))), "another camera took its place");
    // Back, but another program was faster; then free, at another number and with other modes.
    desk.cameras().push(Fake::new(3, "Webcam", &WEBCAM).refusing(Refusal::Busy));
    assert!(trouble(&mut source).contains("camera 3: Webcam is used by another program"));
    desk.cameras()[1] = Fake::new(3, "Webcam", &[mode(320, 240, 30, Format::Yuyv)]);
    let back = until(&mut source, |e| matches!(e, Event::Frame(_)));
    let Event::Frame(back) = back else { return };
    assert!(back.index > before);
    assert_eq!(back.picture.size(), Size::new(320, 240));
    assert_eq!(source.describe(), "camera 3: Webcam, 320x240 30 fps YUYV");
}

#[test]
fn frames_that_lie_are_counted_and_skipped() {
    let mut camera = Fake::new(0, "Webcam", &WEBCAM);
    camera.frame_time = Duration::from_millis(20);
    camera.broken = vec![vec![1; 7], Vec::new(), vec![9; 100_000]];
    let mut source = Desk::with(&[camera]).open("").unwrap();
    assert_eq!(frame(&mut source), 3);
    assert!(frame(&mut source) > 3);
}

#[test]
fn who_is_slow_gets_the_newest() {
    let mut source = Desk::with(&[Fake::new(0, "Webcam", &WEBCAM)]).open("").unwrap();
    let first = frame(&mut source);
    thread::sleep(Duration::from_millis(200));
    let Event::Frame(late) = until(&mut source, |e| matches!(e, Event::Frame(_))) else { return };
    assert!(late.index > first + 5, "{} after {first}", late.index);
    assert!(late.captured_at.elapsed() < Duration::from_millis(150));
}
