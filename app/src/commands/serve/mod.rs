//! `dreamglass serve`: the stream in browsers, and theirs in the stream.

mod args;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

pub use self::args::{HELP, ServeArgs};
use super::capture::{self, Capture};
use crate::codec::video_out;
use crate::config::{self, Style};
use crate::failure::{INTERRUPTED, bad_input};
use crate::hub::{self, Hub, MAIN};
use crate::live::Host;
use crate::peers::Peers;
use crate::peers::broadcaster::{self, Target};
use crate::preset::{Configuration, Shelf};
use crate::rtc::{IceServer, Rtc, RtcConfig};
use crate::source::remote::remote;
use crate::web::{self, Access, App, Tokens};
use crate::{interrupt, model};

/// How often Ctrl-C and the end of the stream are looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a stream outlives its publisher: long enough to come back after a bad line.
const LINGER: Duration = Duration::from_secs(20);

/// What viewers are told at the end.
const GOODBYE: &str = "the server ends";

/// Runs the server.
pub fn run(mut arguments: ServeArgs) -> Result<ExitCode> {
    let configuration = Configuration::open(arguments.config.as_deref())?;
    arguments.engine.place.complete(&configuration).map_err(bad_input)?;
    arguments.video.bounds().map_err(bad_input)?;
    let runtime = Runtime::new().context("cannot start threads")?;
    // What is quick to fail comes first.
    let rtc = Rtc::new(rtc_config(&arguments)).map_err(|error| bad_input(format!("{error:#}")))?;
    let presets = Shelf::own()?;
    let listener = runtime.block_on(listen(arguments.bind))?;
    let osc = arguments.osc.map(|address| runtime.block_on(listen_to_osc(address))).transpose()?;
    let interrupted = interrupt::watch()?;
    let hub = Arc::new(start(&arguments, &configuration)?);

    let tokens = tokens(&arguments)?;
    let viewers = Arc::new(Semaphore::new(arguments.video.max_viewers as usize));
    let peers =
        Peers::new(rtc.clone(), Arc::clone(&hub), Arc::clone(&viewers), arguments.video.max_viewers as usize);
    let hosts = arguments.allow_host.iter().map(|host| host.to_ascii_lowercase()).collect();
    let app = App::new(web::Setup {
        hub: Arc::clone(&hub),
        peers: peers.clone(),
        access: Access::new(tokens.clone(), hosts, arguments.allow_origin.clone()),
        viewers,
        presets,
        ice_servers: ice_servers(&arguments),
    });
    tell_links(&arguments, listener.local_addr()?, tokens.as_ref());
    let server = Server { app, hub, peers, rtc, interrupted, target: target(&arguments) };
    let result = runtime.block_on(server.run(listener, osc));
    // Whatever hangs must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let cannot = || format!("cannot listen on {address}: is it free, and an address of this machine?");
    TcpListener::bind(address).await.with_context(cannot)
}

async fn listen_to_osc(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await;
    socket.with_context(|| format!("cannot listen for OSC on {address}"))
}

fn start(arguments: &ServeArgs, configuration: &Configuration) -> Result<Hub> {
    let files = model::files(arguments.engine.place.model())?;
    let Style { looks, params } = Style::new(&arguments.style, configuration, &files)?;
    let sinks = capture::sinks(&arguments.output, configuration)?;
    let source = source(arguments, configuration)?;
    let gpu = config::open_gpu(&arguments.engine.place.adapter())?;
    let options = config::options(&arguments.engine)?;
    let adapter = arguments.engine.place.adapter();
    let setup = hub::Setup {
        host: Host::new(gpu, Box::new(move || config::open_gpu(&adapter)), files, options),
        looks: Arc::new(looks),
        params,
        passes_through: arguments.pass_through,
        source,
        max_streams: arguments.video.max_streams as usize,
        linger: LINGER,
        video: video_out::Setup {
            bounds: arguments.video.bounds().map_err(bad_input)?,
            max_fps: arguments.video.max_fps as f32,
        },
    };
    let hub = Hub::start(setup, sinks)?;
    if let Some(main) = hub.stream(MAIN) {
        eprintln!("source: {}", main.phase().1);
    }
    Ok(hub)
}

/// Opens the server's own source, now and after each publisher to [`MAIN`].
fn source(arguments: &ServeArgs, configuration: &Configuration) -> Result<hub::SourceOpener> {
    if arguments.capture.said(configuration) == Some("none") {
        return Ok(Arc::new(|| Ok(Box::new(remote("waiting for a publisher").0))));
    }
    let capture = Capture::choose(&arguments.capture, configuration, true)?;
    Ok(Arc::new(move || capture.open()))
}

fn rtc_config(arguments: &ServeArgs) -> RtcConfig {
    let network = &arguments.network;
    // Video is for peers alone that were let in over HTTP, wherever that listens.
    let all = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    let addresses =
        if network.media_address.is_empty() { all.to_vec() } else { network.media_address.clone() };
    RtcConfig {
        addresses,
        ports: network.udp_ports.clone(),
        public_ips: network.public_ip.clone(),
        ice_servers: ice_servers(arguments),
        certificate: network.certificate.clone(),
    }
}

fn ice_servers(arguments: &ServeArgs) -> Vec<IceServer> {
    let network = &arguments.network;
    let server = |url: &String| IceServer {
        urls: vec![url.clone()],
        username: network.ice_username.clone(),
        credential: network.ice_credential.clone(),
    };
    network.ice_server.iter().map(server).collect()
}

fn target(arguments: &ServeArgs) -> Option<Target> {
    let url = arguments.whip_to.clone()?;
    Some(Target { url, token: arguments.whip_token.clone() })
}

/// None on loopback without `--token`.
fn tokens(arguments: &ServeArgs) -> Result<Option<Tokens>> {
    let is_open = arguments.bind.ip().is_loopback() && arguments.token.is_none();
    if is_open {
        return match &arguments.view_token {
            Some(_) => Err(bad_input("--view-token: expected --token beside it")),
            None => Ok(None),
        };
    }
    let control = arguments.token.clone().map_or_else(new_token, Ok)?;
    let view = arguments.view_token.clone().map_or_else(new_token, Ok)?;
    if control == view {
        return Err(bad_input("--view-token: expected another one than --token"));
    }
    Ok(Some(Tokens { control, view }))
}

/// 128 random bits.
fn new_token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow!("the system has no randomness for a token: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Says where the page is; a token that was not given is in the link.
fn tell_links(arguments: &ServeArgs, address: SocketAddr, tokens: Option<&Tokens>) {
    for address in addresses(address) {
        match tokens {
            Some(tokens) if arguments.token.is_none() => {
                eprintln!("page: http://{address}/?token={}", tokens.control);
            }
            _ => eprintln!("page: http://{address}/"),
        }
        match tokens {
            Some(tokens) if arguments.view_token.is_none() => {
                eprintln!("viewers: http://{address}/view?token={}", tokens.view);
            }
            _ => eprintln!("viewers: http://{address}/view"),
        }
    }
    eprintln!("listening on http://{address}/");
}

/// Where a server that listens on `address` is reached.
fn addresses(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
    });
    ips.map(|ip| SocketAddr::new(ip, address.port())).collect()
}

/// Everything that runs until the end.
struct Server {
    app: Arc<App>,
    hub: Arc<Hub>,
    peers: Peers,
    rtc: Rtc,
    interrupted: Arc<AtomicBool>,
    target: Option<Target>,
}

impl Server {
    async fn run(self, listener: TcpListener, osc: Option<UdpSocket>) -> Result<ExitCode> {
        let end = watch::Sender::new(false);
        let osc = osc.map(|socket| tokio::spawn(web::osc::listen(Arc::clone(&self.app), socket)));
        let broadcaster = self.target.clone().zip(self.hub.stream(MAIN)).map(|(target, main)| {
            tokio::spawn(broadcaster::run(self.rtc.clone(), main, target, end.subscribe()))
        });
        let ends = self.until_end(&end);
        web::serve(listener, web::router(&self.app), ends).await;
        self.peers.shut_down(web::PATIENCE).await;
        for task in [osc, broadcaster].into_iter().flatten() {
            let _ = tokio::time::timeout(web::PATIENCE, task).await;
        }
        let hub = Arc::clone(&self.hub);
        let summaries = tokio::task::spawn_blocking(move || hub.shut_down(GOODBYE)).await?;
        let is_cut = self.interrupted.load(Ordering::SeqCst);
        for (name, summary) in summaries {
            match summary {
                Ok(summary) => {
                    summary.written.iter().for_each(|written| eprintln!("{written}"));
                    eprintln!("{name}: {}", summary.statistics);
                }
                Err(error) => eprintln!("{name}: {error:#}"),
            }
        }
        if is_cut {
            Ok(ExitCode::from(INTERRUPTED))
        } else {
            Err(anyhow!("the main stream ended, see above"))
        }
    }
    /// Resolves at Ctrl-C or when the main stream is over, with everybody told.
    async fn until_end(&self, end: &watch::Sender<bool>) {
        let main = self.hub.stream(MAIN);
        while !self.interrupted.load(Ordering::SeqCst) && !main.as_ref().is_some_and(|main| main.has_ended())
        {
            tokio::time::sleep(GLANCE).await;
        }
        eprintln!("closing");
        self.app.end();
        end.send_replace(true);
    }
}
