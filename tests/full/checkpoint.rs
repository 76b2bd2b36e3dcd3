//! A golden of full size: its model folder with seeded weights in f16, made once, and its reference.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use dreamglass_engine::ModelFiles;
use dreamglass_tests::weights;
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

pub struct Model {
    name: String,
    folder: PathBuf,
    reference: Vec<u8>,
}

impl Model {
    /// Reads the golden `name`, and makes the files of its weights where they are not there yet.
    pub fn open(name: &str) -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/full").join(name);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("full").join(name);
        let list: Map<String, Value> =
            serde_json::from_slice(&fs::read(golden.join("weights.json")).unwrap()).unwrap();
        for (file, tensors) in &list {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let config = Path::new(file).with_file_name("config.json");
            fs::copy(golden.join(&config), folder.join(&config)).unwrap();
            let tensors: Vec<(String, Vec<usize>)> = serde_json::from_value(tensors.clone()).unwrap();
            write(&path, &tensors);
        }
        let reference = fs::read(golden.join("reference.safetensors")).unwrap();
        Self { name: name.into(), folder, reference }
    }
    pub fn files(&self) -> ModelFiles {
        ModelFiles::Folder(self.folder.clone())
    }
    /// The words of a stored tensor as f32.
    pub fn stored(&self, name: &str) -> Option<Vec<f32>> {
        let tensors = SafeTensors::deserialize(&self.reference).unwrap();
        let view = tensors.tensor(name).ok()?;
        Some(view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }
    /// An input of unit variance, as `full.py` made it.
    pub fn input(&self, tensor: &str, shape: &[usize]) -> Vec<f32> {
        weights::unit(&format!("input.{}.{tensor}", self.name), shape)
    }
}

/// Writes a checkpoint tensor by tensor; it has its name only when it is whole.
fn write(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let mut end = 0;
    let mut header = Map::new();
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}));
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let size = (8 + text.len() + end) as u64;
    if fs::metadata(path).is_ok_and(|found| found.len() == size) {
        return;
    }
    eprintln!("making {} ({} MB)", path.display(), size / 1_000_000);
    let part = path.with_extension("part");
    let mut file = BufWriter::new(File::create(&part).unwrap());
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&text).unwrap();
    for (name, shape) in tensors {
        let values = weights::tensor(name, shape);
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(&values);
        file.write_all(bytemuck::cast_slice(&halves)).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    fs::rename(part, path).unwrap();
}
