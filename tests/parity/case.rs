//! One golden: its model folder, completed with seeded weights, and its tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use dreamglass_engine::ModelFiles;
use dreamglass_engine::frame::nhwc_from_nchw;
use dreamglass_tests::weights;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Name, shape and bytes of a tensor to be written.
type FileTensor = (String, Vec<usize>, Vec<u8>);

/// A tensor of a golden in its stored order (`[N,C,H,W]` for pictures and latents).
pub struct Stored {
    pub shape: Vec<usize>,
    /// The storage words: f32 bits or i32.
    words: Vec<u32>,
}

impl Stored {
    pub fn f32(&self) -> Vec<f32> {
        self.words.iter().map(|&w| f32::from_bits(w)).collect()
    }
    pub fn u32(&self) -> Vec<u32> {
        self.words.clone()
    }
    /// A picture or latents in our order, `[N,H,W,C]`.
    pub fn nhwc(&self) -> Vec<f32> {
        let [n, c, h, w] = self.shape[..] else { panic!("{:?} is not [N,C,H,W]", self.shape) };
        nhwc_from_nchw(&self.f32(), [n, c, h, w])
    }
    /// `[N, H, W]` of `[N,C,H,W]`.
    pub fn size(&self) -> [u32; 3] {
        [self.shape[0], self.shape[2], self.shape[3]].map(|d| d as u32)
    }
}

pub struct Case {
    pub name: String,
    pub tensors: HashMap<String, Stored>,
    pub metadata: HashMap<String, String>,
    folder: tempfile::TempDir,
}

/// The golden folders whose names start with `prefix`, by name.
pub fn names(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(goldens()).unwrap().map(|e| e.unwrap().path());
    let folders = entries.filter(|p| p.join("weights.json").exists());
    let names = folders.map(|p| p.file_name().unwrap().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|n| n.starts_with(prefix)).collect();
    names.sort();
    names
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

impl Case {
    /// Reads a golden and writes its whole model to a temporary folder.
    pub fn open(name: &str) -> Self {
        let source = goldens().join(name);
        let folder = tempfile::tempdir().unwrap();
        copy(&source, folder.path());
        write_weights(&source, folder.path());
        let bytes = std::fs::read(source.join("reference.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors.tensors().into_iter().map(|(name, view)| (name, stored(&view))).collect();
        Self { name: name.into(), tensors, metadata, folder }
    }
    pub fn files(&self) -> ModelFiles {
        ModelFiles::Folder(self.folder.path().into())
    }
    /// The folder of the completed model.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    pub fn tensor(&self, name: &str) -> &Stored {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no tensor {name}", self.name))
    }
    pub fn text(&self, name: &str) -> &str {
        self.metadata.get(name).unwrap_or_else(|| panic!("{} does not say its {name}", self.name))
    }
    pub fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap()
    }
}

fn stored(view: &TensorView<'_>) -> Stored {
    assert!(matches!(view.dtype(), Dtype::F32 | Dtype::I32), "{:?}", view.dtype());
    let words = view.data().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    Stored { shape: view.shape().to_vec(), words }
}

/// Copies configs and tokenizer files.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Makes the weights that `weights.json` lists.
fn write_weights(from: &Path, to: &Path) {
    let list = std::fs::read(from.join("weights.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    let mut files: BTreeMap<String, Vec<FileTensor>> = BTreeMap::new();
    for row in &list {
        let name = row["name"].as_str().unwrap();
        let shape: Vec<usize> =
            row["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
        let values = weights::tensor(name, &shape);
        let bytes = bytemuck::cast_slice(&values).to_vec();
        files.entry(row["file"].as_str().unwrap().into()).or_default().push((name.into(), shape, bytes));
    }
    for (file, rows) in &files {
        let views = rows
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &to.join(file)).unwrap();
    }
}
