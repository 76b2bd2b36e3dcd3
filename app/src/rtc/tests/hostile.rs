//! Offers that somebody broke on purpose.
//!
//! A peer for each would take minutes, so all of them go through our checks and, when accepted, what is written
//! anew goes through the crate's parser; a sample goes all the way to an answer.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use webrtc::peer_connection::RTCSessionDescription;

use super::*;
use crate::rtc::sdp::{self, Role};
use crate::rtc::{RtcError, fragment};

const MUTANTS: usize = 50_000;
const SAMPLE: usize = 300;

fn mutant(chance: &mut Chance) -> String {
    let offers = [VIEWER, VIEWER_AUDIO, PUBLISHER, SIMULCAST, VP8_ONLY, AUDIO_ONLY, DATA_ONLY];
    let mut bytes = offers[chance.below(offers.len())].as_bytes().to_vec();
    for _ in 0..=chance.below(4) {
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (one, other) = (chance.below(lines.len()), chance.below(lines.len()));
        match chance.below(8) {
            0 => lines.truncate(one),
            1 => lines.insert(other, lines[one].clone()),
            2 => lines.swap(one, other),
            3 => drop(lines.remove(one)),
            4 => replace_numbers(&mut lines[one], chance),
            5 => lines[one].truncate(chance.below(80)),
            6 => scribble(&mut lines[one], chance),
            _ => lines[one] = lines[one].repeat(chance.below(40)),
        }
        bytes = lines.join(&b'\n');
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn replace_numbers(line: &mut Vec<u8>, chance: &mut Chance) {
    let numbers = ["0", "-1", "65536", "4294967296", "99999999999999999999", "127", "255", "", "1e9", "०"];
    let Some(at) = line.iter().position(u8::is_ascii_digit) else { return };
    let len = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    line.splice(at..at + len, numbers[chance.below(numbers.len())].bytes());
}

fn scribble(line: &mut [u8], chance: &mut Chance) {
    for _ in 0..chance.below(6) {
        if !line.is_empty() {
            let at = chance.below(line.len());
            line[at] = chance.next() as u8;
        }
    }
}

#[test]
fn broken_offers_are_refused_or_understood() {
    let mut chance = Chance(0xbad);
    let (started, mut accepted) = (Instant::now(), 0);
    for number in 0..MUTANTS {
        let offer = mutant(&mut chance);
        for role in [Role::Viewer, Role::Publisher] {
            let Ok(description) = sdp::read(&offer, role) else { continue };
            accepted += 1;
            let canonical = description.canonical();
            assert!(canonical.len() < 8192, "mutant {number}");
            RTCSessionDescription::offer(canonical)
                .unwrap_or_else(|error| panic!("mutant {number}: {error}"));
            description.complete("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 1\r\n");
        }
        let _ = fragment::read(&offer);
    }
    assert!((5000..MUTANTS).contains(&accepted), "{accepted} of {MUTANTS} were understood");
    assert!(started.elapsed() < std::time::Duration::from_secs(40), "{:?}", started.elapsed());
}

/// A loopback address that no other test and no other run of this one uses.
fn own_address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 99, high, low.clamp(1, 254))
}

/// UDP sockets on an address of ours. Linux tells.
fn sockets(address: Ipv4Addr) -> usize {
    let local = format!(" {:08X}:", u32::from_le_bytes(address.octets()));
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default();
    table.lines().filter(|line| line.contains(&local)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_offers_leave_nothing_behind() {
    let address = own_address();
    let rtc = Rtc::new(RtcConfig { addresses: vec![address.into()], ..local() }).unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let (one, _events, _) = rtc.answer_viewer(VIEWER).await.unwrap();
    assert!(sockets(address) == 1 || cfg!(not(target_os = "linux")), "the count means something");
    one.close().await;
    drop(one);
    let mut chance = Chance(0xdead);
    let at_once = Arc::new(Semaphore::new(16));
    let mut answers = Vec::new();
    for _ in 0..SAMPLE {
        let (rtc, permit, offer) =
            (rtc.clone(), Arc::clone(&at_once).acquire_owned().await, mutant(&mut chance));
        answers.push(tokio::spawn(async move {
            let viewer = rtc.answer_viewer(&offer).await;
            let publisher = rtc.answer_publisher(&offer).await;
            drop(permit);
            let mut answered = 0;
            for made in [viewer, publisher] {
                match made {
                    Ok(_) => answered += 1,
                    Err(RtcError::Refused(_) | RtcError::NoCodec(_)) => {}
                    Err(other) => panic!("{other:?} for {offer}"),
                }
            }
            answered
        }));
    }
    let mut answered = 0;
    for answer in answers {
        answered += answer.await.unwrap();
    }
    assert!(answered > 20, "{answered} were answered");
    let started = Instant::now();
    while (sockets(address) > 0 || metrics.num_alive_tasks() > tasks) && started.elapsed() < PATIENCE {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!((sockets(address), metrics.num_alive_tasks()), (0, tasks));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let rtc = Rtc::new(local()).unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    for wait_us in [0, 100, 500, 1000, 2000, 4000] {
        let answer = rtc.answer_viewer(VIEWER);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(wait_us), answer).await;
    }
    let started = Instant::now();
    while metrics.num_alive_tasks() > tasks && started.elapsed() < PATIENCE {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(metrics.num_alive_tasks(), tasks);
}
