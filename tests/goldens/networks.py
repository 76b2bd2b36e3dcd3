"""Makes networks with seeded weights and writes their folders."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

import tokenizer as tok
import weights

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"
TEXT_FILE = "text_encoder/model.safetensors"


class Folder:
    """The folder of one case, and the list of its weights."""

    def __init__(self, path: Path):
        self.path, self.rows = path, []
        path.mkdir(parents=True)

    def fill(self, module, file, prefix=""):
        """Gives every weight its seeded values under the name that it has in `file`."""
        state = {}
        for name, old in module.state_dict().items():
            shape = tuple(old.shape)
            self.rows.append({"file": file, "name": prefix + name, "shape": list(shape)})
            state[name] = torch.from_numpy(weights.tensor(prefix + name, shape))
        module.load_state_dict(state)
        return module.eval()

    def write_list(self):
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in self.rows)
        (self.path / "weights.json").write_text(f"[\n{rows}\n]\n")

    def unet(self, arguments):
        module = self.fill(UNet2DConditionModel(**arguments), UNET_FILE)
        module.save_config(self.path / "unet")
        return module

    def vae(self, arguments):
        made = AutoencoderKL if "block_out_channels" in arguments else AutoencoderTiny
        module = self.fill(made(**arguments), VAE_FILE)
        module.save_config(self.path / "vae")
        return module

    def text(self, arguments, prefix, pad):
        """A text encoder and its tokenizer."""
        tokenizer = tok.write(self.path / "tokenizer", pad)
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        config = CLIPTextConfig(**arguments, **ids, pad_token_id=tokenizer.pad_token_id, vocab_size=len(tokenizer))
        module = CLIPTextModel(config)
        module.config.architectures = ["CLIPTextModel"]
        module.config.save_pretrained(self.path / "text_encoder")
        names = module.state_dict()
        # Checkpoints of transformers before 5 have a `text_model.` in front of every name.
        assert not any(name.startswith("text_model.") for name in names)
        return self.fill(module, TEXT_FILE, prefix), tokenizer


def read_back(folder: Path, network: str, module):
    """A second module from the folder's config, to show that the config says it all."""
    config = json.loads((folder / network / "config.json").read_text())
    again = type(module).from_config(config).eval()
    again.load_state_dict(module.state_dict())
    return again
