//! Parameters by Open Sound Control: `/dreamglass/strength 0.6`, `/dreamglass/stream/NAME/prompt "text"`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dreamglass_engine::params::Value;
use rosc::{OscMessage, OscPacket, OscType};
use tokio::net::UdpSocket;

use super::App;
use crate::hub::MAIN;

/// Longest datagram that is read.
const MAX_PACKET: usize = 64 << 10;

/// Messages of one packet that are heard.
const MAX_MESSAGES: usize = 64;

/// How often bad packets are complained of.
const COMPLAINING: Duration = Duration::from_secs(1);

/// A parameter of a stream and its value.
type Wish = (String, String, Value);

/// Hears packets until the server ends.
pub async fn listen(app: Arc<App>, socket: UdpSocket) {
    let mut buffer = vec![0; MAX_PACKET];
    let mut complained: Option<Instant> = None;
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = app.ended() => return,
        };
        // An unreachable peer of an earlier packet is no reason to stop.
        let Ok((length, from)) = received else { continue };
        let result = hear(&app, &buffer[..length]).await;
        app.metrics.osc(result.is_ok());
        if let Err(reason) = result
            && complained.is_none_or(|at| at.elapsed() > COMPLAINING)
        {
            complained = Some(Instant::now());
            tracing::warn!("OSC from {from}: {reason}");
        }
    }
}

async fn hear(app: &App, packet: &[u8]) -> Result<(), String> {
    let (_, packet) = rosc::decoder::decode_udp(packet).map_err(|error| error.to_string())?;
    let mut messages = Vec::new();
    flatten(packet, &mut messages)?;
    for message in &messages {
        let (stream, name, value) = wish(message)?;
        let channel = app.hub.stream(&stream).ok_or_else(|| format!("there is no stream {stream}"))?;
        match channel.change(vec![(name, value)]).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the stream has just ended".into()),
        }
    }
    Ok(())
}

fn flatten(packet: OscPacket, messages: &mut Vec<OscMessage>) -> Result<(), String> {
    if messages.len() >= MAX_MESSAGES {
        return Err(format!("more than {MAX_MESSAGES} messages in a packet"));
    }
    match packet {
        OscPacket::Message(message) => messages.push(message),
        OscPacket::Bundle(bundle) => {
            bundle.content.into_iter().try_for_each(|packet| flatten(packet, messages))?;
        }
    }
    Ok(())
}

/// What a message asks for.
fn wish(message: &OscMessage) -> Result<Wish, String> {
    let address = message.addr.as_str();
    let expected =
        || format!("{address:.100}: expected /dreamglass/PARAMETER or /dreamglass/stream/NAME/PARAMETER");
    let parts: Vec<&str> = address.split('/').collect();
    let (stream, name) = match parts[..] {
        ["", "dreamglass", name] => (MAIN, name),
        ["", "dreamglass", "stream", stream, name] => (stream, name),
        _ => return Err(expected()),
    };
    let value = match message.args.first() {
        Some(OscType::Float(v)) => number(f64::from(*v)),
        Some(OscType::Double(v)) => number(*v),
        Some(OscType::Int(v)) => u64::try_from(*v).map_or(Value::Number(f64::from(*v)), Value::Whole),
        Some(OscType::Long(v)) => u64::try_from(*v).map_or(Value::Number(*v as f64), Value::Whole),
        Some(OscType::Bool(v)) => Value::Flag(*v),
        Some(OscType::String(v)) => Value::Text(v.clone()),
        other => {
            return Err(format!("{address:.100}: expected a number, a text or a truth value, got {other:?}"));
        }
    };
    Ok((stream.into(), name.into(), for_flags(name, value)))
}

/// f32 as it was meant: 0.1 and not 0.10000000149.
fn number(value: f64) -> Value {
    Value::Number(format!("{:.6}", value).parse().unwrap_or(value))
}

/// Controllers without truth values send 0 and 1.
fn for_flags(name: &str, value: Value) -> Value {
    let is_flag = dreamglass_engine::params::parameter(name)
        .is_some_and(|p| matches!(p.kind, dreamglass_engine::params::Kind::Flag));
    match value {
        Value::Whole(v @ (0 | 1)) if is_flag => Value::Flag(v == 1),
        Value::Number(v) if is_flag && (v == 0.0 || v == 1.0) => Value::Flag(v == 1.0),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn message(addr: &str, arg: OscType) -> OscMessage {
        OscMessage { addr: addr.into(), args: vec![arg] }
    }

    #[test]
    fn addresses_name_streams_and_parameters() {
        let wished = |addr, arg| wish(&message(addr, arg)).unwrap();
        assert_eq!(
            wished("/dreamglass/strength", OscType::Float(0.1)),
            ("main".into(), "strength".into(), Value::Number(0.1))
        );
        assert_eq!(
            wished("/dreamglass/stream/a-b/seed", OscType::Int(7)),
            ("a-b".into(), "seed".into(), Value::Whole(7))
        );
        assert_eq!(wished("/dreamglass/mirror", OscType::Float(1.0)).2, Value::Flag(true));
        assert_eq!(wished("/dreamglass/prompt", OscType::String("ink".into())).2, Value::Text("ink".into()));
        assert!(wish(&message("/other/strength", OscType::Float(0.1))).unwrap_err().contains("/dreamglass/"));
        assert!(wish(&message("/dreamglass/strength", OscType::Nil)).unwrap_err().contains("number"));
        assert!(wish(&OscMessage { addr: String::new(), args: vec![] }).is_err());
    }
}
