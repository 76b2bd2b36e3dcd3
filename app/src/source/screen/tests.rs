#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

fn region(width: u32, height: u32, x: u32, y: u32) -> Region {
    Region { size: Size::new(width, height), x, y }
}

fn words(input: &Input) -> String {
    format!("{} -i {}", input.options.join(" "), input.url.to_string_lossy())
}

#[test]
fn every_system_has_its_grabber() {
    let part = Some(region(640, 480, 100, 50));
    let x11 = Grabber::X11.input(":0.0", part, 30);
    let short = "-probesize 32 -analyzeduration 0";
    assert_eq!(words(&x11), format!("-f x11grab -framerate 30 {short} -video_size 640x480 -i :0.0+100,50"));
    assert_eq!(x11.shown, "screen :0.0 at +100+50");
    let gdi = Grabber::Gdi.input("", part, 25);
    let offset = "-offset_x 100 -offset_y 50";
    assert_eq!(words(&gdi), format!("-f gdigrab -framerate 25 -video_size 640x480 {offset} -i desktop"));
    let mac = Grabber::AvFoundation.input("", None, 30);
    assert_eq!(words(&mac), "-f avfoundation -framerate 30 -capture_cursor 1 -i Capture screen 0:none");
}

#[test]
fn regions_lie_on_the_screen() {
    let size = Size::new(800, 600);
    assert!(check(region(800, 600, 0, 0), size).is_ok());
    assert!(check(region(100, 100, 700, 500), size).is_ok());
    for outside in [region(801, 10, 0, 0), region(100, 100, 701, 0), region(2, 2, u32::MAX, 0)] {
        assert!(check(outside, size).unwrap_err().to_string().contains("800x600"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_screen() {
    let message = |display: Option<&str>, wayland| {
        display_name(display.map(OsString::from), wayland).unwrap_err().to_string()
    };
    assert!(message(None, false).contains("DISPLAY=:0"));
    assert!(message(Some(""), false).contains("DISPLAY=:0"));
    assert!(message(None, true).contains("Wayland"));
    let error = capture(Grabber::X11, ":64000", None, 30).err().unwrap().to_string();
    assert!(error.contains("screen :64000: cannot be captured"), "{error}");
}

#[cfg(target_os = "linux")]
mod x11 {
    use std::fs::{self, OpenOptions};
    use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::super::super::{Captured, Event, Source};
    use super::*;

    /// An X server of 320x240 whose pixels are a file.
    struct Server {
        child: Child,
        display: String,
        folder: TempDir,
    }

    impl Server {
        fn start(display: Option<&str>) -> Self {
            let folder = TempDir::new().unwrap();
            let mut command = Command::new("Xvfb");
            command.args(display).args(["-displayfd", "1", "-screen", "0", "320x240x24", "-nolisten", "tcp"]);
            command.arg("-fbdir").arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("this test needs Xvfb: apt install xvfb");
            let mut number = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut number).unwrap();
            Self { child, display: format!(":{}", number.trim()), folder }
        }
        /// Turns rows `from` and below orange.
        fn paint(&self, from: u32) {
            let path = self.folder.path().join("Xvfb_screen0");
            let pixels = 320 * 240 * 4;
            let start = fs::metadata(&path).unwrap().len() - pixels + u64::from(from * 320 * 4);
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(start)).unwrap();
            file.write_all(&[0, 128, 255, 0].repeat(((240 - from) * 320) as usize)).unwrap();
        }
        fn end(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Waits for what `is_wanted`.
    fn until(source: &mut Worker, is_wanted: impl Fn(&Event) -> bool) -> Event {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(event) = source.next().unwrap().filter(&is_wanted) {
                return event;
            }
        }
        panic!("it never came");
    }

    fn pixel(frame: &Captured, x: u32, y: u32) -> [u8; 3] {
        let start = ((y * frame.picture.size().width + x) * 4) as usize;
        frame.picture.rgba()[start..start + 3].try_into().unwrap()
    }

    #[test]
    fn a_screen_is_captured() {
        let mut server = Server::start(None);
        let mut source = capture(Grabber::X11, &server.display, None, 30).unwrap();
        assert_eq!(source.describe(), format!("screen {}, 320x240 30 fps", server.display));
        server.paint(200);
        let is_orange = |f: &Captured, y| pixel(f, 5, y) == [255, 128, 0];
        until(&mut source, |e| matches!(e, Event::Frame(f) if is_orange(f, 200) && !is_orange(f, 199)));
        let part = Some(region(64, 48, 10, 190));
        let mut source = capture(Grabber::X11, &server.display, part, 30).unwrap();
        until(&mut source, |e| matches!(e, Event::Frame(f) if is_orange(f, 10) && !is_orange(f, 9)));
        let outside = capture(Grabber::X11, &server.display, Some(region(64, 48, 300, 0)), 30);
        assert!(outside.err().unwrap().to_string().contains("320x240"));

        server.end();
        until(&mut source, |e| matches!(e, Event::Trouble(_)));
        let _back = Server::start(Some(&server.display));
        until(&mut source, |e| matches!(e, Event::Frame(_)));
    }
}
