//! Offers of Chromium and what becomes of them.

use super::*;
use crate::rtc::RtcError;
use crate::rtc::sdp::{self, Role};

fn sections(answer: &str) -> Vec<&str> {
    answer.lines().filter(|line| line.starts_with("m=")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_is_answered_as_a_viewer() {
    let (peer, mut events, answer) = rtc().answer_viewer(VIEWER).await.unwrap();
    assert_eq!(
        sections(&answer),
        ["m=video 9 UDP/TLS/RTP/SAVPF 108 109"],
        "constrained baseline, in fragments"
    );
    for line in ["a=sendonly", "a=rtpmap:108 H264/90000", "a=setup:active", "a=mid:0", "a=ssrc-group:FID "] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    assert!(answer.contains("profile-level-id=42e01f") && answer.contains("/playout-delay"), "{answer}");
    assert!(!answer.contains("transport-cc") && !answer.contains("VP8"), "{answer}");
    assert!(answer.contains(" 127.0.0.1 "), "{answer}");
    peer.close().await;
    until(&mut events, |event| (event == PeerEvent::Closed).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_media_is_refused_in_its_place() {
    let (_peer, _events, answer) = rtc().answer_viewer(VIEWER_AUDIO).await.unwrap();
    let sections = sections(&answer);
    assert!(sections[0].starts_with("m=video 9 ") && sections[1].starts_with("m=audio 0 "), "{sections:?}");
    assert!(answer.contains("a=group:BUNDLE 0\r\n") && answer.contains("a=mid:1\r\n"), "{answer}");
    let swapped = VIEWER_AUDIO.replace("m=audio", "m=text");
    assert!(rtc().answer_viewer(&swapped).await.unwrap().2.contains("m=text 0 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_are_answered_with_one_layer() {
    for offer in [PUBLISHER, SIMULCAST] {
        let (_peer, _events, answer) = rtc().answer_publisher(offer).await.unwrap();
        assert!(answer.contains("a=recvonly") && answer.contains("nack pli"), "{answer}");
        assert!(!answer.contains("a=simulcast") && !answer.contains("a=rid"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_address_stands_beside_our_own() {
    let any = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let public = "203.0.113.7".parse().unwrap();
    let rtc =
        Rtc::new(RtcConfig { addresses: any, public_ips: vec![public], ..RtcConfig::default() }).unwrap();
    let (_peer, _events, answer) = rtc.answer_viewer(VIEWER).await.unwrap();
    let hosts = answer.lines().filter(|l| l.contains(" 1 udp ") && l.contains("typ host")).count();
    let public = answer.lines().filter(|l| l.contains(" 1 udp ") && l.contains("203.0.113.7")).count();
    assert!(answer.contains(" 127.0.0.1 "), "a wildcard means loopback too");
    assert_eq!(public, hosts - 1, "one for each but loopback: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_offer_of_h264_is_refused() {
    let no_codec = [VP8_ONLY, AUDIO_ONLY, DATA_ONLY];
    for offer in no_codec {
        let error = rtc().answer_viewer(offer).await.err().unwrap();
        assert!(matches!(error, RtcError::NoCodec(_)), "{error:?}");
    }
    let named = rtc().answer_viewer(VP8_ONLY).await.err().unwrap().to_string();
    assert!(named.contains("VP8/90000"), "{named}");
    let many = format!("{VIEWER}{}", "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n".repeat(101));
    let refused = [
        String::new(),
        "v=0".to_owned(),
        VIEWER.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        VIEWER.replace("a=ice-pwd:", "a=ice-pwd: "),
        VIEWER.replace("a=setup:actpass", "a=setup:holdconn"),
        VIEWER.replace("a=recvonly", "a=sendonly"),
        VIEWER.replace("a=mid:0", ""),
        VIEWER.replace("v=0", "v=0\u{0}"),
        format!("{VIEWER}{}", "a=x\r\n".repeat(20_000)),
        format!("{VIEWER}{}", "a=x\r\n".repeat(3000)),
        many,
    ];
    for offer in refused {
        let error = rtc().answer_viewer(&offer).await.err().unwrap();
        assert!(matches!(error, RtcError::Refused(_)), "{error:?}");
        assert!(error.to_string().len() < 300, "{error}");
    }
    let error = rtc().answer_publisher(VIEWER).await.err().unwrap();
    assert!(error.to_string().contains("sendonly"), "{error}");
}

#[test]
fn few_addresses_of_a_stranger_are_used() {
    let lines: String =
        (0..90).map(|n| format!("a=candidate:1 1 udp 9 10.0.0.{n} 999 typ host generation 0\r\n")).collect();
    let odd = "a=candidate:1 1 udp 9 224.0.0.1 9 typ host\r\na=candidate:1 1 tcp 9 10.1.1.1 9 typ host\r\n\
               a=candidate:1 1 udp 9 0.0.0.0 9 typ host\r\na=candidate:1 2 udp 9 10.1.1.1 9 typ host\r\n";
    let description = sdp::read(&format!("{VIEWER}{odd}{lines}"), Role::Viewer).unwrap();
    assert_eq!(description.candidates.len(), 20);
    assert!(description.canonical().contains("candidate:1 1 udp 9 10.0.0.0 999 typ host\r\n"));
    assert!(!description.canonical().contains("224.0.0.1") && !description.canonical().contains("10.1.1.1"));
}

#[test]
fn a_profile_is_answered_as_it_was_offered() {
    let baseline: String = VIEWER
        .lines()
        .filter(|line| !line.contains("42e01f"))
        .fold(String::new(), |all, line| all + line + "\r\n");
    let description = sdp::read(&baseline, Role::Viewer).unwrap();
    assert!(description.canonical().contains("profile-level-id=42e01f"), "the crate is told ours");
    let answer = description.complete("v=0\r\nm=video 9 x 1\r\na=fmtp:1 profile-level-id=42e01f\r\n");
    assert!(answer.contains("profile-level-id=42001f"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_come_later_are_checked() {
    let (peer, _events, _) = rtc().answer_viewer(VIEWER).await.unwrap();
    let value = |key: &str| VIEWER.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let own = format!("{}\r\n{}\r\n", value("a=ice-ufrag:"), value("a=ice-pwd:"));
    let candidate = "a=candidate:1 1 udp 2113937151 127.0.0.1 9 typ host\r\n";
    peer.add_candidates(&format!("{own}m=video 9 RTP/AVP 0\r\na=mid:0\r\n{candidate}")).await.unwrap();
    peer.add_candidates(&format!("{own}a=end-of-candidates\r\n")).await.unwrap();
    let other = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";
    let error = peer.add_candidates(&format!("{other}{candidate}")).await.unwrap_err();
    assert!(matches!(error, RtcError::OtherCredentials(_)), "{error:?}");
    for fragment in [format!("{own}a=candidate:nonsense\r\n"), String::new()] {
        let error = peer.add_candidates(&fragment).await.unwrap_err();
        assert!(matches!(error, RtcError::Refused(_)), "{error:?}");
    }
}
