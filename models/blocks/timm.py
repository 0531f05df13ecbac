"""Where timm's Vision Transformer keeps the weights of `models.blocks.attention.transformer` (pre-norm)."""

from __future__ import annotations

from models.official import Rule, Turn, linear, part, same


def transformer_rules(prefix: str = "") -> tuple[Rule, ...]:
    """Return the rules of the layers and of the last LayerNorm, with `prefix` before every official key."""
    blocks = rf"{prefix}blocks.{{1-}}."
    found = list(norm_rules(r"layer(\d+)_norm1", f"{blocks}norm1"))
    found += norm_rules(r"layer(\d+)_norm2", f"{blocks}norm2")
    for index, name in enumerate(("query", "key", "value")):
        found += dense_rules(rf"layer(\d+)_{name}", f"{blocks}attn.qkv", index, 3)
    for ours, theirs in (("output", "attn.proj"), ("up", "mlp.fc1"), ("down", "mlp.fc2")):
        found += dense_rules(rf"layer(\d+)_{ours}", f"{blocks}{theirs}")
    return (*found, *norm_rules("norm", f"{prefix}norm"))


def norm_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of one LayerNorm."""
    return (Rule(f"{ours}/gamma", f"{theirs}.weight"), Rule(f"{ours}/beta", f"{theirs}.bias"))


def dense_rules(ours: str, theirs: str, index: int = 0, count: int = 1) -> tuple[Rule, ...]:
    """Return the rules of one Linear, or of part `index` of `count` of a joint one."""

    def turn(plain: Turn) -> Turn:
        return plain if count == 1 else part(index, count, plain)

    return (
        Rule(f"{ours}/kernel", f"{theirs}.weight", turn(linear)),
        Rule(f"{ours}/bias", f"{theirs}.bias", turn(same)),
    )
