"""Writes lora/: what diffusers computes with LoRAs fused into a small UNet and a small text encoder.

The LoRAs are seeded: `weights.unit("lora.<weight>.down", …)` and `….up`, times GAIN. Every layout of the same LoRA
gives the same result, which is checked here; the tests write the layouts themselves. Needs peft, too.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader
from safetensors.torch import save_file

import cases
import weights
from generate import given, sort_metadata
from networks import Folder

HERE = Path(__file__).parent / "lora"
RANK, ALPHA, GAIN = 4, 2.0, 0.1
# One LoRA on the attention's projections; another, at another weight, on all that kohya's trainers reach.
SCALE = {"attention": 0.8, "all": -0.35}
PROJECTIONS = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")


def targets(kind, shapes):
    """The weights that a LoRA changes."""
    for name, shape in shapes.items():
        is_attention = "attn" in name and name.endswith(PROJECTIONS)
        inner = name.split(".")[0] in ("down_blocks", "mid_block", "up_blocks")
        if is_attention if kind == "attention" else inner and len(shape) > 1:
            yield name.removesuffix(".weight"), shape


def factors(kind, module, shape):
    """`[rank, in, …]` and `[out, rank, …]` of one weight."""
    ones = (1,) * (len(shape) - 2)
    down = weights.unit(f"lora.{kind}.{module}.down", (RANK, *shape[1:])) * GAIN
    up = weights.unit(f"lora.{kind}.{module}.up", (shape[0], RANK, *ones)) * GAIN
    return torch.from_numpy(down), torch.from_numpy(up)


def kohya(kind, shapes):
    state = {}
    for module, shape in targets(kind, shapes):
        key = "lora_unet_" + module.replace(".", "_")
        state[f"{key}.lora_down.weight"], state[f"{key}.lora_up.weight"] = factors(kind, module, shape)
        state[f"{key}.alpha"] = torch.tensor(ALPHA)
    return state


def peft(kind, shapes):
    """Without alphas: they are in the factors."""
    state = {}
    for module, shape in targets(kind, shapes):
        down, up = factors(kind, module, shape)
        state[f"unet.{module}.lora_A.weight"], state[f"unet.{module}.lora_B.weight"] = down, up * (ALPHA / RANK)
    return state


def legacy(kind, shapes):
    """What diffusers wrote before 0.17: attention's projections only."""
    state = {}
    for module, shape in targets(kind, shapes):
        down, up = factors(kind, module, shape)
        parent, _, projection = module.removesuffix(".0").rpartition(".")
        key = f"unet.{parent}.processor.{projection}_lora"
        state[f"{key}.down.weight"], state[f"{key}.up.weight"] = down, up * (ALPHA / RANK)
    return state


def fused(make, state, scale, folder):
    """A fresh UNet with the file `state` fused into it."""
    unet = make()
    path = folder / "lora.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    state, alphas = Loader.lora_state_dict(folder, weight_name=path.name, unet_config=unet.config)
    Loader.load_lora_into_unet(state, network_alphas=alphas, unet=unet)
    unet.fuse_lora(lora_scale=scale)
    path.unlink()
    return unet


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shutil.rmtree(HERE, ignore_errors=True)
    folder = Folder(HERE)
    folder.unet(cases.SD15)
    folder.write_list()
    config = json.loads((HERE / "unet/config.json").read_text())
    make = lambda: Folder.fill(folder, UNet2DConditionModel.from_config(config), "")  # noqa: E731
    sample, text = given("lora", "sample", (1, 4, 12, 16)), given("lora", "encoder_hidden_states", (1, 9, 48))
    run = lambda unet: unet(sample, 499, encoder_hidden_states=text).sample  # noqa: E731
    plain = make()
    shapes = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    base = run(plain)
    results = {"sample": sample, "encoder_hidden_states": text, "base": base}
    layouts = {"attention": [kohya, peft, legacy], "all": [kohya, peft]}
    for kind, of_kind in layouts.items():
        for layout in of_kind:
            out = run(fused(make, layout(kind, shapes), SCALE[kind], HERE))
            change = ((out - base).norm() / base.norm()).item()
            assert change > 0.05, (kind, layout, change)
            first = results.setdefault(kind, out)
            error = ((out - first).norm() / first.norm()).item()
            assert error < 1e-5, (kind, layout, error)
            print(kind, layout.__name__, f"changes {change:.3f}, from the first layout {error:.1e}")
    both = make()
    state = both.state_dict()
    for kind in layouts:
        for name, value in fused(make, kohya(kind, shapes), SCALE[kind], HERE).state_dict().items():
            name = name.replace("base_layer.", "")
            if name in state:
                state[name] += value - plain.state_dict()[name]
    results["both"] = run(both)
    path = HERE / "reference.safetensors"
    save_file({f"lora.{k}": v.contiguous() for k, v in results.items()}, path)
    sort_metadata(path)


if __name__ == "__main__":
    main()
