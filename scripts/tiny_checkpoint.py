"""Write a checkpoint of random weights that ComfyUI takes for a small Stable Diffusion 3.

    python scripts/tiny_checkpoint.py OUT.safetensors [--clip none | --clip tiny --config PATH]

ComfyUI reads the shape of the model from the names and sizes of its weights, so two blocks of
width 128 are a whole SD3; decoding is done by the small "TAESD" decoder. Of the text encoder it
reads the sizes from a file of its own (``comfy/sd1_clip_config.json``): with ``none`` there is no
encoder and the text does not change the picture; with ``tiny`` it does, and that file (of a copy
that is used for nothing else) is rewritten.

The same file, byte for byte, each time. Needs torch and safetensors: run it with the Python that
``scripts/real-comfyui`` installs.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

BLOCKS = 2
WIDTH = 64 * BLOCKS  # ComfyUI derives the number of blocks from the width
CHANNELS = 16  # of the latent
PATCH = 2
POSITIONS = 64 * 64
CONTEXT = 4096
POOLED_BIG_CLIP = 1280  # the second CLIP, absent here, still has its place in the pooled vector
DECODER = 64
DECODER_STAGES, DECODER_BLOCKS = 3, 3
VOCABULARY, TOKENS = 49408, 77
TINY_CLIP = {
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_attention_heads": 1,
    "num_hidden_layers": 3,  # the last but one is read, and layer 1 is looked for
    "projection_dim": 64,
}
SEED = 20240612


class Weights:
    """Named tensors, drawn from one generator in the order in which they are asked for."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._generator = torch.Generator().manual_seed(SEED)

    def normal(self, name: str, *shape: int, spread: float) -> None:
        values = torch.randn(shape, generator=self._generator) * spread
        self.tensors[name] = values.to(torch.float16)

    def constant(self, name: str, *shape: int, value: float) -> None:
        self.tensors[name] = torch.full(shape, value, dtype=torch.float16)

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.normal(f"{name}.weight", outputs, inputs, spread=1 / math.sqrt(inputs))
        self.constant(f"{name}.bias", outputs, value=0)

    def convolution(
        self, name: str, outputs: int, inputs: int, *, gain: float = 1.0, bias: bool = True
    ) -> None:
        spread = gain * math.sqrt(2 / (9 * inputs))
        self.normal(f"{name}.weight", outputs, inputs, 3, 3, spread=spread)
        if bias:
            self.constant(f"{name}.bias", outputs, value=0)

    def layer_norm(self, name: str, width: int) -> None:
        self.constant(f"{name}.weight", width, value=1)
        self.constant(f"{name}.bias", width, value=0)


def add_transformer(weights: Weights, prefix: str, pooled: int) -> None:
    """The diffusion model: embeddings, blocks of two streams, a last layer."""
    patch = f"{prefix}x_embedder.proj"
    weights.normal(
        f"{patch}.weight", WIDTH, CHANNELS, PATCH, PATCH, spread=1 / math.sqrt(CHANNELS * PATCH**2)
    )
    weights.constant(f"{patch}.bias", WIDTH, value=0)
    weights.normal(f"{prefix}pos_embed", 1, POSITIONS, WIDTH, spread=0.02)
    for name, inputs in (("t_embedder", 256), ("y_embedder", pooled)):
        weights.linear(f"{prefix}{name}.mlp.0", WIDTH, inputs)
        weights.linear(f"{prefix}{name}.mlp.2", WIDTH, WIDTH)
    weights.linear(f"{prefix}context_embedder", WIDTH, CONTEXT)
    for number in range(BLOCKS):
        block = f"{prefix}joint_blocks.{number}"
        add_stream(weights, f"{block}.context_block", is_last=number == BLOCKS - 1)
        add_stream(weights, f"{block}.x_block", is_last=False)
    weights.linear(f"{prefix}final_layer.linear", CHANNELS * PATCH**2, WIDTH)
    weights.linear(f"{prefix}final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)


def add_stream(weights: Weights, name: str, *, is_last: bool) -> None:
    """One stream of a block; the last one of the text is cut short, for nobody reads it."""
    weights.linear(f"{name}.attn.qkv", 3 * WIDTH, WIDTH)
    weights.linear(f"{name}.adaLN_modulation.1", (2 if is_last else 6) * WIDTH, WIDTH)
    if not is_last:
        weights.linear(f"{name}.attn.proj", WIDTH, WIDTH)
        weights.linear(f"{name}.mlp.fc1", 4 * WIDTH, WIDTH)
        weights.linear(f"{name}.mlp.fc2", WIDTH, 4 * WIDTH)


def add_decoder(weights: Weights, prefix: str) -> None:
    """From latent to picture: numbered layers, of which some have no weights."""
    layer = 1
    weights.convolution(f"{prefix}{layer}", DECODER, CHANNELS)
    layer += 2  # an activation
    for _ in range(DECODER_STAGES):
        for _ in range(DECODER_BLOCKS):
            add_decoder_block(weights, f"{prefix}{layer}")
            layer += 1
        layer += 1  # an enlargement
        weights.convolution(f"{prefix}{layer}", DECODER, DECODER, bias=False)
        layer += 1
    add_decoder_block(weights, f"{prefix}{layer}")
    weights.convolution(f"{prefix}{layer + 1}", 3, DECODER, gain=0.3)


def add_decoder_block(weights: Weights, name: str) -> None:
    """Three convolutions, with activations between them."""
    for number in (0, 2, 4):
        weights.convolution(f"{name}.conv.{number}", DECODER, DECODER, gain=0.5)


def add_text_encoder(weights: Weights, prefix: str) -> None:
    """A CLIP of the sizes in ``TINY_CLIP``."""
    width = TINY_CLIP["hidden_size"]
    embeddings = f"{prefix}text_model.embeddings."
    weights.normal(f"{embeddings}token_embedding.weight", VOCABULARY, width, spread=0.02)
    weights.normal(f"{embeddings}position_embedding.weight", TOKENS, width, spread=0.02)
    for number in range(TINY_CLIP["num_hidden_layers"]):
        layer = f"{prefix}text_model.encoder.layers.{number}"
        weights.layer_norm(f"{layer}.layer_norm1", width)
        weights.layer_norm(f"{layer}.layer_norm2", width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights.linear(f"{layer}.self_attn.{part}", width, width)
        weights.linear(f"{layer}.mlp.fc1", TINY_CLIP["intermediate_size"], width)
        weights.linear(f"{layer}.mlp.fc2", width, TINY_CLIP["intermediate_size"])
    weights.layer_norm(f"{prefix}text_model.final_layer_norm", width)
    weights.normal(
        f"{prefix}text_projection.weight",
        TINY_CLIP["projection_dim"],
        width,
        spread=1 / math.sqrt(width),
    )


def checkpoint(clip: str) -> dict[str, torch.Tensor]:
    """All the weights, by the names that ComfyUI looks for."""
    weights = Weights()
    small = TINY_CLIP["projection_dim"] if clip == "tiny" else 768
    add_transformer(weights, "model.diffusion_model.", small + POOLED_BIG_CLIP)
    add_decoder(weights, "first_stage_model.taesd_decoder.")
    weights.tensors["first_stage_model.vae_scale"] = torch.tensor(1.0)
    weights.tensors["first_stage_model.vae_shift"] = torch.tensor(0.0)
    if clip == "tiny":
        add_text_encoder(weights, "text_encoders.clip_l.transformer.")
    else:  # any key will do: an encoder without parts answers zeros to every text
        weights.constant("text_encoders.placeholder", 1, value=0)
    return weights.tensors


def main() -> None:
    """Write the file, whole or not at all."""
    parser = argparse.ArgumentParser(description="Write a tiny checkpoint of random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip", choices=("tiny", "none"), default="none")
    parser.add_argument("--config", type=Path, help="ComfyUI's sd1_clip_config.json, rewritten")
    options = parser.parse_args()
    if (options.clip == "tiny") != (options.config is not None):
        parser.error("--config goes with --clip tiny")
    partial = options.out.with_suffix(".partial")
    save_file(checkpoint(options.clip), partial, metadata={"about": "random weights, for tests"})
    partial.replace(options.out)
    if options.config is not None:
        sizes = json.loads(options.config.read_text()) | TINY_CLIP
        options.config.write_text(json.dumps(sizes, indent=2) + "\n")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
