//! Figures for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{ApiError, App};
use crate::hub::report::{Report, VideoReport};
use crate::hub::{Channel, Hub};
use crate::peers::{Peers, Traffic};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    method: String,
    status: u16,
}

/// What is counted here; the rest is read when it is asked for.
pub struct Metrics {
    requests: Family<Route, Counter>,
    osc: [Counter<u64, AtomicU64>; 2],
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self { requests: Family::default(), osc: Default::default() }
    }
    /// An OSC packet came; `is_good` when it was understood.
    pub fn osc(&self, is_good: bool) {
        self.osc[usize::from(!is_good)].inc();
    }
}

/// Counts requests by route and status.
pub async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    };
    let method = method.to_string();
    // Only known paths: strangers would fill the memory with theirs.
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_string();
    let response = next.run(request).await;
    app.metrics.requests.get_or_create(&Route { route, method, status: response.status().as_u16() }).inc();
    response
}

/// Reads what streams and peers say when they are asked.
struct Streams {
    hub: Arc<Hub>,
    peers: Peers,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

type Told = Result<(), std::fmt::Error>;
type Labels = Vec<(&'static str, String)>;

fn family<T: EncodeMetric>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &[(Labels, T)],
) -> Told {
    let Some((_, first)) = values.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    values.iter().try_for_each(|(labels, value)| value.encode(family.encode_family(&labels.as_slice())?))
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: Vec<(Labels, u64)>) -> Told {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
    family(encoder, name, help, &values.collect::<Vec<_>>())
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: Vec<(Labels, f64)>) -> Told {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
    family(encoder, name, help, &values.collect::<Vec<_>>())
}

fn of(stream: &str) -> Labels {
    vec![("stream", stream.to_string())]
}

impl Collector for Streams {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Told {
        let encoder = &mut encoder;
        let channels = self.hub.streams();
        let reports: Vec<Report> = channels.iter().map(|channel| channel.report()).collect();
        counter(
            encoder,
            "frames",
            "Frames by what became of them",
            reports.iter().flat_map(fates).collect(),
        )?;
        coded(encoder, &reports)?;
        streams(encoder, &reports)?;
        let latency: Vec<_> = channels.iter().map(|c| (of(c.name()), c.latency_seconds())).collect();
        family(encoder, "latency_seconds", "From capture to result", &latency)?;
        family(
            encoder,
            "stage_seconds",
            "On the device, by stage, of a few frames in a second",
            &stages(&channels),
        )?;
        let encode: Vec<_> = channels.iter().map(|c| (of(c.name()), c.video().encode_seconds())).collect();
        family(encoder, "encode_seconds", "Coding of a picture", &encode)?;
        let [viewers, publishers] = self.peers.count();
        let sessions = [("viewer", viewers), ("publisher", publishers)];
        let sessions = sessions.map(|(role, count)| (vec![("role", role.to_string())], count as f64));
        gauge(encoder, "sessions", "WebRTC peers", sessions.to_vec())?;
        let Traffic { bytes_out, bytes_in, units_lost } = self.peers.traffic();
        let directions = [("out", bytes_out), ("in", bytes_in)];
        let directions = directions.map(|(name, count)| (vec![("direction", name.to_string())], count));
        counter(encoder, "rtc_bytes", "Bytes to viewers and from publishers", directions.to_vec())?;
        let lost = vec![(Vec::new(), units_lost)];
        counter(encoder, "publisher_lost_pictures", "Pictures of publishers lost on the way", lost)?;
        let bytes = self.hub.device().1 as f64;
        gauge(encoder, "device_bytes", "Memory allocated on the device", vec![(Vec::new(), bytes)])
    }
}

/// What the stages of every stream took.
fn stages(channels: &[Arc<Channel>]) -> Vec<(Labels, Histogram)> {
    let of_channel = |channel: &Arc<Channel>| {
        let with = |(stage, histogram)| {
            let mut labels = of(channel.name());
            labels.push(("stage", stage));
            (labels, histogram)
        };
        channel.stage_seconds().into_iter().map(with).collect::<Vec<_>>()
    };
    channels.iter().flat_map(of_channel).collect()
}

/// The frames of a stream by what became of them.
fn fates(report: &Report) -> [(Labels, u64); 6] {
    let f = report.frames;
    let counts = [
        ("received", f.received),
        ("dropped", f.dropped),
        ("skipped", f.skipped),
        ("processed", f.processed),
        ("shown", f.shown),
        ("failed", f.failed),
    ];
    counts.map(|(fate, count)| {
        let mut labels = of(&report.stream);
        labels.push(("fate", fate.to_string()));
        (labels, count)
    })
}

fn coded(encoder: &mut DescriptorEncoder, reports: &[Report]) -> Told {
    let all = |value: fn(&VideoReport) -> u64| {
        reports.iter().map(|r| (of(&r.stream), value(&r.video))).collect::<Vec<_>>()
    };
    counter(encoder, "encoded_frames", "Pictures coded", all(|v| v.frames))?;
    counter(encoder, "key_frames", "Key frames coded", all(|v| v.key_frames))?;
    counter(encoder, "encoded_bytes", "Bytes coded", all(|v| v.bytes))
}

fn streams(encoder: &mut DescriptorEncoder, reports: &[Report]) -> Told {
    let all =
        |value: fn(&Report) -> f64| reports.iter().map(|r| (of(&r.stream), value(r))).collect::<Vec<_>>();
    gauge(encoder, "fps", "Pictures per second of the engine", all(|r| f64::from(r.fps)))?;
    gauge(encoder, "bitrate_bits_per_second", "What is coded", all(|r| r.video.bitrate_bps))?;
    gauge(encoder, "target_bits_per_second", "What is aimed at", all(|r| f64::from(r.video.target_bps)))?;
    gauge(encoder, "encoder_queue", "Pictures that wait for the encoder", all(|r| f64::from(r.video.queue)))?;
    gauge(encoder, "stream_viewers", "Viewers of a stream", all(|r| r.viewers as f64))
}

/// Everything as Prometheus reads it.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String),
    (status = 500, description = "The figures cannot be written", body = super::error::ErrorBody),
))]
pub async fn text(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let mut registry = Registry::with_prefix("dreamglass");
    registry.register("http_requests", "Requests by route, method and status", app.metrics.requests.clone());
    registry.register("osc_packets", "OSC packets that were understood", app.metrics.osc[0].clone());
    registry.register("osc_bad_packets", "OSC packets that were not", app.metrics.osc[1].clone());
    registry.register_collector(Box::new(Streams { hub: Arc::clone(&app.hub), peers: app.peers.clone() }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| {
        ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string())
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
