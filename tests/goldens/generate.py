"""Writes every case's folder and weights_vectors.json; README.md says how to run it."""

import copy
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

import cases
import pipelines
import weights
from networks import Folder, read_back

HERE = Path(__file__).parent
CHECK = "--check" in sys.argv


def given(case, tensor, shape, kind="unit"):
    """An input: unit variance, or in [-1, 1) for pictures."""
    name = f"input.{case}.{tensor}"
    if kind == "unit":
        return torch.from_numpy(weights.unit(name, shape))
    return torch.from_numpy(weights.values(name, math.prod(shape)).reshape(shape))


def picture(case, tensor, shape):
    """A smooth picture with some grain, in [-1, 1]."""
    batch, channels, height, width = shape
    coarse = given(case, tensor + ".coarse", (batch, channels, 5, 5), "value")
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return (0.8 * smooth + 0.2 * given(case, tensor, shape, "value")).contiguous()


def save(folder, tensors, metadata=None):
    tensors = {k: v.to(torch.int32) if v.dtype == torch.int64 else v for k, v in tensors.items()}
    for name, t in tensors.items():
        assert torch.isfinite(t.float()).all() if t.dtype != torch.int32 else True, name
    path = folder.path / "reference.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    sort_metadata(path)
    folder.write_list()
    spread = " ".join(f"{k.split('.')[1]}:{tuple(v.shape)}~{v.float().std():.3f}" for k, v in tensors.items())
    print(f"{folder.path.name} {path.stat().st_size} {spread}")


def sort_metadata(path):
    """safetensors writes metadata in random order; the same run should give the same bytes."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if metadata := header.get("__metadata__"):
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def check(name, got, function, *modules):
    """With --check: how far the f32 result is from the same in f64."""
    if CHECK:
        exact = function(*(copy.deepcopy(m).double() for m in modules))
        error = (got - exact).abs().max() / exact.abs().max()
        print(f"  {name}: f32 is within {error:.1e} of the largest value in f64")


def unet_case(name, arguments, size, tokens, steps):
    folder = Folder(HERE / name)
    unet = folder.unet(arguments)
    b = len(steps)
    sample = given(name, "sample", (b, 4, *size))
    text = given(name, "encoder_hidden_states", (b, tokens, arguments["cross_attention_dim"]))
    timestep = torch.tensor(steps, dtype=torch.float32)
    tensors = {"unet.sample": sample, "unet.timestep": timestep, "unet.encoder_hidden_states": text}
    cond = None
    if dim := arguments.get("time_cond_proj_dim"):
        cond = torch.cat([pipelines.guidance_embedding(8.5 - 3 * i, dim) for i in range(b)])
        tensors["unet.timestep_cond"] = cond

    def predict(module):
        kind = next(module.parameters()).dtype
        c = None if cond is None else cond.to(kind)
        return module(sample.to(kind), timestep, encoder_hidden_states=text.to(kind), timestep_cond=c).sample

    out = predict(unet)
    assert torch.equal(out, predict(read_back(folder.path, "unet", unet)))
    check("noise_pred", out, predict, unet)
    save(folder, {**tensors, "unet.noise_pred": out})


def assert_bounded(vae, decoded):
    """A tiny autoencoder's picture lies in [-1, 1]; seeded weights of an AutoencoderKL go a little further."""
    most = 1 if isinstance(vae, AutoencoderTiny) else 1.5
    assert decoded.abs().max() <= most, decoded.abs().max()


def vae_case(name, arguments, size, batch):
    folder = Folder(HERE / name)
    vae = folder.vae(arguments)
    image = picture(name, "image", (batch, 3, *size))
    latents = pipelines.encode(vae, image)
    noisy = given(name, "latents", tuple(latents.shape)) * 2
    decoded = vae.decode(noisy).sample
    assert_bounded(vae, decoded)
    assert torch.equal(decoded, read_back(folder.path, "vae", vae).decode(noisy).sample)
    check("latents", latents, lambda m: pipelines.encode(m, image.double()), vae)
    check("image", decoded, lambda m: m.decode(noisy.double()).sample, vae)
    save(folder, {
        "vae_encoder.image": image, "vae_encoder.latents": latents, "vae_decoder.latents": noisy,
        "vae_decoder.image": decoded,
    })


def text_case(name, arguments, prefix, pad, prompts):
    folder = Folder(HERE / name)
    encoder, tokenizer = folder.text(arguments, prefix, pad)
    ids, states = pipelines.embed({"text_encoder": encoder, "tokenizer": tokenizer}, prompts)
    check("hidden_states", states, lambda m: m(ids).last_hidden_state, encoder)
    # Row n of the ids is the prompt under the key prompt, prompt_1, ...
    names = ["prompt"] + [f"prompt_{n}" for n in range(1, len(prompts))]
    save(folder, {"text_encoder.input_ids": ids, "text_encoder.hidden_states": states},
         dict(zip(names, prompts)))


def img2img_case(name, case):
    folder = Folder(HERE / name)
    model = case["model"]
    encoder, tokenizer = folder.text(*model["text"])
    nets = {"unet": folder.unet(model["unet"]), "vae": folder.vae(model["vae"]), "text_encoder": encoder,
            "tokenizer": tokenizer}
    pipelines.write_index(folder.path, case, nets["vae"])
    image = picture(name, "image", (1, 3, *case["size"]))
    latents = tuple(pipelines.encode(nets["vae"], image).shape)
    noise = given(name, "noise", (case["steps"], *latents[1:]))
    noises = [noise[i : i + 1] for i in range(case["steps"])]
    prompts = [cases.PROMPT] + ([case["negative"]] if case["negative"] else [])
    ids, states = pipelines.embed(nets, prompts)
    out, latents, steps = pipelines.step_by_step(nets, case, states, image, noises)
    assert_bounded(nets["vae"], out)
    own = pipelines.whole_pipeline(nets, case, cases.PROMPT, image, noises)
    if own is not None:
        assert torch.allclose(out.clamp(-1, 1), own, atol=1e-5), (out - own).abs().max()
    noise = noise[: len(steps)]
    metadata = {
        "prompt": cases.PROMPT, "steps": str(case["steps"]), "strength": str(case["strength"]),
        "guidance": str(case["guidance"]), "sampler": case["sampler"], "strength_rule": case["rule"],
        "timesteps": ",".join(map(str, steps)), "agrees_with_pipeline": str(own is not None).lower(),
    }
    if case["eta"] is not None:
        metadata["eta"] = str(case["eta"])
    if case["negative"]:
        metadata["negative"] = case["negative"]
        metadata["prompt_1"] = case["negative"]
    save(folder, {
        "text_encoder.input_ids": ids, "text_encoder.hidden_states": states, "img2img.image": image,
        "img2img.noise": noise, "img2img.latents": latents, "img2img.output": out,
    }, metadata)
    print("  timesteps", steps, "pipeline", own is not None, "max", float(out.abs().max()))


def vectors():
    """Values that pin the generator down."""
    wanted = [
        ("conv_in.weight", (32, 4, 3, 3)), ("conv_in.bias", (32,)), ("conv_norm_out.weight", (48,)),
        ("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", (64, 40)),
        ("text_model.embeddings.token_embedding.weight", (562, 48)),
        ("decoder.layers.11.weight", (3, 16, 3, 3)), ("decoder.layers.11.bias", (3,)), ("größe.weight", (5, 7)),
    ]
    rows = []
    for name, shape in wanted:
        flat = weights.tensor(name, shape).ravel()
        raw = weights.values(name, 4)
        rows.append(json.dumps({
            "name": name, "shape": list(shape), "values": [float(v) for v in raw],
            "first": [float(v) for v in flat[:4]], "first_bits": [int(v) for v in flat[:4].view(np.uint32)],
            "last": float(flat[-1]), "sum": float(np.add.accumulate(flat.astype(np.float64))[-1]),
        }, ensure_ascii=False))
    (HERE / "weights_vectors.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    kinds = [(cases.UNETS, unet_case), (cases.VAES, vae_case), (cases.TEXTS, text_case)]
    for table, _ in [*kinds, (cases.PIPELINES, None)]:
        for name in table:
            shutil.rmtree(HERE / name, ignore_errors=True)
    vectors()
    for table, make in kinds:
        for name, arguments in table.items():
            make(name, *arguments)
    for name, case in cases.PIPELINES.items():
        img2img_case(name, case)


if __name__ == "__main__":
    main()
