"""The convolutional trunks of the PANNs paper (1912.10211), with the names of their blocks in its code."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.blocks.conv import Block

LINE = (3, 1)  # a filter over time alone, for sound


@dataclass(frozen=True)
class Trunk:
    """Blocks, and each one's official name: a module, a pattern whose * is conv or bn, "" without weights."""

    blocks: tuple[Block, ...]
    names: tuple[str, ...]


def numbered(first: int, last: int, pattern: str = "conv_block{}") -> tuple[str, ...]:
    """Return official names with the numbers from `first` to `last`."""
    return tuple(pattern.format(number) for number in range(first, last + 1))


def pairs(*widths: int) -> Trunk:
    """Return the blocks of Cnn14: pairs of 3×3 at each of `widths`, halved behind all but a sixth."""
    blocks = tuple(Block("pair", (width, width), (2, 2), dropout=0.2) for width in widths)
    blocks = (*blocks[:5], *(replace(block, reduce=(1, 1)) for block in blocks[5:]))
    return Trunk(blocks, numbered(1, len(widths)))


def wide_kernels(*widths: int) -> Trunk:
    """Return the blocks of Cnn6: one 5×5 each."""
    blocks = (Block("single", (width,), (2, 2), (5, 5), dropout=0.2) for width in widths)
    return Trunk(tuple(blocks), numbered(1, len(widths)))


def resnet(*counts: int, bottleneck: bool = False) -> Trunk:
    """Return a ResNet of four layers of `counts` blocks between the first and the last block of Cnn14."""
    layers: tuple[Block, ...] = ()
    for number, count in enumerate(counts):
        width = 64 << number
        widths = (width, width, 4 * width) if bottleneck else (width, width)
        layers += _repeated(Block("residual", widths, (2, 2) if number else (1, 1), dropout=0.1), count)
    first, last = (Block("pair", (width, width), dropout=0.2) for width in (64, 2048))
    blocks = (replace(first, reduce=(2, 2)), *layers, Block("pool", (), (2, 2), dropout=0.2), last)
    return Trunk(blocks, ("conv_block1", *_layered(counts), "", "conv_block_after1"))


def mobilenet_v1() -> Trunk:
    """Return MobileNetV1, which pools where the original strides."""
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    separable = (Block("separable", (width,), (reduce, reduce)) for width, reduce in plan)
    blocks = (Block("stem", (32,), (2, 2)), *separable)
    return Trunk(blocks, numbered(0, len(blocks) - 1, "features.{}"))


def mobilenet_v2() -> Trunk:
    """Return MobileNetV2, which pools where the original strides; hidden widths are six times the input's."""
    blocks: tuple[Block, ...] = (
        Block("stem", (32,), (2, 2), activation="relu6"),
        Block("inverted", (16,), activation="relu6"),
    )
    before = 16
    for width, count, reduce in ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 2), (160, 3, 1), (320, 1, 1)):
        for number in range(count):
            halved = (1, 1) if number else (reduce, reduce)
            blocks += (Block("inverted", (6 * before, width), halved, activation="relu6"),)
            before = width
    blocks += (Block("single", (1280,), kernel=(1, 1), activation="relu6"),)
    return Trunk(blocks, numbered(0, len(blocks) - 1, "features.{}"))


def leenet11() -> Trunk:
    """Return LeeNet11: nine filters of three samples, each keeping the largest of three."""
    widths = (64, 64, 128, 128, 128, 128, 128, 256)
    pooling = (Block("single", (width,), LINE, LINE, "centred_max") for width in widths)
    return Trunk((Block("stem", (64,), LINE, LINE, "stride"), *pooling), numbered(1, 9))


def leenet24() -> Trunk:
    """Return LeeNet24: nine pairs, the last of which keeps its places."""
    widths = (96, 128, 128, 256, 256, 512, 512)
    pooling = (Block("pair", (width,) * 2, LINE, LINE, "centred_max", dropout=0.1) for width in widths)
    first = Block("pair", (64, 64), LINE, LINE, "stride", dropout=0.1)
    return Trunk((first, *pooling, Block("pair", (1024, 1024), kernel=LINE)), numbered(1, 9))


def dainet19() -> Trunk:
    """Return DaiNet19: a long first filter, then residual blocks of four."""
    blocks: tuple[Block, ...] = (
        Block("stem", (64,), (4, 1), (80, 1), "stride", time="valid", activation="linear"),
    )
    names: tuple[str, ...] = ("*0",)
    for number, width in enumerate((64, 128, 256, 512), 1):
        blocks += (Block("residual", (width,) * 4, kernel=LINE), Block("pool", (), (4, 1), by="max"))
        names += (f"conv_block{number}", "")
    return Trunk(blocks[:-1], names[:-1])


def res1dnet(*counts: int) -> Trunk:
    """Return a ResNet on sound: seven layers of `counts` blocks, each but the first a quarter as long."""
    blocks: tuple[Block, ...] = (Block("stem", (64,), (5, 1), (11, 1), "stride", activation="linear"),)
    for number, (width, count) in enumerate(zip((64, 128, 256, 512, 1024, 1024, 2048), counts, strict=True)):
        reduce = (4, 1) if number else (1, 1)
        first = Block("residual", (width, width), reduce, LINE, "max", dilation=2, dropout=0.1)
        blocks += _repeated(first, count)
    return Trunk(blocks, ("*0", *_layered(counts)))


def wavegram() -> Trunk:
    """Return the learned image of sound: its channels laid out as 32 bands of four, and a pair over them."""
    stem = Block("stem", (64,), (5, 1), (11, 1), "stride")
    lines = (Block("pair", (width,) * 2, (4, 1), LINE, "max", dilation=2) for width in (64, 128, 128))
    image = Block("pair", (64, 64), (2, 1), dropout=0.2)
    names = ("pre_*0", *numbered(1, 3, "pre_block{}"), "", "pre_block4")
    return Trunk((stem, *lines, Block("fold", (32,)), image), names)


def _repeated(first: Block, count: int) -> tuple[Block, ...]:
    return (first, *(replace(first, reduce=(1, 1)),) * (count - 1))


def _layered(counts: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"resnet.layer{n}.{i}" for n, count in enumerate(counts, 1) for i in range(count))
