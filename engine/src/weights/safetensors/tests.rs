//! Hostile and damaged files: each is refused with a message that says what is wrong.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("unet")).unwrap();
    let name = "unet/diffusion_pytorch_model.safetensors";
    std::fs::write(folder.path().join(name), bytes).unwrap();
    Checkpoint::open(&ModelFiles::Folder(folder.path().into()), "unet")
}

fn refusal(bytes: Vec<u8>) -> String {
    open(bytes).unwrap_err().to_string()
}

fn vector(values: &[f32]) -> Checkpoint {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (n, end) = (values.len(), data.len());
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{n}],"data_offsets":[0,{end}]}}}}"#);
    open(file(&header, &data)).unwrap()
}

#[test]
fn a_sound_file_is_read() {
    let checkpoint = vector(&[1.0, -2.5]);
    assert!(checkpoint.contains("a"));
    assert_eq!(checkpoint.tensor("a", &[2]).unwrap(), [1.0, -2.5]);
}

#[test]
fn half_types_are_widened() {
    let header = r#"{"b":{"dtype":"BF16","shape":[1,1,1,1],"data_offsets":[0,2]},
                     "h":{"dtype":"F16","shape":[1,1],"data_offsets":[2,4]}}"#;
    let checkpoint = open(file(header, &[0xc0, 0x3f, 0x00, 0xc1])).unwrap();
    assert_eq!(checkpoint.tensor("b", &[1, 1]).unwrap(), [1.5]);
    assert_eq!(checkpoint.tensor("h", &[1, 1, 1, 1]).unwrap(), [-2.5]);
}

/// The halves of `h` `[2,3]`, behind `before` other bytes.
fn halves(before: usize, values: &[f32; 6], type_name: &str) -> Checkpoint {
    let end = before + 12;
    let header = format!(
        r#"{{"u":{{"dtype":"U8","shape":[{before}],"data_offsets":[0,{before}]}},
            "h":{{"dtype":"{type_name}","shape":[2,3],"data_offsets":[{before},{end}]}}}}"#
    );
    let mut data = vec![0; before];
    data.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
    // Headers are padded to eight bytes, as writers of such files do.
    let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
    open(file(&header, &data)).unwrap()
}

#[test]
fn halves_are_handed_on_as_they_are_where_nothing_is_done_to_them() {
    let values = [1.0, -2.5, 65504.0, 6e-8, 0.0, -0.0];
    let read =
        |checkpoint: &Checkpoint, name, shape: &[u32]| checkpoint.halves(name, shape).map(<[f16]>::to_vec);
    let checkpoint = halves(8, &values, "F16");
    assert_eq!(read(&checkpoint, "h", &[2, 3]).unwrap(), values.map(f16::from_f32));

    // Another type, an odd place in the file, another shape, no such tensor.
    assert_eq!(read(&halves(8, &values, "BF16"), "h", &[2, 3]), None);
    assert_eq!(read(&halves(7, &values, "F16"), "h", &[2, 3]), None);
    assert_eq!(read(&checkpoint, "h", &[3, 2]), None);
    assert_eq!(read(&checkpoint, "x", &[2, 3]), None);
    assert_eq!(halves(7, &values, "F16").tensor("h", &[2, 3]).unwrap()[1], -2.5);

    // What is not finite is named by those that look at it.
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let checkpoint = halves(8, &[1.0, 2.0, 3.0, 4.0, wrong, 6.0], "F16");
        let error = checkpoint.tensor("h", &[2, 3]).unwrap_err().to_string();
        assert!(error.contains("`h`") && error.contains('4'), "{error}");
    }
}

#[test]
fn damaged_files_are_refused() {
    assert!(refusal(vec![]).contains("0 bytes"));
    assert!(refusal(vec![1, 2, 3]).contains("3 bytes"));
    assert!(refusal(file("{}", &[])[..9].to_vec()).contains("claims a header of 2 bytes and has 9"));
    assert!(refusal(b"a picture, certainly not weights".to_vec()).contains("not a safetensors file"));
    assert!(refusal(u64::MAX.to_le_bytes().to_vec()).contains("18446744073709551615 bytes"));
    assert!(refusal(99_999_999u64.to_le_bytes().to_vec()).contains("claims a header of 99999999 bytes"));
    assert!(refusal(file("not json", &[])).contains("not a safetensors file"));
    assert!(refusal(file("[1,2]", &[])).contains("not a safetensors file"));
}

#[test]
fn tensors_must_lie_inside_the_file() {
    let header = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
    assert!(refusal(file(&header("[0,8]"), &[0; 4])).contains("truncated"));
    assert!(refusal(file(&header("[0,8]"), &[0; 12])).contains("truncated"));
    assert!(refusal(file(&header("[4,12]"), &[0; 12])).contains("tensor `a`"));
    assert!(refusal(file(&header("[0,4]"), &[0; 4])).contains("shape does not fit"));
    assert!(refusal(file(&header("[8,0]"), &[0; 8])).contains("damaged"));
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
    assert!(refusal(file(huge, &[0; 8])).contains("shape does not fit"));
}

#[test]
fn missing_and_misshaped_weights_are_named() {
    let checkpoint = vector(&[1.0, 2.0]);
    let missing = checkpoint.tensor("b", &[2]).unwrap_err();
    assert!(matches!(&missing, EngineError::MissingWeight { name } if name == "b"), "{missing}");
    let shape = checkpoint.tensor("a", &[1, 2]).unwrap_err().to_string();
    assert!(shape.contains("`a`") && shape.contains("[1, 2]") && shape.contains("has [2]"), "{shape}");
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let checkpoint = vector(&[0.0, value]);
        let error = checkpoint.tensor("a", &[2]).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("value 1"), "{error}");
        let error = checkpoint.read("a", &[2]).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("not a finite number"), "{error}");
    }
}

#[test]
fn integer_weights_are_refused() {
    let header = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    let error = open(file(header, &[0; 8])).unwrap().tensor("a", &[1]).unwrap_err().to_string();
    assert!(error.contains("I64"), "{error}");
}

#[test]
fn shards_are_joined_and_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let unet = folder.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    let shard = |name: &str, tensor: &str, value: f32| {
        let header = format!(r#"{{"{tensor}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        std::fs::write(unet.join(name), file(&header, &value.to_le_bytes())).unwrap();
    };
    shard("one.safetensors", "a", 1.0);
    shard("two.safetensors", "b", 2.0);
    let index = unet.join("diffusion_pytorch_model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#).unwrap();
    let files = ModelFiles::Folder(folder.path().into());
    let checkpoint = Checkpoint::open(&files, "unet").unwrap();
    assert_eq!(checkpoint.tensor("a", &[1]).unwrap(), [1.0]);
    assert_eq!(checkpoint.tensor("b", &[1]).unwrap(), [2.0]);

    std::fs::write(&index, r#"{"weight_map":{"a":"../one.safetensors"}}"#).unwrap();
    assert!(Checkpoint::open(&files, "unet").unwrap_err().to_string().contains("outside"));
    std::fs::write(&index, r#"{"weight_map":{"a":"three.safetensors"}}"#).unwrap();
    assert!(Checkpoint::open(&files, "unet").unwrap_err().to_string().contains("three.safetensors"));
}

#[test]
fn a_folder_without_weights_is_an_error() {
    let error = Checkpoint::open(&ModelFiles::Embedded(&[]), "unet").unwrap_err().to_string();
    assert!(error.starts_with("unet: "), "{error}");
}
