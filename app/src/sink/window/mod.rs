//! The window: the device's picture, presented without read-back on GPUs, and a panel.

mod keys;
mod layout;
mod panel;
mod renderer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use dreamglass_engine::{LoraFile, Picture, Size};
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, KeyEvent, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::window::{Fullscreen, Window, WindowId};

use self::keys::Command;
pub use self::layout::SourceView;
use self::layout::places;
use self::panel::{Action, Glimpse, Panel};
pub use self::renderer::Presenting;
use self::renderer::{Painted, Renderer, Scene};
use super::picture::PictureFile;
use super::spec::SinkSpec;
use crate::live::{OnDevice, Presented, Session, Summary};
use crate::preset::{self, Preset};

/// Size of the window when it opens, in points.
const SIZE: LogicalSize<u32> = LogicalSize::new(1080, 720);

/// Width of the panel in points.
const PANEL: f32 = 300.0;

/// Shortest time between two drawings of an animation.
const SHORTEST: Duration = Duration::from_millis(33);

/// Delays from here on are not waited for: the panel has nothing to draw.
const NEVER: Duration = Duration::from_secs(3600);

/// Frames per second of a recording.
const RECORDED_FPS: u32 = 30;

/// The system's events; made before anything else, because without a display there is no window.
pub struct Display {
    events: EventLoop<()>,
}

impl Display {
    /// Connects to the display.
    pub fn open() -> Result<Self> {
        let events = EventLoop::with_user_event().build();
        let events = events.map_err(|e| {
            anyhow!("there is no display for a window: {e}; use --no-window and --output, or set DISPLAY")
        })?;
        Ok(Self { events })
    }
    /// Something that makes the window look at its stream.
    pub fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let proxy: EventLoopProxy<()> = self.events.create_proxy();
        Arc::new(move || {
            // A window that is closed need not look.
            let _ = proxy.send_event(());
        })
    }
    /// Shows `session` until the window or the stream ends.
    pub fn run(self, session: Session, appearance: Appearance) -> Result<Summary> {
        let mut shell = Shell {
            panel: Panel::new(appearance.looks.clone(), appearance.loras.clone()),
            session: Some(session),
            appearance,
            context: egui::Context::default(),
            redraw_at: None,
            open: None,
            held: None,
            error: None,
        };
        self.events.run_app(&mut shell).context("the window's events ended")?;
        // The device's surfaces go before the device.
        shell.open = None;
        shell.held = None;
        let summary = shell.session.take().map(|session| {
            session.stopper()();
            session.join()
        });
        match (shell.error, summary) {
            (Some(error), _) => Err(error),
            (None, Some(summary)) => summary,
            (None, None) => Ok(Summary::default()),
        }
    }
}

/// How a window opens.
#[derive(Debug, Clone, Default)]
pub struct Appearance {
    /// Names and prompts of the model's looks.
    pub looks: Vec<(String, String)>,
    /// LoRAs that the model is loaded with.
    pub loras: Vec<LoraFile>,
    /// Whether it fills the screen.
    pub is_full_screen: bool,
    /// Whether the panel is shown.
    pub has_panel: bool,
    /// Where the source is shown.
    pub source_view: SourceView,
    /// How pictures reach it.
    pub presenting: Presenting,
    /// Hears which pictures are presented.
    pub presented: Arc<Presented>,
}

/// An open window.
struct Open {
    window: Arc<Window>,
    input: egui_winit::State,
    renderer: Renderer,
}

struct Shell {
    session: Option<Session>,
    appearance: Appearance,
    panel: Panel,
    context: egui::Context,
    open: Option<Open>,
    /// When the panel wants to be drawn again, for an animation or a blinking cursor.
    redraw_at: Option<Instant>,
    /// The picture that stays, while it is held.
    held: Option<OnDevice>,
    error: Option<anyhow::Error>,
}

impl Shell {
    fn create(&mut self, events: &ActiveEventLoop) -> Result<()> {
        let session = self.session.as_ref().context("the stream is over")?;
        let attributes = Window::default_attributes().with_title("Dreamglass").with_inner_size(SIZE);
        let full = self.appearance.is_full_screen.then_some(Fullscreen::Borderless(None));
        let window =
            events.create_window(attributes.with_fullscreen(full)).context("cannot open a window")?;
        let window = Arc::new(window);
        let gpu = session.view().gpu.clone();
        let renderer = Renderer::new(gpu, Arc::clone(&window), self.appearance.presenting)?;
        let scale = Some(window.scale_factor() as f32);
        let id = egui::ViewportId::ROOT;
        let input = egui_winit::State::new(self.context.clone(), id, &window, scale, window.theme(), None);
        self.panel.is_shown = self.appearance.has_panel;
        self.panel.source_view = self.appearance.source_view;
        window.request_redraw();
        self.open = Some(Open { window, input, renderer });
        Ok(())
    }
    fn redraw(&mut self) -> Result<Vec<Action>> {
        let (Some(open), Some(session)) = (&mut self.open, &self.session) else { return Ok(Vec::new()) };
        let mut view = session.view();
        view.wants_source = self.panel.source_view != SourceView::Hidden;
        let (gpu, picture, source) = (view.gpu.clone(), view.picture.clone(), view.source.clone());
        let glimpse = Glimpse::of(&view);
        drop(view);
        if !open.renderer.is_on(&gpu) {
            self.held = None;
            open.renderer = Renderer::new(gpu, Arc::clone(&open.window), self.appearance.presenting)?;
        }
        let picture = self.held.clone().or(picture);
        let mut actions = Vec::new();
        let input = open.input.take_egui_input(&open.window);
        let mut area = egui::Rect::ZERO;
        let panel = &mut self.panel;
        let output = self.context.run_ui(input, |ui| {
            if panel.is_shown {
                let side = egui::Panel::right("panel").default_size(PANEL);
                side.show(ui, |ui| actions = panel.show(ui, &glimpse));
            }
            area = ui.available_rect_before_wrap();
        });
        open.input.handle_platform_output(&open.window, output.platform_output);
        let again = output.viewport_output.get(&egui::ViewportId::ROOT).map(|v| v.repaint_delay);
        let again = again.filter(|delay| *delay < NEVER).map(|delay| delay.max(SHORTEST));
        self.redraw_at = again.map(|delay| Instant::now() + delay);
        let scale = output.pixels_per_point;
        let jobs = self.context.tessellate(output.shapes, scale);
        let painted = Painted { jobs, textures: output.textures_delta, scale };
        let area = [area.left(), area.top(), area.width(), area.height()].map(|v| v * scale);
        let size = picture.as_ref().map_or(Size::new(1, 1), |p| p.size);
        let source_size = source.as_ref().map_or(Size::new(1, 1), |s| s.size());
        let (at, source_at) = places(area, self.panel.source_view, size, source_size);
        let result = picture.as_ref().map(|p| (p, at));
        let source = source.as_ref().zip(source_at);
        open.renderer.draw(Scene { result, source, panel: painted })?;
        if let Some(picture) = &picture {
            self.appearance.presented.tell(picture.number);
        }
        Ok(actions)
    }
    fn act(&mut self, action: Action, events: &ActiveEventLoop) {
        let result = match action {
            Action::Set(params) => {
                self.panel.sent(&params);
                if let Some(session) = &self.session {
                    session.set(*params);
                }
                Ok(())
            }
            Action::SavePreset(name) => self.save_preset(&name),
            Action::LoadPreset(name) => self.load_preset(&name),
            Action::ToggleRecording => self.toggle_recording(),
            Action::Snapshot => self.snapshot(),
            Action::ToggleFullScreen => {
                if let Some(Open { window, .. }) = &self.open {
                    let is_full = window.fullscreen().is_some();
                    window.set_fullscreen((!is_full).then_some(Fullscreen::Borderless(None)));
                }
                Ok(())
            }
            Action::Quit => {
                events.exit();
                Ok(())
            }
        };
        if let (Err(error), Some(session)) = (result, &self.session) {
            session.view().complain(format!("{error:#}"));
        }
    }
    fn save_preset(&mut self, name: &str) -> Result<()> {
        let session = self.session.as_ref().context("the stream is over")?;
        let params = session.view().params.clone();
        let path = Preset::of(&params).save(name)?;
        session.view().complain(format!("saved {}", path.display()));
        self.panel.refresh_presets();
        Ok(())
    }
    fn load_preset(&mut self, name: &str) -> Result<()> {
        let session = self.session.as_ref().context("the stream is over")?;
        let mut params = dreamglass_engine::Params::default();
        let file = Preset::open(&PathBuf::from(name))?;
        preset::apply(&mut params, &file.parameters, &format!("preset {name}"))?;
        if let Some((_, prompt)) = file.look.and_then(|l| self.panel.looks.iter().find(|(n, _)| *n == l)) {
            params.prompt.clone_from(prompt);
        }
        self.panel.sent(&params);
        session.set(params);
        Ok(())
    }
    fn toggle_recording(&mut self) -> Result<()> {
        let session = self.session.as_ref().context("the stream is over")?;
        if self.panel.is_recording {
            session.finish_sinks();
            session.view().complain("the recording is finished".into());
        } else {
            let path = timed("mp4");
            session.add_sink(super::open(&SinkSpec::Video(path.clone()), RECORDED_FPS)?);
            session.view().complain(format!("recording to {}", path.display()));
        }
        self.panel.is_recording = !self.panel.is_recording;
        Ok(())
    }
    fn snapshot(&mut self) -> Result<()> {
        let session = self.session.as_ref().context("the stream is over")?;
        let picture = self.held.clone().or_else(|| session.view().picture.clone());
        let OnDevice { pixels, size, .. } = picture.context("there is no picture yet")?;
        let path = timed("png");
        PictureFile::new(&path)?.write(Picture::from_words(size, &pixels.read_u32()?)?)?;
        session.view().complain(format!("wrote {}", path.display()));
        Ok(())
    }
    fn press(&mut self, command: Command, events: &ActiveEventLoop) {
        let Some(session) = &self.session else { return };
        let params = self.panel.params(&session.view().params);
        match command {
            Command::Panel => self.panel.is_shown = !self.panel.is_shown,
            Command::SourceView => self.panel.source_view = self.panel.source_view.next(),
            Command::Hold => {
                self.held = if self.held.is_some() { None } else { session.view().picture.clone() };
            }
            Command::FullScreen => self.act(Action::ToggleFullScreen, events),
            Command::Snapshot => self.act(Action::Snapshot, events),
            Command::Record => self.act(Action::ToggleRecording, events),
            Command::Quit => self.act(Action::Quit, events),
            Command::Leave => {
                let is_full = self.open.as_ref().is_some_and(|o| o.window.fullscreen().is_some());
                self.act(if is_full { Action::ToggleFullScreen } else { Action::Quit }, events);
            }
            command => {
                if let Some(params) = keys::changed(&params, command, &self.panel.looks) {
                    self.act(Action::Set(Box::new(params)), events);
                }
            }
        }
    }
    fn fail(&mut self, error: anyhow::Error, events: &ActiveEventLoop) {
        self.error = Some(error);
        events.exit();
    }
}

/// A file name in the current folder that says when it was made.
fn timed(extension: &str) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    PathBuf::from(format!("dreamglass-{seconds}.{extension}"))
}

impl ApplicationHandler for Shell {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.open.is_none()
            && let Err(error) = self.create(events)
        {
            self.fail(error, events);
        }
    }
    fn user_event(&mut self, events: &ActiveEventLoop, (): ()) {
        if self.session.as_ref().is_none_or(|s| s.view().is_over) {
            events.exit();
        }
        if let Some(open) = &self.open {
            open.window.request_redraw();
        }
    }
    fn new_events(&mut self, _: &ActiveEventLoop, cause: StartCause) {
        if let (StartCause::ResumeTimeReached { .. }, Some(open)) = (cause, &self.open) {
            open.window.request_redraw();
        }
    }
    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        let flow = self.redraw_at.map_or(ControlFlow::Wait, ControlFlow::WaitUntil);
        events.set_control_flow(flow);
    }
    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(open) = &mut self.open else { return };
        let is_taken = open.input.on_window_event(&open.window, &event);
        // A drawing is no reason for another one.
        if is_taken.repaint && !matches!(event, WindowEvent::RedrawRequested) {
            open.window.request_redraw();
        }
        match event {
            WindowEvent::CloseRequested => events.exit(),
            WindowEvent::Resized(size) => open.renderer.resize(size.width, size.height),
            WindowEvent::RedrawRequested => match self.redraw() {
                Ok(actions) => actions.into_iter().for_each(|action| self.act(action, events)),
                Err(error) => self.fail(error, events),
            },
            WindowEvent::KeyboardInput {
                event: KeyEvent { logical_key, state: ElementState::Pressed, .. },
                ..
            } if !is_taken.consumed && !self.context.egui_wants_keyboard_input() => {
                if let Some(command) = keys::command(&logical_key) {
                    self.press(command, events);
                }
            }
            _ => {}
        }
    }
}
