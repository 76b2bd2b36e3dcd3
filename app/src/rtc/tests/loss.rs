//! A line that loses and disorders packets: a relay between two peers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::*;

/// The port in the first candidate line.
fn port(description: &str) -> u16 {
    let line = description.lines().find(|line| line.starts_with("a=candidate:")).unwrap();
    line.split(' ').nth(5).unwrap().parse().unwrap()
}

fn through(description: &str, relay: u16) -> String {
    let own = format!(" 127.0.0.1 {} typ", port(description));
    description.replace(&own, &format!(" 127.0.0.1 {relay} typ"))
}

/// Hands on what comes to `from`, out of `by`. While `is_bad`, 5 in 100 packets are lost and 5 are late.
async fn relay(from: Arc<UdpSocket>, by: Arc<UdpSocket>, to: SocketAddr, is_bad: Arc<AtomicBool>, seed: u64) {
    let mut chance = Chance(seed);
    let mut buffer = [0; 2048];
    while let Ok((len, _)) = from.recv_from(&mut buffer).await {
        let (packet, by) = (buffer[..len].to_vec(), Arc::clone(&by));
        let is_bad = is_bad.load(Relaxed);
        if is_bad && chance.happens(5) {
            continue;
        }
        if is_bad && chance.happens(5) {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(8)).await;
                let _ = by.send_to(&packet, to).await;
            });
        } else {
            let _ = by.send_to(&packet, to).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_is_repaired() {
    let rtc = rtc();
    let (sender, mut sender_events, offer) = rtc.offer_publisher().await.unwrap();
    let at_sender = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let at_receiver = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let relayed = through(&offer, at_receiver.local_addr().unwrap().port());
    let (receiver, mut events, answer) = rtc.answer_publisher(&relayed).await.unwrap();
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let is_bad = Arc::new(AtomicBool::new(false));
    let out = relay(at_sender.clone(), at_receiver.clone(), local(port(&answer)), is_bad.clone(), 0x10);
    let back = relay(at_receiver, at_sender.clone(), local(port(&offer)), is_bad.clone(), 0x20);
    let relays = [tokio::spawn(out), tokio::spawn(back)];
    sender.accept_answer(&through(&answer, at_sender.local_addr().unwrap().port())).await.unwrap();
    connected(&mut sender_events).await;
    connected(&mut events).await;

    is_bad.store(true, Relaxed);
    let mut sent = HashMap::new();
    let mut got: Vec<AccessUnit> = Vec::new();
    let (mut is_key_due, mut is_lost, mut losses, started) = (true, false, 0, Instant::now());
    let mut number = 0;
    // The line is good again for the last second, and the last unit has to come.
    while number < 240
        || got.last().is_none_or(|unit| unit.rtp_time != super::unit(number - 1, 1, false).rtp_time)
    {
        assert!(started.elapsed() < PATIENCE, "the stream does not recover");
        is_bad.store(number < 180, Relaxed);
        while let Ok(event) = sender_events.try_recv() {
            is_key_due |= event == PeerEvent::KeyFrameWanted;
        }
        let next = super::unit(number, if is_key_due { 30_000 } else { 4000 }, is_key_due);
        if sender.send(&next) {
            is_key_due = false;
            sent.insert(next.rtp_time, next);
            number += 1;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
        while let Ok(event) = events.try_recv() {
            match event {
                PeerEvent::UnitsLost => (is_lost, losses) = (true, losses + 1),
                PeerEvent::Unit(unit) => {
                    assert!(!is_lost || unit.is_key, "after a loss comes a key frame");
                    assert!(sent[&unit.rtp_time] == unit, "what arrives is what was sent");
                    is_lost = false;
                    got.push(unit);
                }
                _ => {}
            }
        }
    }
    let in_order = got.windows(2).all(|pair| pair[1].rtp_time.wrapping_sub(pair[0].rtp_time) < 1 << 31);
    assert!(in_order);
    let share = got.len() as f64 / f64::from(number);
    assert!(share > 0.8, "{} of {number} units, {losses} losses, {:?}", got.len(), receiver.stats());
    relays.iter().for_each(tokio::task::JoinHandle::abort);
}
