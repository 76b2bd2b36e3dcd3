#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::super::{Captured, Event, Options, Source, open};
use super::*;

/// A real clip: 45 frames of 256x256 at 15 frames per second.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/signing.mp4");

fn open_path(path: &str, repeats: bool) -> Result<Box<dyn Source>> {
    open(&path.parse().unwrap(), &Options { repeats, ..Options::default() })
}

fn refused(path: &str) -> String {
    format!("{:#}", open_path(path, false).err().unwrap())
}

/// The first `most` frames and what else was said; ends earlier at the end.
fn watch(source: &mut dyn Source, most: usize) -> (Vec<Captured>, Vec<String>) {
    let (mut frames, mut said) = (Vec::new(), Vec::new());
    let started = Instant::now();
    while frames.len() < most {
        assert!(started.elapsed() < Duration::from_secs(60), "{} frames, {said:?}", frames.len());
        match source.next().unwrap() {
            Some(Event::Frame(frame)) => frames.push(frame),
            Some(Event::Trouble(why)) => said.push(why),
            Some(Event::End) => break,
            None => {}
        }
    }
    (frames, said)
}

/// Frames as an MPEG transport stream, which can be read from anywhere.
fn transport_stream(folder: &TempDir) -> Vec<u8> {
    let path = folder.path().join("clip.ts");
    let args = ["-v", "error", "-i", CLIP, "-c:v", "mpeg2video", "-q:v", "4", "-r", "25"];
    assert!(Command::new("ffmpeg").args(args).arg(&path).status().unwrap().success());
    fs::read(path).unwrap()
}

/// Serves `parts` over HTTP, one to each visitor, and then nobody.
fn serve(parts: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://viewer:secret@{}/live.ts", listener.local_addr().unwrap());
    thread::spawn(move || {
        for part in parts {
            let (mut visitor, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = visitor.read(&mut request);
            let _ = visitor.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n");
            let _ = visitor.write_all(&part);
        }
    });
    url
}

#[test]
fn a_clip_plays_in_real_time_and_ends() {
    let mut source = open_path(CLIP, false).unwrap();
    assert!(source.describe().ends_with("signing.mp4, 256x256 15 fps"), "{}", source.describe());
    let started = Instant::now();
    let (frames, said) = watch(source.as_mut(), usize::MAX);
    let took = started.elapsed().as_secs_f64();
    assert!((2.9..10.0).contains(&took), "{took} s");
    assert!((20..=45).contains(&frames.len()), "{}", frames.len());
    assert!(frames.windows(2).all(|w| w[0].index < w[1].index));
    assert_eq!(frames.last().unwrap().index, 44);
    assert_eq!(said, [""; 0]);
}

#[test]
fn a_clip_repeats() {
    let mut source = open_path(CLIP, true).unwrap();
    let (frames, _) = watch(source.as_mut(), 50);
    assert_eq!(frames.len(), 50);
}

#[test]
fn videos_that_are_none() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    assert!(refused(&path("gone.mp4")).contains("gone.mp4: there is no such file"));
    fs::write(path("text.mp4"), "not a video").unwrap();
    assert!(refused(&path("text.mp4")).contains("text.mp4: neither a picture nor a video"));
    fs::write(path("empty.mp4"), "").unwrap();
    assert!(refused(&path("empty.mp4")).contains("empty.mp4"));
    // A header that promises frames, and nothing behind it.
    let mut hollow = fs::read(CLIP).unwrap();
    let start = hollow.windows(4).position(|w| w == b"mdat").unwrap() + 4;
    let end = hollow.windows(4).rposition(|w| w == b"moov").unwrap();
    let end = if end > start { end - 4 } else { hollow.len() };
    hollow[start..end].fill(0);
    fs::write(path("hollow.mp4"), hollow).unwrap();
    assert!(refused(&path("hollow.mp4")).contains("hollow.mp4: no frame can be decoded"));
}

#[test]
fn a_video_that_breaks_off_ends() {
    let folder = TempDir::new().unwrap();
    let whole = transport_stream(&folder);
    let path = folder.path().join("cut.ts");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (frames, _) = watch(open_path(&path.to_string_lossy(), false).unwrap().as_mut(), usize::MAX);
    assert!((5..70).contains(&frames.len()), "{}", frames.len());
}

#[test]
fn a_stream_that_dies_is_opened_again() {
    let folder = TempDir::new().unwrap();
    let whole = transport_stream(&folder);
    let half = whole[..whole.len() / 2].to_vec();
    // Each opening asks twice: ffprobe, then ffmpeg.
    let url = serve(vec![whole.clone(), half, whole.clone(), whole]);
    let mut recipe = Recipe::url(&url, false);
    recipe.first_wait = Duration::from_millis(10);
    let mut source = decoded(recipe).unwrap();
    assert!(source.describe().starts_with("http://viewer:***@127.0.0.1"), "{}", source.describe());
    let (frames, said) = watch(&mut source, 70);
    assert_eq!(frames.len(), 70);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("the stream ended") && !said[0].contains("secret"), "{said:?}");
}

#[test]
fn a_stream_comes_in_its_own_time() {
    // The port that the system has just given away is free for a while.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("udp://127.0.0.1:{port}");
    let mut sender = Command::new("ffmpeg");
    sender.args(["-v", "error", "-re", "-stream_loop", "-1", "-i", CLIP, "-c:v", "mpeg2video", "-r", "25"]);
    let mut sender = sender.args(["-g", "10", "-f", "mpegts", &url]).spawn().unwrap();
    let mut source = open(&url.parse().unwrap(), &Options::default()).unwrap();
    assert_eq!(source.describe(), format!("{url}, 256x256 25 fps"));
    watch(source.as_mut(), 10);
    thread::sleep(Duration::from_millis(500));
    let (frames, said) = watch(source.as_mut(), 2);
    sender.kill().unwrap();
    sender.wait().unwrap();
    assert_eq!(said, [""; 0]);
    assert!(frames[1].captured_at.elapsed() < Duration::from_millis(500), "an old frame came");
}

#[test]
fn urls_that_lead_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let message = refused(&format!("http://viewer:secret@{address}/a.mp4"));
    assert!(message.contains("cannot be opened") && message.contains("refused"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn a_stream_names_no_local_file() {
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{CLIP}\n#EXT-X-ENDLIST\n");
    let url = serve(vec![playlist.clone().into_bytes(), playlist.into_bytes()]).replace("live.ts", "a.m3u8");
    let error = open(&url.parse().unwrap(), &Options::default()).err().unwrap().to_string();
    assert!(error.contains("a.m3u8") && error.contains("whitelist"), "{error}");
}

#[test]
fn passwords_are_not_shown() {
    let shown = |url| without_password(url);
    assert_eq!(shown("rtsp://u:p@cam/1"), "rtsp://u:***@cam/1");
    assert_eq!(shown("rtsp://u:p@ss@cam:554/a@b"), "rtsp://u:***@cam:554/a@b");
    assert_eq!(shown("http://cam/?a=b:c@d"), "http://cam/?a=b:c@d");
    assert_eq!(shown("udp://@:5000"), "udp://@:5000");
}
