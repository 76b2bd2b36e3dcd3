"""Write models/demo (f16, diffusers layout) from the checkpoints in $DREAMGLASS_TRAIN_DIR."""
import json

import torch
from diffusers import AutoencoderTiny, LCMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import data
import prompts
import train_unet
import train_vae

OUT = data.HERE.parent / "models/demo"
STRENGTH, STEPS = 0.2, 1


def index():
    """model_index.json of a StableDiffusionImg2ImgPipeline without a safety checker."""
    names = {"scheduler": ["diffusers", "LCMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
             "vae": ["diffusers", "AutoencoderTiny"], "feature_extractor": [None, None],
             "safety_checker": [None, None], "image_encoder": [None, None]}
    return {"_class_name": "StableDiffusionImg2ImgPipeline", "requires_safety_checker": False, **names}


def main():
    tokenizer = CLIPTokenizer.from_pretrained(train_unet.TOKENIZER)
    vae = AutoencoderTiny(**train_vae.CONFIG, scaling_factor=train_unet.SCALE)
    vae.load_state_dict(torch.load(data.WORK / "vae.pt"))
    net = torch.nn.ModuleDict({"unet": UNet2DConditionModel(**train_unet.UNET),
                               "text": CLIPTextModel(train_unet.text_config(tokenizer))})
    net.load_state_dict(torch.load(data.WORK / "unet.pt"))
    vae.half().save_pretrained(OUT / "vae")
    net["unet"].half().save_pretrained(OUT / "unet")
    net["text"].half().save_pretrained(OUT / "text_encoder")
    LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                 set_alpha_to_one=True, original_inference_steps=50).save_pretrained(OUT / "scheduler")
    (OUT / "model_index.json").write_text(json.dumps(index(), indent=2) + "\n")
    looks = [{"name": "none", "prompt": "a photo"}] + [{"name": k, "prompt": p} for k, p in prompts.MAIN.items()]
    text = {"default": "comic", "steps": STEPS, "strength": STRENGTH, "looks": looks}
    (OUT / "looks.json").write_text(json.dumps(text, indent=2) + "\n")
    for weights in OUT.rglob("*.safetensors"):
        weights.chmod(0o644)
    print("MB", sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file()) / 1e6)


if __name__ == "__main__":
    main()
