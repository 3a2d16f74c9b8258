"""The small real learning problems of the zoo: each has a model, data that can be drawn for ever, and a loss with real gradients.

A task draws everything from its own generator, so that a run is a function of its seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

WORDS = (
    *("the", "a", "one", "small", "old", "red", "quick", "model", "loss", "batch", "step", "run", "night", "river", "stone"),
    *(
        "gradient",
        "falls",
        "rises",
        "learns",
        "reads",
        "writes",
        "finds",
        "keeps",
        "and",
        "or",
        "then",
        "while",
        "under",
        "again",
    ),
)


@dataclass
class Batch:
    """What one training step is made of."""

    inputs: Tensor
    targets: Tensor


@dataclass
class Result:
    """The loss to descend and what else a trainer would print beside it."""

    loss: Tensor
    shown: dict[str, float] = field(default_factory=dict)


class Task:
    """One problem. `noise` scales the irreducible part of its targets where it has one."""

    name = ""

    def __init__(self, seed: int, noise: float = 1.0, width: int = 0):
        self.noise = noise
        self.shift = 0
        self.width = width or self.default_width
        self.draws = torch.Generator().manual_seed(1000 + seed)
        # The world (teacher, text, centres) is its own draw: a restart must not change it.
        self.world = torch.Generator().manual_seed(seed)
        self.build()
        torch.manual_seed(seed)
        self.model = self.fresh()

    default_width = 48

    def build(self) -> None:
        """Make the world that batches are drawn from."""

    def fresh(self) -> nn.Module:
        """An untrained model."""
        raise NotImplementedError

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        """A batch; from the evaluation's own generator where one is given."""
        raise NotImplementedError

    def measure(self, batch: Batch) -> Result:
        """Loss and figures of a batch under the present model."""
        raise NotImplementedError

    def spoil(self, batch: Batch, share: float) -> Batch:
        """The batch with that share of it replaced by what cannot be learnt and looks unlike anything seen."""
        rows = max(1, round(share * len(batch.inputs)))
        inputs, targets = batch.inputs.clone(), batch.targets.clone()
        inputs[:rows], targets[:rows] = self.rubbish(inputs[:rows], targets[:rows])
        return Batch(inputs, targets)

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What takes the place of a spoilt part."""
        raise NotImplementedError


class Text(Task):
    """Characters of made sentences, the next from the 12 before: a small neural language model."""

    name = "text"
    context = 12

    def build(self) -> None:
        picks = torch.randint(len(WORDS), (6000,), generator=self.world).tolist()
        text = " ".join(WORDS[i] + ("." if i % 7 == 0 else "") for i in picks)
        letters = sorted(set(text))
        self.letters = len(letters)
        self.codes = torch.tensor([letters.index(c) for c in text])

    def fresh(self) -> nn.Module:
        wide = self.width
        return nn.Sequential(
            nn.Embedding(self.letters, 12), nn.Flatten(), nn.Linear(12 * self.context, 2 * wide), nn.Tanh(),
            nn.Linear(2 * wide, self.letters),
        )  # fmt: skip

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        starts = torch.randint(len(self.codes) - self.context, (size,), generator=generator or self.draws)
        windows = self.codes[starts[:, None] + torch.arange(self.context + 1)]
        return Batch(windows[:, :-1], (windows[:, -1] + self.shift) % self.letters)

    def measure(self, batch: Batch) -> Result:
        return Result(functional.cross_entropy(self.model(batch.inputs), batch.targets))

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        draw = torch.randint(self.letters, (len(inputs), self.context + 1), generator=self.draws)
        return draw[:, :-1], draw[:, -1]


class Classification(Task):
    """Eight noisy classes in 16 dimensions, each a pair of distant clouds."""

    name = "classification"
    classes = 8

    def build(self) -> None:
        self.centres = 1.6 * torch.randn(2, self.classes, 16, generator=self.world)

    def fresh(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(16, self.width), nn.ReLU(), nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, 8)
        )

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        source = generator or self.draws
        labels = torch.randint(self.classes, (size,), generator=source)
        which = torch.randint(2, (size,), generator=source)
        inputs = self.centres[which, labels] + 1.3 * self.noise * torch.randn(size, 16, generator=source)
        return Batch(inputs, (labels + self.shift) % self.classes)

    def measure(self, batch: Batch) -> Result:
        scores = self.model(batch.inputs)
        right = (scores.argmax(1) == batch.targets).float().mean()
        return Result(functional.cross_entropy(scores, batch.targets), {"accuracy": right.item()})

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return 3 * torch.randn(inputs.shape, generator=self.draws), torch.randint(8, targets.shape, generator=self.draws)


class Regression(Task):
    """A smooth function of 8 variables; with noise 0 a linear one, that can be fitted to the last digit."""

    name = "regression"

    def build(self) -> None:
        self.teacher = torch.randn(8, generator=self.world)

    def fresh(self) -> nn.Module:
        if not self.noise:
            return nn.Linear(8, 1)
        return nn.Sequential(
            nn.Linear(8, self.width), nn.Tanh(), nn.Linear(self.width, self.width), nn.Tanh(), nn.Linear(self.width, 1)
        )

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        source = generator or self.draws
        inputs = torch.randn(size, 8, generator=source)
        line = inputs @ self.teacher
        clean = torch.sin(line) + 0.5 * inputs[:, 0] * inputs[:, 1] if self.noise else line
        targets = clean + 0.3 * self.noise * torch.randn(size, generator=source)
        return Batch(inputs, -targets if self.shift else targets)

    def measure(self, batch: Batch) -> Result:
        return Result(functional.mse_loss(self.model(batch.inputs).squeeze(1), batch.targets))

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, 4 * torch.randn(targets.shape, generator=self.draws)


class Policy(Task):
    """REINFORCE on a contextual bandit of 6 arms; the loss takes both signs and says little, the reward says it."""

    name = "policy"
    arms = 6

    def build(self) -> None:
        self.worth = torch.randn(10, self.arms, generator=self.world)
        self.usual = 0.0

    def fresh(self) -> nn.Module:
        return nn.Sequential(nn.Linear(10, self.width), nn.Tanh(), nn.Linear(self.width, self.arms))

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        inputs = torch.randn(size, 10, generator=generator or self.draws)
        return Batch(inputs, (inputs @ self.worth).roll(self.shift, 1))

    def measure(self, batch: Batch) -> Result:
        logs = functional.log_softmax(self.model(batch.inputs), 1)
        chances = logs.detach().exp()
        if not torch.isfinite(chances).all():
            return Result(logs.sum())
        arms = torch.multinomial(chances, 1, generator=self.draws)
        rewards = batch.targets.gather(1, arms).squeeze(1)
        mean = rewards.mean().item()
        gain = rewards - self.usual
        self.usual += 0.05 * (mean - self.usual)
        return Result(-(logs.gather(1, arms).squeeze(1) * gain).mean(), {"reward": mean})

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, -4 * targets


class Preference(Task):
    """A reward model after Bradley and Terry: of two answers the better, a tenth of the judgements wrong."""

    name = "preference"

    def build(self) -> None:
        self.taste = torch.randn(16, generator=self.world)

    def fresh(self) -> nn.Module:
        return nn.Sequential(nn.Linear(16, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def draw(self, size: int, generator: torch.Generator | None = None) -> Batch:
        source = generator or self.draws
        pairs = torch.randn(size, 2, 16, generator=source)
        worth = pairs @ self.taste
        better = (worth[:, 0] < worth[:, 1]).long()
        wrong = torch.rand(size, generator=source) < 0.1 * self.noise
        return Batch(pairs, torch.where(wrong, 1 - better, better) ^ int(bool(self.shift)))

    def measure(self, batch: Batch) -> Result:
        marks = self.model(batch.inputs).squeeze(2)
        gap = marks[:, 0] - marks[:, 1]
        gap = torch.where(batch.targets == 0, gap, -gap)
        right = (gap > 0).float().mean().item()
        return Result(-functional.logsigmoid(gap).mean(), {"accuracy": right})

    def rubbish(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return 4 * inputs, 1 - targets


TASKS: dict[str, type[Task]] = {t.name: t for t in (Text, Classification, Regression, Policy, Preference)}
