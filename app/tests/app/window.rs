//! The window on a virtual display, driven by keys and clicks as a hand would.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, InputFocus, Keycode, MapState, Window};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::program::{dreamglass, failed};

/// Size of the display in pixels.
const SCREEN: [u16; 2] = [1280, 800];
/// Part of the picture that the panel never covers, and the upper lower edges neither: `x, y, w, h`.
const PICTURE: [u16; 4] = [200, 250, 400, 300];
/// Longest wait: the first picture waits for the driver's compiler.
const PATIENCE: Duration = Duration::from_secs(180);

const KEY_PRESS: u8 = 2;
const KEY_RELEASE: u8 = 3;
const BUTTON_PRESS: u8 = 4;
const BUTTON_RELEASE: u8 = 5;
const MOTION: u8 = 6;

/// A virtual display and a connection to it.
struct Display {
    server: Child,
    name: String,
    x: RustConnection,
    root: Window,
}

impl Display {
    fn open() -> Self {
        let screen = format!("{}x{}x24", SCREEN[0], SCREEN[1]);
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need Xvfb, which `make test` installs");
        let mut number = String::new();
        let mut output = server.stdout.take().unwrap();
        let mut byte = [0];
        while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            number.push(byte[0].into());
        }
        let name = format!(":{number}");
        let (x, screen) = x11rb::connect(Some(&name)).unwrap();
        let root = x.setup().roots[screen].root;
        Self { server, name, x, root }
    }
    fn input(&self, kind: u8, detail: u8, [x, y]: [i16; 2]) {
        self.x.xtest_fake_input(kind, detail, 0, self.root, x, y, 0).unwrap().check().unwrap();
    }
    /// Gives the keyboard to the program's window, as a window manager would.
    fn focus(&self) {
        let windows = self.x.query_tree(self.root).unwrap().reply().unwrap().children;
        let shown = windows.into_iter().filter(|&w| {
            let attributes = self.x.get_window_attributes(w).unwrap().reply();
            attributes.is_ok_and(|a| a.map_state == MapState::VIEWABLE)
        });
        let window = shown.last().expect("a window");
        self.x.set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME).unwrap().check().unwrap();
    }
    fn key(&self, symbol: u32) {
        let setup = self.x.setup();
        let count = setup.max_keycode - setup.min_keycode + 1;
        let map = self.x.get_keyboard_mapping(setup.min_keycode, count).unwrap().reply().unwrap();
        let width = usize::from(map.keysyms_per_keycode);
        let at = map.keysyms.chunks(width).position(|symbols| symbols[0] == symbol).unwrap();
        let code: Keycode = setup.min_keycode + at as u8;
        self.input(KEY_PRESS, code, [0, 0]);
        self.input(KEY_RELEASE, code, [0, 0]);
        sleep(Duration::from_millis(30));
    }
    fn types(&self, text: &str) {
        text.chars().for_each(|c| self.key(c.into()));
    }
    fn click(&self, at: [i16; 2]) {
        self.input(MOTION, 0, at);
        sleep(Duration::from_millis(200));
        self.input(BUTTON_PRESS, 1, at);
        sleep(Duration::from_millis(100));
        self.input(BUTTON_RELEASE, 1, at);
        sleep(Duration::from_millis(200));
    }
    /// RGB of a part of the screen.
    fn pixels(&self, [x, y, width, height]: [u16; 4]) -> Vec<[u8; 3]> {
        let reply = self
            .x
            .get_image(ImageFormat::Z_PIXMAP, self.root, x as i16, y as i16, width, height, u32::MAX)
            .unwrap()
            .reply()
            .unwrap();
        reply.data.chunks_exact(4).map(|p| [p[2], p[1], p[0]]).collect()
    }
    /// Keeps a picture of the screen where people can look at it.
    fn save(&self, name: &str) {
        let pixels = self.pixels([0, 0, SCREEN[0], SCREEN[1]]);
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("window");
        fs::create_dir_all(&folder).unwrap();
        let [width, height] = SCREEN.map(u32::from);
        image::RgbImage::from_raw(width, height, pixels.concat()).unwrap().save(folder.join(name)).unwrap();
    }
    /// Mean distance of the picture's colours from grey, and mean brightness.
    fn colours(&self) -> [f64; 2] {
        let pixels = self.pixels(PICTURE);
        let n = pixels.len() as f64;
        let range = |p: &[u8; 3]| f64::from(p.iter().max().unwrap() - p.iter().min().unwrap());
        let brightness = |p: &[u8; 3]| p.iter().map(|&v| f64::from(v)).sum::<f64>() / 3.0;
        [pixels.iter().map(range).sum::<f64>() / n, pixels.iter().map(brightness).sum::<f64>() / n]
    }
    /// Waits until the picture's colours are as wanted.
    fn wait(&self, what: &str, child: &mut Child, wanted: impl Fn([f64; 2]) -> bool) -> [f64; 2] {
        let began = Instant::now();
        loop {
            let colours = self.colours();
            if wanted(colours) {
                return colours;
            }
            assert!(child.try_wait().unwrap().is_none(), "the program ended before {what}");
            if began.elapsed() > PATIENCE {
                self.save("failed.png");
                panic!("{what}: the picture's colours are {colours:?}");
            }
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The X keysyms of keys without a character.
const ENTER: u32 = 0xff0d;
const BACKSPACE: u32 = 0xff08;

#[test]
fn keys_and_panel_change_the_picture() {
    let display = Display::open();
    let folder = TempDir::new().unwrap();
    let mut command = dreamglass();
    command.args(["live", "--source", "synthetic:256x256@30", "--size", "128x128", "--look", "none"]);
    command.env("DISPLAY", &display.name).env_remove("WAYLAND_DISPLAY").env("HOME", folder.path());
    command.env("XDG_CONFIG_HOME", folder.path()).current_dir(folder.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();

    let plain = display.wait("the first picture", &mut child, |[range, light]| range > 60.0 && light > 40.0);
    display.save("plain.png");
    display.focus();
    display.key('0'.into());
    let charcoal = display.wait("charcoal by key", &mut child, |[range, _]| range < 0.4 * plain[0]);
    display.save("charcoal.png");

    // The button of the look called "none", then words in the field of the prompt.
    display.click(LOOK_NONE);
    display.wait("no look by click", &mut child, |[range, _]| range > 1.8 * charcoal[0]);
    display.click(PROMPT_FIELD);
    (0..60).for_each(|_| display.key(BACKSPACE));
    display.types("a charcoal drawing");
    display.key(ENTER);
    display.wait("charcoal by words", &mut child, |[range, _]| range < 0.5 * plain[0]);
    display.save("words.png");

    display.click([400, 400]);
    display.key('v'.into());
    sleep(Duration::from_secs(3));
    for key in ['v', 'c', 's', 'p', 'f'] {
        display.key(key.into());
        sleep(Duration::from_millis(500));
    }
    display.save("full.png");
    display.key('q'.into());
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains("frames/s"), "{words}");
    let files: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into())
        .collect();
    let has = |extension: &str| files.iter().any(|f| f.starts_with("dreamglass-") && f.ends_with(extension));
    assert!(has(".png") && has(".mp4"), "{files:?}\n{words}");
}

/// Where the panel has its first look and the field of the prompt, in a window of the usual size.
const LOOK_NONE: [i16; 2] = [800, 190];
const PROMPT_FIELD: [i16; 2] = [960, 305];

/// The way of GPUs, and its end by Ctrl-C.
#[test]
fn the_devices_own_picture_is_presented_until_a_signal() {
    let display = Display::open();
    let mut command = dreamglass();
    command.args(["live", "--source", "synthetic:256x256@30", "--size", "64x64", "--look", "none"]);
    command.args(["--present", "direct", "--show-source", "beside", "--no-panel"]);
    command.env("DISPLAY", &display.name).env_remove("WAYLAND_DISPLAY");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    display.wait("the first picture", &mut child, |[range, light]| range > 40.0 && light > 30.0);
    let began = Instant::now();
    let bright = |at| display.pixels(at).iter().filter(|p| p.iter().any(|&v| v > 100)).count();
    // Result and source, side by side.
    while bright([20, 200, 500, 300]) < 10_000 || bright([560, 200, 500, 300]) < 10_000 {
        assert!(began.elapsed() < PATIENCE, "source or result is missing");
        sleep(Duration::from_millis(100));
    }
    display.save("direct.png");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_a_display_it_says_so() {
    let mut command = dreamglass();
    command.args(["live", "--source", "synthetic"]);
    let output = command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").output().unwrap();
    failed(&output, 1, &["display", "--no-window"]);
}
