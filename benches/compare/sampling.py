"""Samplers as numbers: each step is a weighted sum of the sample, the UNet's output and fresh noise.

All steps run, as at strength 1; the formulas are those of diffusers' LCMScheduler and
EulerDiscreteScheduler with trailing timesteps. Everything is computed here in f64, before any frame.
"""

import dataclasses
import math

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: the UNet reads input * x at `timestep` and gives m; then x' = a * x + b * m + c * noise."""

    timestep: int
    input: float
    a: float
    b: float
    c: float


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The first sample is signal * latents + noise * z; `steps` follow."""

    signal: float
    noise: float
    steps: tuple


def _alphas(config):
    """The signal's share of the variance at each timestep of training (`scaled_linear` betas)."""
    count = config["num_train_timesteps"]
    first, last = math.sqrt(config["beta_start"]), math.sqrt(config["beta_end"])
    product, alphas = 1.0, []
    for i in range(count):
        product *= 1.0 - (first + i / (count - 1) * (last - first)) ** 2
        alphas.append(product)
    return alphas


def _euler(config, count):
    alphas = _alphas(config)
    train = config["num_train_timesteps"]
    timesteps = [round(train - train * j / count) - 1 for j in range(count)]
    sigmas = [math.sqrt((1 - alphas[t]) / alphas[t]) for t in timesteps]
    steps = []
    for t, sigma, following in zip(timesteps, sigmas, [*sigmas[1:], 0.0], strict=True):
        steps.append(Step(t, 1 / math.sqrt(sigma**2 + 1), 1.0, following - sigma, 0.0))
    return Schedule(1.0, sigmas[0], tuple(steps))


def _lcm(config, count):
    alphas = _alphas(config)
    original = config["original_inference_steps"]
    spacing = config["num_train_timesteps"] // original
    timesteps = [(original - j * original // count) * spacing - 1 for j in range(count)]
    steps = []
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        alpha, beta = math.sqrt(alphas[t]), math.sqrt(1 - alphas[t])
        scaled = t * TIMESTEP_SCALING
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / math.sqrt(scaled**2 + SIGMA_DATA**2)
        of_x, of_m = out / alpha + skip, -out * beta / alpha
        signal, noise = 1.0, 0.0
        if following is not None:
            signal, noise = math.sqrt(alphas[following]), math.sqrt(1 - alphas[following])
        steps.append(Step(t, 1.0, signal * of_x, signal * of_m, noise))
    first = timesteps[0]
    return Schedule(math.sqrt(alphas[first]), math.sqrt(1 - alphas[first]), tuple(steps))


def schedule(config, count):
    """The schedule of `count` steps for a `scheduler_config.json`."""
    kinds = {"EulerDiscreteScheduler": _euler, "LCMScheduler": _lcm}
    kind = config["_class_name"]
    if kind not in kinds:
        raise ValueError(f"scheduler `{kind}`, expected one of {', '.join(kinds)}")
    return kinds[kind](config, count)


def guidance_embedding(scale, width):
    """`width` sines and cosines of a guidance scale, which LCM's UNet reads."""
    half = width // 2
    frequencies = [math.exp(-math.log(10000.0) * i / (half - 1)) for i in range(half)]
    angles = [1000.0 * (scale - 1.0) * f for f in frequencies]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
