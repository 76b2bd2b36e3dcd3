//! Names in every layout, and files that are not what they should be.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

/// A tensor of a file: name, shape, values.
type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

fn file(tensors: &[Tensor<'_>]) -> Vec<u8> {
    file_of(tensors, "F32", |v| v.to_le_bytes().to_vec())
}

fn file_of(tensors: &[Tensor<'_>], dtype: &str, bytes: impl Fn(&f32) -> Vec<u8>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(&bytes));
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert((*name).into(), entry);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    // As writers of such files do: tensors begin where they can be read as they are.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A UNet of one linear layer `[2,3]` and one 3×3 convolution `[2,1,3,3]`, all ones, and a text encoder.
fn networks() -> [Checkpoint; 2] {
    let unet = file(&[
        ("down.0.attn1.to_q.weight", &[2, 3], &[1.0; 6]),
        ("down.0.attn1.to_out.0.weight", &[2, 3], &[1.0; 6]),
        ("down.0.conv.weight", &[2, 1, 3, 3], &[1.0; 18]),
    ]);
    let text = file(&[("layers.0.q_proj.weight", &[2, 3], &[1.0; 6])]);
    [unet, text].map(|bytes| Checkpoint::from_bytes("model", Bytes::Static(Vec::leak(bytes))).unwrap())
}

fn fused(tensors: &[Tensor<'_>], weight: f32) -> Result<[Checkpoint; 2], String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    std::fs::write(&path, file(tensors)).unwrap();
    let [mut unet, mut text] = networks();
    let result =
        fuse(&LoraFile { path, weight }, 0, &mut [(Target::Unet, &mut unet), (Target::Text, &mut text)]);
    match result {
        Ok(()) => Ok([unet, text]),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("some.safetensors"), "{message}");
            assert_eq!(unet.tensor("down.0.attn1.to_q.weight", &[2, 3]).unwrap(), [1.0; 6]);
            Err(message)
        }
    }
}

#[test]
fn a_change_is_the_product_of_its_factors() {
    let key = |end: &str| format!("lora_unet_down_0_conv.{end}");
    let down: Vec<f32> = (0..9).map(|v| v as f32).collect();
    let (names, up) = ([key("lora_down.weight"), key("lora_up.weight"), key("alpha")], [1.0, -2.0]);
    let tensors: [Tensor<'_>; 3] =
        [(&names[0], &[1, 1, 3, 3], &down), (&names[1], &[2, 1, 1, 1], &up), (&names[2], &[], &[3.0])];
    let [unet, _] = fused(&tensors, 0.5).unwrap();
    let expected: Vec<f32> = up.iter().flat_map(|up| down.iter().map(move |d| 1.0 + 1.5 * up * d)).collect();
    assert_eq!(unet.tensor("down.0.conv.weight", &[2, 1, 3, 3]).unwrap(), expected);
    // Blocks of rows and columns are those of the whole.
    let mut block = Vec::new();
    let read = dreamglass_kernels::WeightSource::read_block;
    read(&unet, "down.0.conv.weight", &[2, 1, 3, 3], 1..2, 4..7, &mut block).unwrap();
    assert_eq!(block, expected[13..16]);
}

#[test]
fn halves_that_a_lora_changes_are_not_handed_on_as_they_are() {
    let names = ["down.0.attn1.to_q.weight", "down.0.attn1.to_out.0.weight"];
    let tensors = names.map(|name| (name, &[2, 3][..], &[1.0; 6][..]));
    let bytes = file_of(&tensors, "F16", |v| half::f16::from_f32(*v).to_le_bytes().to_vec());
    let mut unet = Checkpoint::from_bytes("model", Bytes::Static(Vec::leak(bytes))).unwrap();
    let (up, down) = (Arc::new(vec![1.0; 2]), Arc::new(vec![2.0; 3]));
    unet.add_delta(names[0].into(), Delta { lora: 0, weight: 1.0, up, down, rank: 1 });
    let read = |name: &str| dreamglass_kernels::WeightSource::halves(&unet, name, &[2, 3]);
    assert_eq!(read(names[0]), None);
    assert_eq!(unet.tensor(names[0], &[2, 3]).unwrap(), [3.0; 6]);
    assert_eq!(read(names[1]).unwrap(), [half::f16::ONE; 6]);
}

#[test]
fn every_way_to_write_a_name_is_understood() {
    let cases = [
        ("lora_unet_down_0_attn1_to_q.lora_down.weight", Target::Unet, "down_0_attn1_to_q", Role::Down),
        ("lora_te_text_model_layers_0_q_proj.alpha", Target::Text, "text_model_layers_0_q_proj", Role::Alpha),
        ("unet.down.0.attn1.to_q.lora_B.weight", Target::Unet, "down.0.attn1.to_q", Role::Up),
        ("unet.down.0.attn1.to_q.lora.up.weight", Target::Unet, "down.0.attn1.to_q", Role::Up),
        ("base_model.model.down.0.attn1.to_q.lora_A.weight", Target::Unet, "down.0.attn1.to_q", Role::Down),
        (
            "unet.down.0.attn1.processor.to_out_lora.up.weight",
            Target::Unet,
            "down.0.attn1.to_out.0",
            Role::Up,
        ),
        ("down.0.attn1.processor.to_q_lora.down.weight", Target::Unet, "down.0.attn1.to_q", Role::Down),
        (
            "text_encoder.text_model.layers.0.q_proj.lora_linear_layer.down.weight",
            Target::Text,
            "text_model.layers.0.q_proj",
            Role::Down,
        ),
    ];
    for (key, network, module, role) in cases {
        assert_eq!(parse(key), Ok((network, module.to_string(), role)), "{key}");
    }
    let [unet, text] = networks();
    let names: Vec<_> =
        names_of(Target::Text, &text).into_iter().chain(names_of(Target::Unet, &unet)).collect();
    for module in
        ["text_model_layers_0_q_proj", "text_model.layers.0.q_proj", "down_0_conv", "down.0.attn1.to_out.0"]
    {
        assert!(names.iter().any(|((_, spelled), _)| spelled == module), "{module} is not among {names:?}");
    }
}

#[test]
fn what_is_no_lora_of_this_model_is_refused_by_name() {
    const DOWN: Tensor<'_> = ("unet.down.0.attn1.to_q.lora_A.weight", &[1, 3], &[1.0; 3]);
    const UP: Tensor<'_> = ("unet.down.0.attn1.to_q.lora_B.weight", &[2, 1], &[1.0; 2]);
    assert!(fused(&[DOWN, UP], 1.0).is_ok());
    let cases: [(&[Tensor<'_>], f32, &str); 10] = [
        (&[], 1.0, "holds no tensors"),
        (&[DOWN], 1.0, "needs two factors"),
        (
            &[DOWN, UP, ("unet.mid.to_q.lora_A.weight", &[1, 3], &[1.0; 3])],
            1.0,
            "`unet.mid.to_q.lora_A.weight`",
        ),
        (&[DOWN, UP, ("text_encoder.x.lora_A.weight", &[1, 3], &[1.0; 3])], 1.0, "text encoder"),
        (
            &[DOWN, ("unet.down.0.attn1.to_q.lora_B.weight", &[2, 2], &[1.0; 4])],
            1.0,
            "[rank, 3] and [2, rank]",
        ),
        (&[("unet.down.0.attn1.to_q.lora_A.weight", &[1, 4], &[1.0; 4]), UP], 1.0, "[rank, 3]"),
        (&[DOWN, UP, ("lora_unet_down_0_attn1_to_q.lora_up.weight", &[2, 1], &[1.0; 2])], 1.0, "both change"),
        (&[DOWN, UP, ("unet.down.0.attn1.to_q.dora_scale", &[2, 1], &[1.0; 2])], 1.0, "a DoRA"),
        (&[DOWN, UP, ("unet.down.0.attn1.to_q.alpha", &[2], &[1.0; 2])], 1.0, "2 values, expected one"),
        (&[DOWN, UP], f32::NAN, "the weight NaN"),
    ];
    for (tensors, weight, expected) in cases {
        let message = fused(tensors, weight).err().unwrap_or_default();
        assert!(message.contains(expected), "expected `{expected}` in: {message}");
    }
    let message = fused(&[("unet.down.0.attn1.to_q.lora_A.weight", &[1, 3], &[f32::INFINITY; 3]), UP], 1.0);
    assert!(message.is_err_and(|m| m.contains("not a finite number") && m.contains("lora_A")));
    let [mut unet, _] = networks();
    let missing = LoraFile { path: "/nowhere/a.safetensors".into(), weight: 1.0 };
    let message = fuse(&missing, 0, &mut [(Target::Unet, &mut unet)]).unwrap_err().to_string();
    assert!(message.contains("/nowhere/a.safetensors") && message.contains("no such"), "{message}");
}
