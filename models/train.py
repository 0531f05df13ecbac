"""Training: whole arrays in memory, seeded, resumable at every epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from boards.errors import UserError
from models import checkpoint as store
from models import tasks
from models.blocks import cost
from models.checkpoint import CheckpointError, copied
from models.colour import Colour, colour
from models.data import augment
from models.data.augment import Augmentation
from models.tasks import Floats, Truth

Rng: TypeAlias = np.random.Generator
Progress: TypeAlias = Callable[[str, int, int], None]  # stage, done, total
Source: TypeAlias = Callable[[int, Rng], tuple[Floats, Floats | None]]  # epoch -> its features and targets
Validate: TypeAlias = Callable[[], tuple[float, float]]  # -> loss (lower is better), measure


@dataclass(frozen=True)
class Recipe:
    """How a net is trained; every family gives one for each size."""

    epochs: int = 30
    batch: int = 64
    learning_rate: float = 4e-3  # peak of AdamW; linear warm-up, then a cosine to zero
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    label_smoothing: float = 0.1
    examples: int = 1_000  # an epoch is so many whole versions of all clips that it has at least these
    pool: int = 4_000  # versions are made, changed as `sound` says, until there are so many examples
    sound: Augmentation = field(default_factory=Augmentation)
    colour: Colour = field(default_factory=Colour)  # another microphone or pitch, drawn anew in every epoch
    mixup: float = 0.0  # α of the Beta distribution; 0: none
    masks: int = 0  # SpecAugment: stretches hidden in time, and as many in frequency
    widest: float = 0.15  # share of the axis that one stretch may hide
    seconds: float | None = None  # of sound in one input, unless asked otherwise; None: as the clips are
    teacher: str = "lite"  # who teaches it, unless asked otherwise: see quantize.teachers; or none

    def versions(self, clips: int) -> int:
        """Return how many versions of `clips` clips are to be made."""
        return max(1, -(-self.pool // clips))


@dataclass(frozen=True)
class History:
    """What happened in each epoch."""

    loss: tuple[float, ...] = ()
    validation_loss: tuple[float, ...] = ()  # empty without validation
    validation_score: tuple[float, ...] = ()

    @property
    def epochs(self) -> int:
        """Return the epochs that were trained."""
        return len(self.loss)


class TrainingError(UserError):
    """Training cannot go on: the loss, or a weight, is not finite."""


def nothing(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """Return `build()`, whose initial weights then depend on `seed` only."""
    import keras

    keras.utils.set_random_seed(seed)
    return build()


def compile_options() -> dict[str, Any]:
    """Return how Keras compiles: XLA on a CPU is slow with convolutions, and slow to compile."""
    import keras

    return {"jit_compile": False if keras.backend.backend() == "tensorflow" else "auto"}


def adapt(net: Any, x: Floats) -> None:
    """Set the statistics of the net's input normalisation to those of features `x` (N, frames, bands).

    A net whose front end normalises already has none and stays as it is; one that makes its features itself
    has it behind them.
    """
    import keras

    layer = next((layer for layer in net.layers if layer.name == "bn0"), None)
    if layer is None:
        return
    if layer.input is not net.input:
        x = predict(keras.Model(net.input, layer.input), x)
    layer.moving_mean.assign(x.mean(axis=(0, 1)))
    layer.moving_variance.assign(x.var(axis=(0, 1)))


def predict(net: Any, x: Floats, batch: int = 256) -> Floats:
    """Return the output (N, …) of `net` for features `x` (N, frames, bands)."""
    from keras import ops

    parts = [net(x[start : start + batch], training=False) for start in range(0, len(x), batch)]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts]).astype(np.float32)


def score(net: Any, data: tuple[Floats, Truth] | None) -> Validate | None:
    """Return the validation on `data` (features, truth): loss and measure of `net`."""
    if data is None:
        return None
    x, y = data
    task = tasks.of(y)

    def validate() -> tuple[float, float]:
        outputs = predict(net, x)
        return task.error(outputs, y), task.score(outputs, y)

    return validate


def fit_on_arrays(
    net: Any,
    x: Floats,
    y: Truth,
    validation: tuple[Floats, Truth] | None = None,
    *,
    recipe: Recipe,
    seed: int,
    versions: int = 1,
    checkpoint: Path | None = None,
    progress: Progress = nothing,
) -> History:
    """Train `net` on features `x` float32 (N·versions, frames, bands) and their truth, see models.tasks.

    The arrays hold `versions` of all N clips one after the other; the epochs take them in turn. The input
    normalisation is set from `x`. Raises what `fit` raises.
    """
    adapt(net, x)
    task = tasks.of(y)
    targets = task.targets(y, net.output_shape[-1], recipe.label_smoothing)
    return fit(
        net,
        epochs_of(x, targets, recipe, versions),
        score(net, validation),
        task.loss(),
        recipe=recipe,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )


def gradients(net: Any, batches: Sequence[tuple[Floats, Truth]]) -> list[dict[str, NDArray[Any]]]:
    """Return the gradients of the task's loss on each batch, for each trainable weight of `net`.

    `net` runs as in inference: without dropout, BatchNorm with its running statistics. Keras has no
    gradient that works on every backend, but plain SGD at rate 1 subtracts exactly that: a step is taken
    and undone. Names as in `models.blocks.cost.weights`.
    """
    import keras

    class Still(keras.Model):  # a functional model would pass its own `training` on
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def call(self, x: Any) -> Any:
            return self.net(x, training=False)

    still = Still()
    still.compile(keras.optimizers.SGD(1.0), tasks.of(batches[0][1]).truth_loss(), run_eagerly=True)
    trainable = {name: variable for name, variable in cost.weights(net).items() if variable.trainable}
    start = {name: copied(variable) for name, variable in trainable.items()}
    found = []
    for x, y in batches:
        still.train_on_batch(x, y)
        found.append({name: start[name] - copied(variable) for name, variable in trainable.items()})
        for name, variable in trainable.items():
            variable.assign(start[name])
    return found


def epochs_of(x: Floats, targets: Floats, recipe: Recipe, versions: int = 1) -> Source:
    """Return the source that takes version after version of `x`, coloured, masked and mixed by `recipe`."""
    clips = len(x) // versions
    several = min(versions, -(-recipe.examples // clips))

    def source(epoch: int, rng: Rng) -> tuple[Floats, Floats]:
        first = epoch * several
        taken = np.concatenate(
            [np.arange(clips) + clips * (v % versions) for v in range(first, first + several)]
        )
        features, wanted = x[taken], targets[taken]
        if recipe.colour != Colour():
            features = colour(features, recipe.colour, rng)
        if recipe.masks:
            features = np.stack([augment.spec_augment(f, rng, recipe.masks, recipe.widest) for f in features])
        if recipe.mixup:
            features, wanted = augment.mixup(features, wanted, rng, recipe.mixup)
        return features, wanted

    return source


def fit(
    net: Any,
    train: Source,
    validate: Validate | None,
    loss: Any,
    *,
    recipe: Recipe,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = nothing,
) -> History:
    """Train `net` on what `train` gives for each epoch; the same seed on the same machine, the same net.

    Nothing stops early and the last weights stay, whatever `validate` says for the record: the rate falls to
    zero over all epochs, most is gained at its end, and a voice or room that was kept for validation prefers
    an early, less certain epoch that is wrong about every other one (10 points on spoken digits).
    `checkpoint` (.npz) is replaced after each epoch; where it exists, training goes on from it. A family's
    own objective has its `loss` inside (None), and a source without targets where it learns from x alone.

    Raises:
        TrainingError: the loss, or a weight after an epoch, is not finite; the net then has those of
            the epoch before.
        CheckpointError: `checkpoint` is broken, or of another recipe, seed or net.
    """
    import keras

    keras.utils.set_random_seed(seed)
    run = _Run(net, recipe, seed, checkpoint)
    count = len(train(0, np.random.default_rng((seed, 0)))[0])
    run.compile(loss, -(-count // recipe.batch))
    run.resume()
    while not run.done:
        run.epoch(train, validate)
        progress("train", run.history.epochs, recipe.epochs)
    return run.history


@dataclass
class _Run:
    """One training run: its state is in the net, its optimiser, `history` and the last `good` weights."""

    net: Any
    recipe: Recipe
    seed: int
    checkpoint: Path | None
    history: History = field(default_factory=History)
    good: list[NDArray[Any]] = field(default_factory=list)

    def compile(self, loss: Any, steps: int) -> None:
        import keras

        total = steps * self.recipe.epochs
        warmup = min(total - 1, max(1, int(total * self.recipe.warmup)))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, total - warmup, warmup_target=self.recipe.learning_rate, warmup_steps=warmup
        )
        optimiser = keras.optimizers.AdamW(
            rate, weight_decay=self.recipe.weight_decay, global_clipnorm=self.recipe.clip_norm
        )
        vectors = [variable for variable in self.net.trainable_variables if len(variable.shape) < 2]
        optimiser.exclude_from_weight_decay(var_list=vectors)
        optimiser.build(self.net.trainable_variables)
        self.net.compile(optimiser, loss, **compile_options())

    @property
    def done(self) -> bool:
        return self.history.epochs >= self.recipe.epochs

    def epoch(self, train: Source, validate: Validate | None) -> None:
        number = self.history.epochs
        rng = np.random.default_rng((self.seed, number))
        x, targets = train(number, rng)
        order = rng.permutation(len(x))
        guard = _guard()
        options = {"batch_size": self.recipe.batch, "shuffle": False, "verbose": 0, "callbacks": [guard]}
        result = self.net.fit(x[order], None if targets is None else targets[order], **options)
        if guard.step:
            self.stop(f"the loss is {guard.loss}", guard.step)
        if not all(np.isfinite(values).all() for values in self.weights()):
            self.stop("a weight is NaN or infinite", -(-len(x) // self.recipe.batch))
        self.record(float(result.history["loss"][0]), validate)
        self.save()

    def stop(self, what: str, step: int) -> NoReturn:
        for variable, value in zip(self.net.variables, self.good, strict=True):
            variable.assign(value)
        done = self.history.epochs
        kept = f"weights of epoch {done}" if done else "first weights"
        raise TrainingError(
            f"{what} at step {step} of epoch {done + 1}, learning rate "
            f"{self.recipe.learning_rate:g}: lower it; the {kept} stay"
        )

    def record(self, loss: float, validate: Validate | None) -> None:
        old = self.history
        losses, scores = old.validation_loss, old.validation_score
        if validate is not None:
            now, share = validate()
            losses, scores = (*losses, now), (*scores, share)
        self.history = History((*old.loss, loss), losses, scores)
        self.good = self.weights()

    def weights(self) -> list[NDArray[Any]]:
        return [copied(variable) for variable in self.net.variables]

    def identity(self) -> str:
        shapes = [list(variable.shape) for variable in self.net.variables]
        return json.dumps({"recipe": asdict(self.recipe), "seed": self.seed, "shapes": shapes})

    def save(self) -> None:
        if self.checkpoint is None:
            return
        meta = {"identity": np.array(self.identity()), "history": np.array(json.dumps(asdict(self.history)))}
        optimiser = {f"optimiser{i}": copied(v) for i, v in enumerate(self.net.optimizer.variables)}
        now = {f"weight{i}": v for i, v in enumerate(self.good)}
        store.write(self.checkpoint, {**meta, **optimiser, **now})

    def resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            self.good = self.weights()
            return
        arrays = store.read(self.checkpoint)
        if str(arrays.get("identity")) != self.identity():
            what = f"{self.checkpoint}: is of another recipe, seed or net"
            raise CheckpointError(f"{what}; remove it to start anew")
        for name, variables in (("optimiser", self.net.optimizer.variables), ("weight", self.net.variables)):
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{name}{i}"])
        self.good = self.weights()
        found = json.loads(str(arrays["history"]))
        loss, losses, correct = (tuple(found[k]) for k in ("loss", "validation_loss", "validation_score"))
        self.history = History(loss, losses, correct)


def _guard() -> Any:
    """Return a Keras callback that stops at the first loss that is no finite number."""
    import keras

    class Guard(keras.callbacks.Callback):
        step: int = 0  # from 1; 0: all was well
        loss: float = 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if not np.isfinite(float(logs["loss"])):
                self.step, self.loss = batch + 1, float(logs["loss"])
                self.model.stop_training = True

    return Guard()
