//! Ports and the certificate.

use std::fs;
use std::time::Duration;

use super::*;
use crate::rtc::RtcError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_ports_serves_as_many_peers() {
    // Below the ports that the system hands out itself.
    let first = 20_000 + (std::process::id() % 3000) as u16 * 4;
    let ports = first..=first + 2;
    let rtc = Rtc::new(RtcConfig { ports: Some(ports.clone()), ..local() }).unwrap();
    let mut peers = Vec::new();
    for _ in ports.clone() {
        let (peer, events, answer) = rtc.answer_viewer(VIEWER).await.unwrap();
        let is_in_range = ports.clone().any(|port| answer.contains(&format!(" 127.0.0.1 {port} typ host")));
        assert!(is_in_range, "{answer}");
        peers.push((peer, events));
    }
    let error = rtc.answer_viewer(VIEWER).await.err().unwrap();
    assert!(matches!(&error, RtcError::Busy(why) if why.contains(&first.to_string())), "{error:?}");
    peers.remove(1).0.close().await;
    let (peer, _events, _) = rtc.answer_viewer(VIEWER).await.unwrap();
    assert!(matches!(rtc.answer_viewer(VIEWER).await, Err(RtcError::Busy(_))));
    drop((peer, peers));
    let started = std::time::Instant::now();
    while matches!(rtc.offer_publisher().await, Err(RtcError::Busy(_))) {
        assert!(started.elapsed() < PATIENCE, "dropped peers keep their ports");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_another_program_is_passed_over() {
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let rtc = Rtc::new(RtcConfig { ports: Some(port..=port), ..local() }).unwrap();
    assert!(matches!(rtc.answer_viewer(VIEWER).await, Err(RtcError::Busy(_))));
    drop(other);
    assert!(rtc.answer_viewer(VIEWER).await.is_ok());
}

fn fingerprint(rtc: &Rtc) -> String {
    let provider = webrtc::peer_connection::crypto::default_provider().unwrap();
    rtc.certificate().get_fingerprints(provider.crypto()).unwrap()[0].value.clone()
}

#[tokio::test]
async fn the_certificate_stays_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dtls.pem");
    let config = RtcConfig { certificate: Some(path.clone()), ..local() };
    let first = fingerprint(&Rtc::new(config.clone()).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fingerprint(&Rtc::new(config.clone()).unwrap()), first);
    assert_ne!(fingerprint(&rtc()), first, "without a file it is a new one");
    let kept = fs::read_to_string(&path).unwrap();
    let short = "-----BEGIN EXPIRES-----\nAAA=\n-----END EXPIRES-----\n\n";
    for broken in ["", "no certificate", &kept[..40], &kept[..kept.len() / 2], short] {
        fs::write(&path, broken).unwrap();
        let error = format!("{:#}", Rtc::new(config.clone()).err().unwrap());
        assert!(error.contains("dtls.pem"), "{error}");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            broken,
            "a file that we do not understand is left alone"
        );
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_named() {
    let wrong = |config: RtcConfig| format!("{:#}", Rtc::new(config).err().unwrap());
    assert!(wrong(RtcConfig { addresses: vec![], ..local() }).contains("address"));
    assert!(
        wrong(RtcConfig { addresses: vec!["203.0.113.9".parse().unwrap()], ..local() })
            .contains("203.0.113.9")
    );
    assert!(wrong(RtcConfig { ports: Some(0..=5), ..local() }).contains("0-5"));
    let server = crate::rtc::IceServer { urls: vec!["http://x".to_owned()], ..Default::default() };
    assert!(wrong(RtcConfig { ice_servers: vec![server], ..local() }).contains("http://x"));
}
