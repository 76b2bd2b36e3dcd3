//! Two peers of ours, from the offer to the end.

use std::time::{Duration, Instant};

use super::*;
use crate::rtc::{Peer, PeerState, RtcError};

/// A publisher and whoever takes its picture, connected.
pub(super) async fn pair() -> ((Peer, PeerEvents), (Peer, PeerEvents)) {
    let rtc = rtc();
    let (sender, mut sender_events, offer) = rtc.offer_publisher().await.unwrap();
    let (receiver, mut receiver_events, answer) = rtc.answer_publisher(&offer).await.unwrap();
    sender.accept_answer(&answer).await.unwrap();
    connected(&mut sender_events).await;
    connected(&mut receiver_events).await;
    ((sender, sender_events), (receiver, receiver_events))
}

/// The queue is short and a loaded machine slow, so a full one is tried again.
pub(super) async fn send(peer: &Peer, unit: &AccessUnit) {
    let started = Instant::now();
    while !peer.send(unit) {
        assert!(started.elapsed() < PATIENCE, "the queue stays full");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_arrive_byte_for_byte_and_in_order() {
    let ((sender, mut sender_events), (receiver, mut receiver_events)) = pair().await;
    let sizes = [1, 2, 3, 1179, 1180, 1181, 2359, 2360, 5000, 20_011, 77];
    let size = |n: u32| if n.is_multiple_of(30) { 200 << 10 } else { sizes[n as usize % sizes.len()] };
    let units: Vec<AccessUnit> = (0..90).map(|n| unit(n, size(n), n.is_multiple_of(30))).collect();
    let sent = units.clone();
    let sending = tokio::spawn(async move {
        for unit in &sent {
            send(&sender, unit).await;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        sender
    });
    for expected in &units {
        let unit = until(&mut receiver_events, |event| match event {
            PeerEvent::Unit(unit) => Some(unit),
            PeerEvent::UnitsLost => panic!("units were lost on loopback"),
            _ => None,
        });
        assert!(unit.await == *expected, "unit of time {} differs", expected.rtp_time);
    }
    let sender = sending.await.unwrap();
    receiver.want_key_frame();
    until(&mut sender_events, |event| (event == PeerEvent::KeyFrameWanted).then_some(())).await;
    let (out, into) = (sender.stats(), receiver.stats());
    assert_eq!((into.units_in, into.units_lost), (90, 0));
    assert!(out.bytes_out > 600_000 && into.bytes_in > 600_000, "{out:?} {into:?}");
    closing(sender, sender_events, receiver, receiver_events).await;
}

async fn closing(
    sender: Peer,
    mut sender_events: PeerEvents,
    receiver: Peer,
    mut receiver_events: PeerEvents,
) {
    let started = Instant::now();
    sender.close().await;
    until(&mut sender_events, |event| (event == PeerEvent::Closed).then_some(())).await;
    assert_eq!(sender.stats().state, PeerState::Closed);
    assert!(!sender.send(&unit(0, 10, true)));
    until(&mut receiver_events, |event| (event == PeerEvent::Disconnected).then_some(())).await;
    assert!(started.elapsed() < Duration::from_secs(12), "noticed after {:?}", started.elapsed());
    drop(receiver);
    until(&mut receiver_events, |event| (event == PeerEvent::Closed).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_peer_is_noticed() {
    let rtc = rtc();
    let (sender, mut sender_events, offer) = rtc.offer_publisher().await.unwrap();
    let (receiver, mut events, answer) = rtc.answer_publisher(&offer).await.unwrap();
    sender.accept_answer(&answer).await.unwrap();
    connected(&mut events).await;
    connected(&mut sender_events).await;
    // The transport goes without a word, as after a panic in the crate's driver.
    sender.vanish().await;
    let started = Instant::now();
    until(&mut events, |event| (event == PeerEvent::Disconnected).then_some(())).await;
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(!receiver.is_connected());
    let why = until(&mut events, |event| match event {
        PeerEvent::Failed(why) => Some(why),
        _ => None,
    });
    assert!(why.await.contains("lost"), "says that it was lost");
    let why = until(&mut sender_events, |event| match event {
        PeerEvent::Failed(why) => Some(why),
        _ => None,
    });
    assert!(why.await.contains("stopped working"), "says whose fault it is");
    until(&mut events, |event| (event == PeerEvent::Closed).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_there_is_a_connection() {
    let rtc = rtc();
    let (viewer, _events, answer) = rtc.answer_viewer(VIEWER).await.unwrap();
    assert!(!viewer.is_connected() && !viewer.send(&unit(0, 10, true)));
    assert!(answer.contains("a=candidate:"), "{answer}");
    let (publisher, _events, _) = rtc.offer_publisher().await.unwrap();
    assert!(!publisher.send(&unit(0, 10, true)));
    let error = publisher.accept_answer("v=1").await.unwrap_err();
    assert!(matches!(error, RtcError::Refused(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_changes_the_credentials() {
    let ((sender, _sender_events), (receiver, mut events)) = pair().await;
    send(&sender, &unit(0, 3000, true)).await;
    until(&mut events, |event| matches!(event, PeerEvent::Unit(_)).then_some(())).await;
    let same = receiver.restart("a=ice-ufrag:x\r\na=ice-pwd:y\r\n").await.unwrap_err();
    assert!(matches!(same, RtcError::Refused(_)));
    let fresh = "a=ice-ufrag:abcdEFGH\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=end-of-candidates\r\n";
    let ours = receiver.restart(fresh).await.unwrap();
    for part in ["a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=mid:"] {
        assert!(ours.contains(part), "{part} in {ours}");
    }
    assert!(receiver.add_candidates(fresh).await.is_ok(), "the new credentials hold");
    assert!(matches!(sender.restart(fresh).await, Err(RtcError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_comes_is_given_up() {
    // Discard's port, where nobody answers.
    let offer = format!("{VIEWER}a=candidate:1 1 udp 2113937151 127.0.0.1 9 typ host\r\n");
    let (_peer, mut events, answer) = rtc().answer_viewer(&offer).await.unwrap();
    let waiting = async {
        loop {
            match events.recv().await {
                Some(PeerEvent::Failed(why)) => return why,
                Some(PeerEvent::Disconnected | PeerEvent::Connected) => panic!("nobody was there"),
                Some(_) => {}
                None => panic!("the events ended"),
            }
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(45), waiting).await.unwrap();
    let ours = answer.lines().find(|line| line.starts_with("a=candidate:")).unwrap();
    let port = ours.split(' ').nth(5).unwrap();
    for part in ["no candidate pair worked", &format!("127.0.0.1:{port}"), "127.0.0.1:9"] {
        assert!(why.contains(part), "{part} in {why}");
    }
    until(&mut events, |event| (event == PeerEvent::Closed).then_some(())).await;
}
