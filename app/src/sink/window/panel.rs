//! The panel: a control for each parameter of the schema, looks, presets and figures.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dreamglass_engine::live::MAX_LIVE_STEPS;
use dreamglass_engine::params::{AUTO, Group, Kind, Parameter, Value, schema};
use dreamglass_engine::{LoraFile, Params};
use egui::{Color32, RichText, Ui};

use super::layout::SourceView;
use crate::live::statistics::Statistics;
use crate::live::{Phase, View};
use crate::preset::Preset;

/// How long what a hand has set is shown before the stream confirms it.
const DRAFT: Duration = Duration::from_millis(400);

/// How long trouble is shown.
const TROUBLE: Duration = Duration::from_secs(8);

/// What the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Other parameters.
    Set(Box<Params>),
    /// Keep the parameters under a name.
    SavePreset(String),
    /// Take those that were kept under a name.
    LoadPreset(String),
    /// Start or end a recording.
    ToggleRecording,
    /// Write the picture to a file.
    Snapshot,
    /// Enter or leave full screen.
    ToggleFullScreen,
    /// Close the window.
    Quit,
}

/// What a panel shows of a stream.
pub struct Glimpse {
    source_name: String,
    phase: Phase,
    is_preparing: bool,
    trouble: Option<String>,
    params: Params,
    statistics: Statistics,
}

impl Glimpse {
    /// A copy of what can be seen.
    pub fn of(view: &View) -> Self {
        let trouble = view.trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE);
        Self {
            source_name: view.source_name.clone(),
            phase: view.phase,
            is_preparing: view.is_preparing,
            trouble: trouble.map(|(_, message)| message.clone()),
            params: view.params.clone(),
            statistics: view.statistics.clone(),
        }
    }
}

/// State of the panel.
#[derive(Default)]
pub struct Panel {
    /// Whether it is shown.
    pub is_shown: bool,
    /// Where the source is shown.
    pub source_view: SourceView,
    /// Whether pictures are recorded.
    pub is_recording: bool,
    /// Looks of the model: names and prompts.
    pub looks: Vec<(String, String)>,
    /// LoRAs that the model is loaded with.
    loras: Vec<LoraFile>,
    draft: Option<(Params, Instant)>,
    texts: HashMap<&'static str, String>,
    preset_name: String,
    presets: Vec<String>,
}

impl Panel {
    /// A panel for a model's looks and LoRAs.
    pub fn new(looks: Vec<(String, String)>, loras: Vec<LoraFile>) -> Self {
        Self { is_shown: true, looks, loras, presets: Preset::names(), ..Self::default() }
    }
    /// The parameters as the hand left them.
    pub fn params(&self, view: &Params) -> Params {
        match &self.draft {
            Some((params, at)) if at.elapsed() < DRAFT => params.clone(),
            _ => view.clone(),
        }
    }
    /// Remembers what was sent to the stream.
    pub fn sent(&mut self, params: &Params) {
        self.draft = Some((params.clone(), Instant::now()));
    }
    /// Draws it and says what the user asked for.
    pub fn show(&mut self, ui: &mut Ui, glimpse: &Glimpse) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut params = self.params(&glimpse.params);
        let before = params.clone();
        status(ui, glimpse);
        figures(ui, &glimpse.statistics);
        ui.separator();
        egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            self.look_buttons(ui, &mut params);
            for (group, name, is_open) in [
                (Group::Prompt, "Prompt", true),
                (Group::Lora, "LoRAs", true),
                (Group::Sampling, "Sampling", true),
                (Group::Picture, "Picture", false),
                (Group::Stream, "Stream", false),
            ] {
                if group == Group::Lora && self.loras.is_empty() {
                    continue;
                }
                egui::CollapsingHeader::new(name).default_open(is_open).show(ui, |ui| {
                    schema()
                        .iter()
                        .filter(|p| p.group == group)
                        .for_each(|p| self.control(ui, p, &mut params));
                });
            }
            egui::CollapsingHeader::new("View").default_open(true).show(ui, |ui| self.view(ui, &mut actions));
            egui::CollapsingHeader::new("Presets").show(ui, |ui| self.preset_controls(ui, &mut actions));
            ui.label(RichText::new(super::keys::HELP).weak().small());
        });
        if params != before {
            self.sent(&params);
            actions.push(Action::Set(Box::new(params)));
        }
        actions
    }

    fn look_buttons(&self, ui: &mut Ui, params: &mut Params) {
        ui.horizontal_wrapped(|ui| {
            for (at, (name, prompt)) in self.looks.iter().enumerate() {
                let is_chosen = params.prompt == *prompt;
                let hint = if at < 9 { format!("{prompt} (key {})", at + 1) } else { prompt.clone() };
                if ui.selectable_label(is_chosen, name).on_hover_text(hint).clicked() {
                    params.prompt.clone_from(prompt);
                }
            }
        });
    }
    fn control(&mut self, ui: &mut Ui, parameter: &'static Parameter, params: &mut Params) {
        let Some(value) = params.get(parameter.name) else { return };
        let lora = parameter.lora().map(|ix| self.loras.get(ix).cloned());
        let label = match &lora {
            // The model has no such LoRA.
            Some(None) => return,
            Some(Some(lora)) => lora.name(),
            None => parameter.name.replace('_', " "),
        };
        let response = ui.horizontal(|ui| {
            ui.label(label);
            let is_auto = parameter.has_auto && value == Value::Text(AUTO.into());
            let new = if is_auto {
                let first = || match &lora {
                    Some(Some(lora)) => Value::Number(lora.weight.into()),
                    _ => first_value(parameter),
                };
                ui.button(AUTO).clicked().then(first)
            } else {
                self.edit(ui, parameter, &value)
            };
            let back = parameter.has_auto && !is_auto && ui.small_button(AUTO).clicked();
            if back { Some(Value::Text(AUTO.into())) } else { new }
        });
        response.response.on_hover_text(parameter.doc);
        if let Some(new) = response.inner
            && new != value
        {
            // A value that does not fit is one that is still being typed.
            let _ = params.set(parameter.name, &new);
        }
    }
    /// A control of the parameter's type; the new value when it was changed.
    fn edit(&mut self, ui: &mut Ui, parameter: &'static Parameter, value: &Value) -> Option<Value> {
        match (parameter.kind, value) {
            (Kind::Number { min, max, step }, Value::Number(number)) => {
                let mut number = *number;
                let slider = egui::Slider::new(&mut number, min..=max).step_by(step).suffix(unit(parameter));
                ui.add(slider).changed().then_some(Value::Number(number))
            }
            (Kind::Whole { min, max }, Value::Whole(number)) => {
                let mut number = *number;
                let max = if parameter.name == "steps" { MAX_LIVE_STEPS as u64 } else { max };
                let changed = if max <= 100 {
                    ui.add(egui::Slider::new(&mut number, min..=max)).changed()
                } else {
                    let field = egui::DragValue::new(&mut number).range(min..=max).suffix(unit(parameter));
                    ui.add(field).changed()
                };
                changed.then_some(Value::Whole(number))
            }
            (Kind::Flag, Value::Flag(flag)) => {
                let mut flag = *flag;
                ui.checkbox(&mut flag, "").changed().then_some(Value::Flag(flag))
            }
            (Kind::Choice { names }, Value::Text(chosen)) => {
                let mut new = None;
                egui::ComboBox::from_id_salt(parameter.name).selected_text(chosen).show_ui(ui, |ui| {
                    for name in names {
                        if ui.selectable_label(name == chosen, *name).clicked() {
                            new = Some(Value::Text((*name).into()));
                        }
                    }
                });
                new
            }
            (_, Value::Text(text)) => self.text(ui, parameter.name, text),
            _ => None,
        }
    }
    /// A field that takes effect with Enter or when the hand leaves it.
    fn text(&mut self, ui: &mut Ui, name: &'static str, current: &str) -> Option<Value> {
        let text = self.texts.entry(name).or_insert_with(|| current.into());
        let response = ui.add(egui::TextEdit::singleline(text).desired_width(f32::INFINITY));
        if response.lost_focus() && text != current {
            return Some(Value::Text(text.clone()));
        }
        if !response.has_focus() && text != current {
            *text = current.into();
        }
        None
    }
    fn view(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) {
        ui.horizontal(|ui| {
            ui.label("source");
            for view in SourceView::ALL {
                ui.selectable_value(&mut self.source_view, view, view.name());
            }
        });
        ui.horizontal(|ui| {
            let word = if self.is_recording { "stop recording" } else { "record" };
            for (word, action) in [
                (word, Action::ToggleRecording),
                ("snapshot", Action::Snapshot),
                ("full screen", Action::ToggleFullScreen),
            ] {
                if ui.button(word).clicked() {
                    actions.push(action);
                }
            }
        });
    }
    fn preset_controls(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) {
        ui.horizontal(|ui| {
            ui.add(egui::TextEdit::singleline(&mut self.preset_name).hint_text("name").desired_width(140.0));
            if ui.button("save").clicked() && !self.preset_name.trim().is_empty() {
                actions.push(Action::SavePreset(self.preset_name.trim().into()));
            }
        });
        for name in &self.presets {
            if ui.button(name).clicked() {
                actions.push(Action::LoadPreset(name.clone()));
            }
        }
    }
    /// Looks again which presets there are.
    pub fn refresh_presets(&mut self) {
        self.presets = Preset::names();
    }
}

/// What a parameter that was automatic starts at when a hand takes it.
fn first_value(parameter: &Parameter) -> Value {
    match parameter.kind {
        Kind::Number { min, max, .. } => Value::Number((min + max) / 2.0),
        Kind::Whole { min, .. } => Value::Whole(min),
        Kind::Flag => Value::Flag(false),
        Kind::Choice { names } => Value::Text(names.first().copied().unwrap_or_default().into()),
        Kind::Size => Value::Text("512x512".into()),
        Kind::Text { .. } => Value::Text(String::new()),
    }
}

fn unit(parameter: &Parameter) -> String {
    if parameter.unit.is_empty() { String::new() } else { format!(" {}", parameter.unit) }
}

/// Where the stream is, and what went wrong.
fn status(ui: &mut Ui, glimpse: &Glimpse) {
    let phase = match glimpse.phase {
        Phase::Loading => "loading the model",
        Phase::Waiting => "waiting for the source",
        Phase::Compiling => "compiling for this size",
        Phase::Live if glimpse.is_preparing => "live, compiling for the new settings",
        Phase::Live => "live",
        Phase::Ended => "the source ended",
    };
    ui.horizontal(|ui| {
        if glimpse.is_preparing || glimpse.phase == Phase::Loading {
            ui.spinner();
        }
        ui.strong(phase);
    });
    ui.label(&glimpse.source_name);
    if let Some(trouble) = &glimpse.trouble {
        ui.colored_label(Color32::from_rgb(255, 120, 80), trouble);
    }
    ui.separator();
}

/// Rates, latencies, counts, and a graph of the time between pictures.
fn figures(ui: &mut Ui, statistics: &Statistics) {
    let shown = |value: Option<f32>, unit: &str| match value {
        Some(value) => format!("{value:.1} {unit}"),
        None => "-".into(),
    };
    let latency = statistics.latency().map(|l| l * 1e3);
    ui.label(format!("{}, latency {}", shown(statistics.fps(), "frames/s"), shown(latency, "ms")));
    if let Some(status) = statistics.status {
        let c = status.counters;
        let dropped = c.dropped + statistics.lost;
        ui.label(format!("frames dropped {dropped}, skipped {}, failed {}", c.skipped, c.failed));
        ui.label(format!("lag {} frames", status.lag));
    }
    let (area, _) = ui.allocate_exact_size(egui::vec2(ui.available_width(), 60.0), egui::Sense::hover());
    let painter = ui.painter_at(area);
    painter.rect_filled(area, 2.0, ui.visuals().extreme_bg_color);
    let count = statistics.samples().len();
    let longest = statistics.samples().map(|s| s.interval).fold(1.0 / 60.0, f32::max);
    let width = area.width() / crate::live::statistics::HISTORY as f32;
    let first = area.right() - width * count as f32;
    let at = |(ix, seconds): (usize, f32)| {
        egui::pos2(first + width * ix as f32, area.bottom() - area.height() * (seconds / longest).min(1.0))
    };
    let line: Vec<egui::Pos2> = statistics.samples().map(|s| s.interval).enumerate().map(at).collect();
    painter.line(line, egui::Stroke::new(1.0, Color32::LIGHT_GREEN));
    let label = format!("{:.0} ms", longest * 1e3);
    let (anchor, font) = (egui::Align2::LEFT_TOP, egui::FontId::monospace(9.0));
    painter.text(area.left_top(), anchor, label, font, ui.visuals().weak_text_color());
}
