//! What `dreamglass serve` takes.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{CaptureArgs, EngineArgs, StyleArgs};
use crate::codec::rate::Bounds;

/// Help after the options.
pub const HELP: &str = "\
Examples:
  dreamglass serve
  dreamglass serve --source camera:1 --look neon --size 512x512
  dreamglass serve --bind 0.0.0.0:8080 --token secret
  dreamglass serve --source none --max-streams 4
  dreamglass serve --whip-to https://sfu.example/whip/stage --whip-token T
  dreamglass serve --source synthetic --pass-through --osc 127.0.0.1:9000

Open the printed address in a browser: pick a camera, a screen or the server's own source there,
and change every parameter below while the stream runs. /view is the picture alone, for audiences
and for OBS (browser source). Viewers: WHEP at /whep, or MJPEG at /stream.mjpg. Publishers (OBS,
GStreamer, aiortc): WHIP at /whip/main, or /whip/NAME for a stream of its own with its own
parameters, which `?stream=NAME` shows. Control: /api/openapi.json describes it; /metrics is for
Prometheus.

SOURCE: as for `dreamglass live`, or none to wait for a publisher.

On any other address than loopback everything needs a token: --token, or one that is made and
printed as a link. --view-token lets watch only. Browsers open cameras only on localhost or over
HTTPS: put a reverse proxy with a certificate in front for cameras on other machines. Video goes
over UDP straight to each viewer; behind a NAT, forward --udp-ports and name --public-ip.

Exit codes: 0 the server ended by itself, 1 the run failed, 2 bad arguments or files, 130 ended by
Ctrl-C.";

/// Bits per second that make sense for live video.
const BIT_RATES: RangeInclusive<u32> = 50_000..=50_000_000;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port of pages and API; port 0 takes a free one
    #[arg(short, long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Token that lets do everything [default: none on loopback, else made and printed]
    #[arg(long, value_name = "TOKEN", env = "DREAMGLASS_TOKEN", hide_env_values = true, value_parser = token)]
    pub token: Option<String>,
    /// Token that lets watch [default: made where there is a token]
    #[arg(long, value_name = "TOKEN", env = "DREAMGLASS_VIEW_TOKEN", hide_env_values = true, value_parser = token)]
    pub view_token: Option<String>,
    /// Another name that browsers may call a server without a token by; may be given several times
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Origin of other pages that may use the API, such as https://example.org; several times
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub allow_origin: Vec<String>,
    /// Where pictures go besides viewers: a video, numbered pictures or a video device; several times
    #[arg(short, long, value_name = "OUT")]
    pub output: Vec<String>,
    /// Show the source as it is, without a model
    #[arg(long)]
    pub pass_through: bool,
    /// Publish the result to this WHIP server, too
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub whip_to: Option<String>,
    /// Bearer token of that server
    #[arg(
        long,
        value_name = "TOKEN",
        requires = "whip_to",
        env = "DREAMGLASS_WHIP_TOKEN",
        hide_env_values = true
    )]
    pub whip_token: Option<String>,
    /// Listen for Open Sound Control messages (/dreamglass/strength 0.6) on this UDP address
    #[arg(long, value_name = "ADDR:PORT")]
    pub osc: Option<SocketAddr>,
    /// Configuration [default: live.toml in the user's configuration folder, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub capture: CaptureArgs,
    #[command(flatten)]
    pub video: VideoArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub style: StyleArgs<true>,
}

/// How many are served, and with what.
#[derive(Debug, Args)]
#[command(next_help_heading = "Video")]
pub struct VideoArgs {
    /// Most viewers at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_viewers: u32,
    /// Most streams at once, main among them; they take turns on the device
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub max_streams: u32,
    /// Most frames per second that are coded
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub max_fps: u32,
    /// Fewest bits per second, such as 300k
    #[arg(long, value_name = "RATE", default_value = "250k", value_parser = bit_rate)]
    pub min_bitrate: u32,
    /// Most bits per second, such as 8M; the worst healthy viewer decides below that
    #[arg(long, value_name = "RATE", default_value = "6M", value_parser = bit_rate)]
    pub max_bitrate: u32,
}

impl VideoArgs {
    /// Least and most bits per second.
    pub fn bounds(&self) -> Result<Bounds, String> {
        let Self { min_bitrate: min, max_bitrate: max, .. } = *self;
        if min > max {
            return Err(format!("--min-bitrate: expected at most --max-bitrate ({max}), got {min}"));
        }
        Ok(Bounds { min, max })
    }
}

/// How WebRTC peers are reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// Address of this machine that video goes over; several times [default: all]
    #[arg(long, value_name = "ADDR")]
    pub media_address: Vec<IpAddr>,
    /// UDP ports for video, one for each peer, such as 50000-50100 [default: any]
    #[arg(long, value_name = "A-B", value_parser = ports)]
    pub udp_ports: Option<RangeInclusive<u16>>,
    /// Address that a NAT maps to this machine with the same ports; several times
    #[arg(long, value_name = "ADDR")]
    pub public_ip: Vec<IpAddr>,
    /// STUN or TURN server, such as stun:stun.example.org:3478; several times
    #[arg(long, value_name = "URL")]
    pub ice_server: Vec<String>,
    /// User name at the TURN servers
    #[arg(long, value_name = "NAME", requires = "ice_server", default_value = "", hide_default_value = true)]
    pub ice_username: String,
    /// Credential at the TURN servers
    #[arg(
        long,
        value_name = "SECRET",
        requires = "ice_server",
        env = "DREAMGLASS_ICE_CREDENTIAL",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub ice_credential: String,
    /// PEM file that keeps the certificate of WebRTC between runs; made where it is missing
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
}

/// Tokens go into headers, cookies and links as they are.
fn token(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    if (4..=256).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.into());
    }
    Err("expected 4 to 256 letters, digits, - _ . or ~".into())
}

fn origin(text: &str) -> Result<String, String> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, authority)| {
        matches!(scheme, "http" | "https")
            && !authority.is_empty()
            && !authority.contains(['/', '?', '#', '@'])
    });
    if is_origin {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected scheme and host, such as https://example.org".into())
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let uri = text.parse::<axum::http::Uri>().ok();
    let is_http = uri.is_some_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
    if is_http { Ok(text.into()) } else { Err("expected an http or https URL".into()) }
}

fn bit_rate(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = digits.parse::<f64>().ok().map(|v| (v * unit).round());
    let rate = rate.filter(|v| (f64::from(*BIT_RATES.start())..=f64::from(*BIT_RATES.end())).contains(v));
    rate.map(|v| v as u32)
        .ok_or_else(|| "expected bits per second from 50k to 50M, such as 800k or 2.5M".into())
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|p| *p > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err("expected two ports, the lower first, such as 50000-50100".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn words_are_read_or_refused() {
        assert_eq!(bit_rate("800k").unwrap(), 800_000);
        assert_eq!(bit_rate("2.5M").unwrap(), 2_500_000);
        assert_eq!(ports("5000-5010").unwrap(), 5000..=5010);
        assert_eq!(ports("5000").unwrap(), 5000..=5000);
        assert_eq!(origin("https://A.example:8443").unwrap(), "https://a.example:8443");
        for bad in ["", "k", "1", "NaN", "1e99", "99M", "-1"] {
            assert!(bit_rate(bad).is_err(), "{bad}");
        }
        for bad in ["", "-", "0-5", "9-3", "1-70000"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        for bad in ["", "example.org", "https://", "https://a/b", "file://x", "https://u@h"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        for bad in ["abc", "a b c d", "tököken", "a;b=c"] {
            assert!(token(bad).is_err(), "{bad}");
        }
        assert!(http_url("ftp://x/").is_err());
        assert!(http_url("https://x/whip").is_ok());
    }
}
