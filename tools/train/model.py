"""The embedded models in PyTorch: Qwen 3, dense or with experts, as GGUF's architectures `qwen3` and `qwen3moe` have it.

Shapes: B sequences of T tokens, D = n_embd, H query heads and G key/value heads of C = head_dim each, E experts of F."""
import dataclasses

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass
class Config:
    name: str
    n_vocab: int
    n_ctx: int
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int              # of one expert, or of the dense feed-forward network
    n_expert: int = 0      # 0: dense
    n_expert_used: int = 0
    rope_base: float = 10000.0
    norm_eps: float = 1e-6

    @property
    def architecture(self):
        return "qwen3moe" if self.n_expert else "qwen3"


CONFIGS = {
    # Widths of the model and of its experts are multiples of 256, so that every number format applies.
    "moe": Config("Quern story MoE", n_vocab=1536, n_ctx=512, n_layer=4, n_embd=256, n_head=4, n_head_kv=2, head_dim=64,
                  n_ff=256, n_expert=8, n_expert_used=2),
    "draft": Config("Quern story draft", n_vocab=1536, n_ctx=512, n_layer=3, n_embd=128, n_head=4, n_head_kv=2,
                    head_dim=32, n_ff=384),
}


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(config, n, device=None):
    """cos and sin, each [n, C / 2], of position times base^(-2 i / C)."""
    half = config.head_dim // 2
    rate = config.rope_base ** (-torch.arange(half, device=device) / half)
    angle = torch.arange(n, device=device)[:, None] * rate
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """Rotates pairs (i, i + C / 2); x: [B, heads, T, C]."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.widths = [c.n_head * c.head_dim, c.n_head_kv * c.head_dim, c.n_head_kv * c.head_dim]
        self.qkv = nn.Parameter(torch.empty(sum(self.widths), c.n_embd))
        self.out = nn.Parameter(torch.empty(c.n_embd, c.n_head * c.head_dim))
        self.q_norm = RMSNorm(c.head_dim, c.norm_eps)
        self.k_norm = RMSNorm(c.head_dim, c.norm_eps)

    def forward(self, x, cos, sin, mask):
        c, (n_seq, n_token, _) = self.config, x.shape
        q, k, v = (part.view(n_seq, n_token, -1, c.head_dim).transpose(1, 2)
                   for part in F.linear(x, self.qkv).split(self.widths, -1))
        q = rope(self.q_norm(q), cos, sin) * c.head_dim ** -0.5
        k = rope(self.k_norm(k), cos, sin)
        k, v = (kv[:, :, None].expand(-1, -1, c.n_head // c.n_head_kv, -1, -1).reshape(q.shape) for kv in (k, v))
        weights = (q @ k.transpose(2, 3) + mask).softmax(-1)  # [B, H, T, T]
        return F.linear((weights @ v).transpose(1, 2).reshape(n_seq, n_token, -1), self.out)


class Permute(torch.autograd.Function):
    """Rows in another order. The gradient gathers as well, which is faster on a CPU than scattering."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.inverse = inverse
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.inverse), None, None


class Repeat(torch.autograd.Function):
    """Row order[i] // k of x at i: each of the rows of x k times, in a new order."""

    @staticmethod
    def forward(ctx, x, order, inverse, k):
        ctx.inverse, ctx.k = inverse, k
        return x.index_select(0, order // k)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.inverse).view(-1, ctx.k, grad.shape[1]).sum(1), None, None, None


class Experts(nn.Module):
    """The n_expert_used best experts of each token; their softmax weights sum to 1."""

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.router = nn.Parameter(torch.empty(c.n_expert, c.n_embd))
        self.gate_up = nn.Parameter(torch.empty(c.n_expert, 2 * c.n_ff, c.n_embd))
        self.down = nn.Parameter(torch.empty(c.n_expert, c.n_embd, c.n_ff))
        self.balance = torch.zeros(())   # of the last call, to be minimised: 1 when all experts are used alike
        self.chosen = None               # experts that the last call chose: [N, n_expert_used]

    def forward(self, x):
        c, shape = self.config, x.shape
        x = x.reshape(-1, c.n_embd)
        probs = F.linear(x, self.router).softmax(-1)  # [N, E]
        weights, chosen = probs.topk(c.n_expert_used, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order), device=order.device)
        counts = torch.bincount(flat, minlength=c.n_expert)
        self.chosen = chosen
        # Fedus, Zoph, Shazeer 2021, "Switch Transformers", equation 4: E sum_i f_i P_i
        self.balance = c.n_expert * (counts / counts.sum() * probs.mean(0)).sum()
        rows = Repeat.apply(x, order, inverse, c.n_expert_used)
        parts = map(feed_forward, rows.split(counts.tolist()), self.gate_up.unbind(), self.down.unbind())
        y = Permute.apply(torch.cat(list(parts)), inverse, order).view(-1, c.n_expert_used, c.n_embd)
        return (y * weights[:, :, None]).sum(1).view(shape)


class Dense(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(2 * config.n_ff, config.n_embd))
        self.down = nn.Parameter(torch.empty(config.n_embd, config.n_ff))

    def forward(self, x):
        return feed_forward(x, self.gate_up, self.down)


def feed_forward(x, gate_up, down):
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attn_norm = RMSNorm(config.n_embd, config.norm_eps)
        self.attn = Attention(config)
        self.ffn_norm = RMSNorm(config.n_embd, config.norm_eps)
        self.ffn = Experts(config) if config.n_expert else Dense(config)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.attn_norm(x), cos, sin, mask)
        return x + self.ffn(self.ffn_norm(x))


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed = nn.Parameter(torch.empty(config.n_vocab, config.n_embd))  # the output's weights as well
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, config.norm_eps)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                into_residual = name.endswith(("attn.out", "ffn.down"))
                std = 0.02 if name == "embed" else p.shape[-1] ** -0.5 * (0.2 if into_residual else 0.6)
                nn.init.normal_(p, 0, std)

    def forward(self, tokens):
        """tokens: [B, T] -> logits [B, T, n_vocab]"""
        n = tokens.shape[1]
        cos, sin = rope_tables(self.config, n, tokens.device)
        mask = torch.full((n, n), float("-inf"), device=tokens.device).triu(1)
        x = F.embedding(tokens, self.embed)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return F.linear(self.norm(x), self.embed)

    def experts(self):
        return [layer.ffn for layer in self.layers if isinstance(layer.ffn, Experts)]
