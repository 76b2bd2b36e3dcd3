//! Draws pictures that are on the device, and the panel, to a window's surface.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use dreamglass_engine::{AdapterChoice, Gpu, Picture, Size};
use egui_wgpu::wgpu;
use winit::window::Window;

use super::layout::Rect;
use crate::config::open_gpu;
use crate::live::OnDevice;

/// How pictures reach the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Presenting {
    /// Directly on GPUs, copied on CPU adapters
    #[default]
    Auto,
    /// The device's own picture, without read-back
    Direct,
    /// Read back and drawn by a device of the window's own
    Copy,
}

impl Presenting {
    /// Whether the window draws with the stream's own device. On a CPU adapter a present waits for
    /// all of the queue before it, which would make the panel as slow as the stream, and reading
    /// back is no more than a copy in memory.
    pub fn is_direct(self, stream: &Gpu) -> bool {
        match self {
            Self::Auto => !stream.summary().is_software,
            Self::Direct => true,
            Self::Copy => false,
        }
    }
}

/// What a frame of the window shows.
pub struct Scene<'a> {
    /// The result and where it is.
    pub result: Option<(&'a OnDevice, Rect)>,
    /// The source and where it is.
    pub source: Option<(&'a Arc<Picture>, Rect)>,
    /// The panel.
    pub panel: Painted,
}

/// A panel ready to be drawn.
pub struct Painted {
    /// Triangles.
    pub jobs: Vec<egui::ClippedPrimitive>,
    /// New and old textures.
    pub textures: egui::TexturesDelta,
    /// Pixels of a point.
    pub scale: f32,
}

/// A picture of the host, on the device.
struct Uploaded {
    picture: Arc<Picture>,
    buffer: wgpu::Buffer,
}

/// A window's surface and what is drawn on it.
pub struct Renderer {
    /// The stream's device.
    stream: Gpu,
    /// The device that draws: the stream's own where presenting is direct.
    gpu: Gpu,
    surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    pipeline: wgpu::RenderPipeline,
    places: [wgpu::Buffer; 2],
    panel: egui_wgpu::Renderer,
    uploaded: [Option<Uploaded>; 2],
}

/// Which of the pictures on screen.
#[derive(Clone, Copy)]
enum Role {
    Result,
    Source,
}

impl Renderer {
    /// A surface of `window` for a stream on `stream`.
    pub fn new(stream: Gpu, window: Arc<Window>, presenting: Presenting) -> Result<Self> {
        let gpu = match presenting.is_direct(&stream) {
            true => stream.clone(),
            false => open_gpu(&AdapterChoice::Index(stream.summary().index))?,
        };
        let size = window.inner_size();
        let surface = gpu.instance().create_surface(window).context("cannot draw to the window")?;
        let name = &gpu.summary().name;
        let mut config = surface
            .get_default_config(gpu.adapter(), size.width.max(1), size.height.max(1))
            .ok_or_else(|| anyhow!("adapter {name} cannot present to this display; try another --adapter"))?;
        let formats = surface.get_capabilities(gpu.adapter()).formats;
        // The panel's colours mix as it means them where the target does not encode them.
        config.format = formats.iter().copied().find(|f| !f.is_srgb()).unwrap_or(config.format);
        config.present_mode = wgpu::PresentMode::AutoVsync;
        config.desired_maximum_frame_latency = 1;
        let device = gpu.device();
        surface.configure(device, &config);
        let place = |_| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("place"),
                size: 16,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        Ok(Self {
            pipeline: pipeline(device, config.format),
            places: [0, 1].map(place),
            panel: egui_wgpu::Renderer::new(device, config.format, egui_wgpu::RendererOptions::default()),
            stream,
            gpu,
            surface,
            config,
            uploaded: [None, None],
        })
    }
    /// Whether it draws a stream on this device.
    pub fn is_on(&self, gpu: &Gpu) -> bool {
        self.stream.is(gpu)
    }
    /// Follows the window's size.
    pub fn resize(&mut self, width: u32, height: u32) {
        let largest = self.gpu.device().limits().max_texture_dimension_2d;
        (self.config.width, self.config.height) = (width.clamp(1, largest), height.clamp(1, largest));
        self.surface.configure(self.gpu.device(), &self.config);
    }
    /// Draws and presents; nothing where the window cannot be seen.
    pub fn draw(&mut self, scene: Scene<'_>) -> Result<()> {
        use wgpu::CurrentSurfaceTexture::{Lost, Occluded, Outdated, Suboptimal, Success, Timeout};
        let Scene { result, source, mut panel } = scene;
        let texture = match self.surface.get_current_texture() {
            Success(texture) => Some(texture),
            Suboptimal(texture) => Some(texture),
            Timeout | Occluded => None,
            Outdated | Lost => {
                self.surface.configure(self.gpu.device(), &self.config);
                None
            }
            _ => return Err(anyhow!("the window's surface cannot be used")),
        };
        let device = self.gpu.device().clone();
        for (id, deltas) in panel.textures.set.drain() {
            for delta in deltas {
                self.panel.update_texture(&device, self.gpu.queue(), id, &delta);
            }
        }
        if let Some(texture) = texture {
            self.paint(&texture, result, source, &panel);
            self.gpu.queue().present(texture);
        }
        for id in panel.textures.free.drain() {
            self.panel.free_texture(&id);
        }
        Ok(())
    }

    fn paint(
        &mut self,
        texture: &wgpu::SurfaceTexture,
        result: Option<(&OnDevice, Rect)>,
        source: Option<(&Arc<Picture>, Rect)>,
        panel: &Painted,
    ) {
        let device = self.gpu.device().clone();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let size_in_pixels = [self.config.width, self.config.height];
        let screen = egui_wgpu::ScreenDescriptor { size_in_pixels, pixels_per_point: panel.scale };
        let before = self.panel.update_buffers(&device, self.gpu.queue(), &mut encoder, &panel.jobs, &screen);
        let result = result.and_then(|(picture, at)| {
            let group = match &picture.host {
                _ if self.is_on(&self.gpu) => self.bind(Role::Result, picture.pixels.buffer(), picture.size),
                Some(host) => self.upload(Role::Result, host),
                None => return None,
            };
            Some((group, at))
        });
        let source = source.map(|(picture, at)| (self.upload(Role::Source, picture), at));
        let view = texture.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let attachment = wgpu::RenderPassColorAttachment {
            view: &view,
            depth_slice: None,
            resolve_target: None,
            ops: wgpu::Operations {
                load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                store: wgpu::StoreOp::Store,
            },
        };
        let pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            color_attachments: &[Some(attachment)],
            ..Default::default()
        });
        let mut pass = pass.forget_lifetime();
        pass.set_pipeline(&self.pipeline);
        for (group, [x, y, width, height]) in [result, source].into_iter().flatten() {
            if width >= 1.0 && height >= 1.0 {
                pass.set_viewport(x, y, width, height, 0.0, 1.0);
                pass.set_bind_group(0, &group, &[]);
                pass.draw(0..3, 0..1);
            }
        }
        self.panel.render(&mut pass, &panel.jobs, &screen);
        drop(pass);
        self.gpu.queue().submit(before.into_iter().chain([encoder.finish()]));
    }
    /// Brings a picture of the host to the device, unless it is there.
    fn upload(&mut self, role: Role, picture: &Arc<Picture>) -> wgpu::BindGroup {
        let bytes = picture.rgba();
        let there = self.uploaded[role as usize].take();
        let uploaded = match there.filter(|u| u.buffer.size() == bytes.len() as u64) {
            Some(there) if Arc::ptr_eq(&there.picture, picture) => there,
            there => {
                let buffer = there.map_or_else(|| self.room(bytes.len() as u64), |u| u.buffer);
                self.gpu.queue().write_buffer(&buffer, 0, bytes);
                Uploaded { picture: Arc::clone(picture), buffer }
            }
        };
        let group = self.bind(role, &uploaded.buffer, picture.size());
        self.uploaded[role as usize] = Some(uploaded);
        group
    }
    fn room(&self, size: u64) -> wgpu::Buffer {
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("picture"),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
    fn bind(&self, role: Role, pixels: &wgpu::Buffer, size: Size) -> wgpu::BindGroup {
        let words = [size.width, size.height, u32::from(self.config.format.is_srgb()), 1f32.to_bits()];
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        self.gpu.queue().write_buffer(&self.places[role as usize], 0, &bytes);
        self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("picture"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: pixels.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: self.places[role as usize].as_entire_binding() },
            ],
        })
    }
}

fn pipeline(device: &wgpu::Device, format: wgpu::TextureFormat) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::include_wgsl!("picture.wgsl"));
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some("picture"),
        layout: None,
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("corner"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers: &[],
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("colour"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    })
}
