#!/usr/bin/env python3
"""Writes a trained model as a GGUF file.

    export.py [--config moe|draft] [--out DIR] [--type TYPE] [--experts TYPE] FILE

reads DIR/CONFIG/checkpoint.pt and DIR/tokenizer.json, as train.py left them. Matrices get the type F16, Q8_0 or Q5_0,
experts their own; what is small and sensitive stays in F32."""
import argparse
import json
import pathlib

import torch

import gguf
import tokenizer
from corpus import ASSISTANT, END, SPECIAL, TEXT_END
from model import CONFIGS, Model

FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q5_0": 8}  # general.file_type

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('role ' ~ message.role ~ ' is not one of system, user, assistant') -}}
    {%- endif -%}
    {{- '<|' ~ message.role ~ '|>' ~ message.content | trim ~ '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '""" + ASSISTANT + """' -}}
{%- endif -%}
"""


def load(folder, name):
    """The trained model and its tokenizer."""
    folder = pathlib.Path(folder)
    model = Model(CONFIGS[name])
    model.load_state_dict(torch.load(folder / name / "checkpoint.pt", map_location="cpu")["model"])
    merges = json.loads((folder / "tokenizer.json").read_text())["merges"]
    return model.eval(), tokenizer.Tokenizer(merges)


def metadata(config, tokens, kind):
    arch, n_special = config.architecture, len(SPECIAL)
    numbers = {"context_length": config.n_ctx, "embedding_length": config.n_embd, "block_count": config.n_layer,
               "feed_forward_length": config.n_ff, "attention.head_count": config.n_head,
               "attention.head_count_kv": config.n_head_kv, "attention.key_length": config.head_dim,
               "attention.value_length": config.head_dim, "vocab_size": config.n_vocab}
    if config.n_expert:
        numbers |= {"expert_count": config.n_expert, "expert_used_count": config.n_expert_used,
                    "expert_feed_forward_length": config.n_ff}
    return [
        ("general.architecture", gguf.STRING, arch),
        ("general.name", gguf.STRING, config.name),
        ("general.license", gguf.STRING, "mit"),
        ("general.description", gguf.STRING, "Tells short stories in simple English and answers questions about them."),
        ("general.languages", gguf.STRING, ["en"]),
        ("general.file_type", gguf.U32, FILE_TYPES[kind]),
        *((f"{arch}.{key}", gguf.U32, n) for key, n in numbers.items()),
        (f"{arch}.attention.layer_norm_rms_epsilon", gguf.F32, config.norm_eps),
        (f"{arch}.rope.freq_base", gguf.F32, config.rope_base),
        ("tokenizer.ggml.model", gguf.STRING, "gpt2"),
        ("tokenizer.ggml.pre", gguf.STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", gguf.STRING, tokens.tokens),
        ("tokenizer.ggml.token_type", gguf.I32, [3] * n_special + [1] * (len(tokens.tokens) - n_special)),
        ("tokenizer.ggml.merges", gguf.STRING, [f"{a} {b}" for a, b in tokens.merges]),
        ("tokenizer.ggml.bos_token_id", gguf.U32, tokens.id[TEXT_END]),
        ("tokenizer.ggml.eos_token_id", gguf.U32, tokens.id[TEXT_END]),
        ("tokenizer.ggml.eot_token_id", gguf.U32, tokens.id[END]),
        ("tokenizer.ggml.padding_token_id", gguf.U32, tokens.id[TEXT_END]),
        ("tokenizer.ggml.add_bos_token", gguf.BOOL, True),
        ("tokenizer.chat_template", gguf.STRING, CHAT_TEMPLATE),
    ]


def tensors(model, kind, expert_kind):
    """[(name as GGUF has it, values, format)]"""
    def matrix(p):
        return p, kind

    def plain(p):
        return p, "F32"

    def experts(p):
        return p, expert_kind

    out = [("token_embd", *matrix(model.embed)), ("output_norm", *plain(model.norm.weight))]
    for i, layer in enumerate(model.layers):
        attn, ffn = layer.attn, layer.ffn
        q, k, v = attn.qkv.split(attn.widths)
        gate, up = ffn.gate_up.chunk(2, -2)
        parts = [("attn_norm", plain(layer.attn_norm.weight)), ("attn_q", matrix(q)), ("attn_k", matrix(k)),
                 ("attn_v", matrix(v)), ("attn_q_norm", plain(attn.q_norm.weight)),
                 ("attn_k_norm", plain(attn.k_norm.weight)), ("attn_output", matrix(attn.out)),
                 ("ffn_norm", plain(layer.ffn_norm.weight))]
        if model.config.n_expert:
            parts += [("ffn_gate_inp", plain(ffn.router)), ("ffn_gate_exps", experts(gate)),
                      ("ffn_up_exps", experts(up)), ("ffn_down_exps", experts(ffn.down))]
        else:
            parts += [("ffn_gate", matrix(gate)), ("ffn_up", matrix(up)), ("ffn_down", matrix(ffn.down))]
        out += [(f"blk.{i}.{name}", *part) for name, part in parts]
    return [(name + ".weight", p.detach().contiguous().numpy(), form) for name, p, form in out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=sorted(CONFIGS), default="moe")
    parser.add_argument("--out", default="build/train", help="folder of runs")
    parser.add_argument("--type", choices=sorted(FILE_TYPES), default="F16", help="of matrices")
    parser.add_argument("--experts", choices=sorted(FILE_TYPES), help="of experts, where they differ")
    parser.add_argument("file")
    options = parser.parse_args()
    model, tokens = load(options.out, options.config)
    most = options.experts or options.type
    gguf.write(options.file, metadata(model.config, tokens, most), tensors(model, options.type, most))


if __name__ == "__main__":
    main()
