"""The noise predictor ε̂(z_t, t): a U-net at a single resolution (after arXiv 2102.09672)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 16


class TimeEmbedding(nn.Module):
    """[cos(t f_i), sin(t f_i)], f_i = 10000^(−i / (ch/2)), then two linear layers; t ∈ [0, 1] is not rescaled.

    Arguments:
        channels: ch, an even number.
    """

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        exponents = torch.arange(channels // 2, dtype=torch.float64) / (channels // 2)
        self.register_buffer("frequencies", (10000**-exponents).float(), persistent=False)
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def sinusoid(self, t: Tensor) -> Tensor:
        """Return the sinusoids `(B, ch)` of t `(B,)`."""
        angle = t.unsqueeze(1) * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def forward(self, t: Tensor) -> Tensor:
        """Embed t `(B,)` as `(B, ch)`."""
        embedded: Tensor = self.second(F.silu(self.first(self.sinusoid(t))))
        return embedded


class ResidualBlock(nn.Module):
    """h + conv(dropout(silu(GN(conv(silu(GN(h)))) (1 + a) + b))), [a, b] linear in the embedded time.

    The last convolution starts at 0.

    Arguments:
        inputs, channels: channels of h, and of the output.
        dropout: dropout rate of the features before the last convolution.
    """

    def __init__(self, inputs: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inputs), nn.Conv2d(inputs, channels, 3, padding=1)
        self.film = nn.Linear(channels, 2 * channels)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)
        self.dropout = dropout
        _zero(self.conv2)

    def forward(self, h: Tensor, embedded: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return features `(B, channels, S, S)`.

        Arguments:
            h: `(B, inputs, S, S)`.
            embedded: the embedded time, `(B, channels)`.
            keep: uniform numbers for dropout, with the shape of the features; None for no dropout.
        """
        y = self.conv1(F.silu(self.norm1(h)))
        a, b = self.film(F.silu(embedded))[:, :, None, None].chunk(2, dim=1)
        y = F.silu(self.norm2(y) * (1 + a) + b)
        if keep is not None:
            y = y * (keep >= self.dropout) / (1 - self.dropout)
        out: Tensor = self.skip(h) + self.conv2(y)
        return out


class Attention(nn.Module):
    """h + W softmax(q·k / √ch) v, one attention head over the S² positions; W starts at 0.

    Arguments:
        channels: ch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv, self.proj = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)
        _zero(self.proj)

    def forward(self, h: Tensor) -> Tensor:
        """Mix the positions of h `(B, ch, S, S)`."""
        q, k, v = self.qkv(self.norm(h.flatten(2))).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = h + self.proj(mixed).view_as(h)
        return out


class UNet(nn.Module):
    """A stem, n blocks, block–attention–block, and n + 1 blocks that also see the features of the first half.

    The net starts at ε̂ = 0.

    Arguments:
        colours: channels of z_t.
        channels: channels of the features, a multiple of 16.
        blocks: n.
        dropout: dropout rate in training.
    """

    def __init__(self, colours: int, channels: int, blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.channels, self.dropout = channels, dropout
        self.time, self.stem = TimeEmbedding(channels), nn.Conv2d(colours, channels, 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(channels, channels, dropout) for _ in range(blocks))
        self.middle = nn.ModuleList(ResidualBlock(channels, channels, dropout) for _ in range(2))
        self.attention = Attention(channels)
        self.up = nn.ModuleList(ResidualBlock(2 * channels, channels, dropout) for _ in range(blocks + 1))
        self.norm, self.out = nn.GroupNorm(GROUPS, channels), nn.Conv2d(channels, colours, 3, padding=1)
        _zero(self.out)

    @property
    def masks(self) -> int:
        """Return the number of blocks with dropout."""
        return len(self.down) + len(self.middle) + len(self.up)

    def forward(self, z: Tensor, t: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return ε̂, with the shape of z.

        Arguments:
            z: z_t, `(B, C, S, S)`.
            t: times `(B,)` in [0, 1].
            keep: uniform numbers `(B, masks, ch, S, S)` for dropout; None for no dropout.
        """
        masks = iter([None] * self.masks if keep is None else keep.unbind(1))
        embedded = self.time(t)
        h = self.stem(z)
        kept = [h]
        for block in self.down:
            h = block(h, embedded, next(masks))
            kept.append(h)
        h = self.middle[0](h, embedded, next(masks))
        h = self.middle[1](self.attention(h), embedded, next(masks))
        for block in self.up:
            h = block(torch.cat([h, kept.pop()], dim=1), embedded, next(masks))
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out


def _zero(conv: nn.Conv1d | nn.Conv2d) -> None:
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
