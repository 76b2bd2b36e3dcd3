"""Writes the goldens of full-size networks into full/: outputs only, as weights and inputs are seeded.

Weights are rounded to f16, as files of these models hold them, and run in f32. `make test-full` makes the same
files and compares. Takes a few minutes and 8 GB of memory.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

import pipelines
import published
import weights
from generate import sort_metadata
from networks import TEXT_FILE, UNET_FILE, VAE_FILE

HERE = Path(__file__).parent / "full"
# Latent height and width, and the timestep that is run there.
SIZES = {(16, 16): 999, (24, 16): 499}
# Height and width of the picture that an autoencoder is given, and makes.
PICTURE = (64, 96)
TOKENS = 77
# Start, a few words, end, and padding: ids of the published vocabulary.
IDS = [49406, 320, 1125, 539, 320, 2368, 530, 518, 6267, 49407]


def fill(module, prefix=""):
    """Seeded weights as f16 holds them; the names and shapes in the file."""
    rows = []
    for name, old in module.state_dict().items():
        shape = list(old.shape)
        rows.append([prefix + name, shape])
        old.copy_(torch.from_numpy(weights.tensor(prefix + name, shape).astype(np.float16).astype(np.float32)))
    module.eval()
    return rows


def unit(case, tensor, shape):
    return torch.from_numpy(weights.unit(f"input.{case}.{tensor}", shape))


def unet(case, config):
    """noise_pred at every size."""
    module = UNet2DConditionModel.from_config(config)
    rows = fill(module)
    text = unit(case, "encoder_hidden_states", (1, TOKENS, config["cross_attention_dim"]))
    cond = None
    if dim := config.get("time_cond_proj_dim"):
        cond = pipelines.guidance_embedding(8.5, dim)
    results = {} if cond is None else {"unet.timestep_cond": cond}
    for (height, width), step in SIZES.items():
        key = f"{height}x{width}"
        sample = unit(case, f"sample.{key}", (1, 4, height, width))
        out = module(sample, torch.tensor([step]), encoder_hidden_states=text, timestep_cond=cond).sample
        results[f"unet.noise_pred.{key}"] = out
    return rows, results


def vae(case, config):
    """Latents of a picture, and the picture of other latents."""
    module = AutoencoderKL.from_config(config)
    rows = fill(module)
    height, width = PICTURE
    image = unit(case, "image", (1, 3, height, width)) / 2
    latents = unit(case, "latents", (1, 4, height // 8, width // 8))
    return rows, {
        "vae_encoder.latents": pipelines.encode(module, image), "vae_decoder.image": module.decode(latents).sample,
    }


def text_encoder(config):
    """The hidden states of one prompt."""
    module = CLIPTextModel(CLIPTextConfig(**{k: v for k, v in config.items() if k != "torch_dtype"}))
    rows = fill(module, "text_model.")
    ids = torch.tensor([IDS + [IDS[-1]] * (TOKENS - len(IDS))])
    return rows, {"text_encoder.input_ids": ids.to(torch.int32), "text_encoder.hidden_states": module(ids).last_hidden_state}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    torch.set_grad_enabled(False)
    shutil.rmtree(HERE, ignore_errors=True)
    for case, model in published.MODELS.items():
        folder, files, results = HERE / case, {}, {}
        networks = {
            "unet": (UNET_FILE, lambda c, case=case: unet(case, c)),
            "text_encoder": (TEXT_FILE, text_encoder),
            "vae_kl": (VAE_FILE, lambda c, case=case: vae(case, c)),
        }
        for part, (file, run) in networks.items():
            if part in model:
                write(folder / Path(file).with_name("config.json"), model[part])
                files[file], more = run(model[part])
                results |= more
        rows = ",\n".join(f'"{f}": [\n' + ",\n".join(map(json.dumps, r)) + "\n]" for f, r in files.items())
        (folder / "weights.json").write_text("{" + rows + "}\n")
        path = folder / "reference.safetensors"
        save_file({k: v.contiguous() for k, v in results.items()}, path)
        sort_metadata(path)
        print(case, {k: f"{tuple(v.shape)}~{v.float().std():.3f}" for k, v in results.items()}, flush=True)


if __name__ == "__main__":
    main()
