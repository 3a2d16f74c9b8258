"""A character-level language model in plain Python: embeddings, one tanh layer, softmax; gradients by hand.

It learns Python's own language reference, the English text that every CPython carries. About
fourteen hundred parameters; momentum SGD with the gradient's norm clipped, as most trainers do.
"""

from __future__ import annotations

import math
import random
from array import array
from operator import mul
from pydoc_data.topics import topics

ALPHABET = " abcdefghijklmnopqrstuvwxyz.,'"
CONTEXT = 3
"""Characters seen to predict the next."""
EMBEDDING = 6
HIDDEN = 24
Vector = list[float]
Example = tuple[tuple[int, ...], int]


def read_text() -> tuple[list[Example], list[Example]]:
    """The text as (context, next character) pairs: training part, held-out part (its last tenth)."""
    words = " ".join(str(topics[name]) for name in sorted(topics)).lower().split()
    text = " ".join(word for word in words if word.strip(".,'()`\"").isalpha())
    codes = [ALPHABET.index(c) for c in text if c in ALPHABET]
    pairs = [(tuple(codes[i - CONTEXT : i]), codes[i]) for i in range(CONTEXT, len(codes))]
    cut = len(pairs) * 9 // 10
    return pairs[:cut], pairs[cut:]


class LanguageModel:
    """Parameters, their momentum, and one training step."""

    def __init__(self, rng: random.Random) -> None:
        letters, inputs = len(ALPHABET), CONTEXT * EMBEDDING
        self.embedding = [[rng.gauss(0, 0.5) for _ in range(EMBEDDING)] for _ in range(letters)]
        self.hidden = [[rng.gauss(0, 1 / math.sqrt(inputs)) for _ in range(inputs)] for _ in range(HIDDEN)]
        self.hidden_bias = [0.0] * HIDDEN
        self.output = [[rng.gauss(0, 0.3 / math.sqrt(HIDDEN)) for _ in range(HIDDEN)] for _ in range(letters)]
        self.output_bias = [0.0] * letters
        self._momentum = [[0.0] * len(row) for row in self._rows()]

    def _rows(self) -> list[Vector]:
        return [*self.embedding, *self.hidden, self.hidden_bias, *self.output, self.output_bias]

    def predict(self, context: tuple[int, ...]) -> tuple[Vector, Vector, Vector]:
        """Inputs, hidden activations and the probability of each character."""
        x = [v for code in context for v in self.embedding[code]]
        h = [math.tanh(sum(map(mul, row, x)) + b) for row, b in zip(self.hidden, self.hidden_bias, strict=True)]
        logits = [sum(map(mul, row, h)) + b for row, b in zip(self.output, self.output_bias, strict=True)]
        top = max(logits)
        weights = [math.exp(v - top) for v in logits]
        total = sum(weights)
        return x, h, [w / total for w in weights]

    def accuracy(self, examples: list[Example]) -> float:
        """Per cent of next characters predicted right."""
        right = 0
        for context, target in examples:
            probabilities = self.predict(context)[2]
            right += probabilities.index(max(probabilities)) == target
        return 100 * right / len(examples)

    def train_step(
        self, batch: list[Example], learning_rate: float, momentum: float = 0.9, clip: float = 1.0
    ) -> tuple[float, float]:
        """One step of momentum SGD; the batch's mean loss in nats and the gradient's norm before clipping."""
        gradients = [[0.0] * len(row) for row in self._rows()]
        loss = sum(self._backward(context, target, gradients) for context, target in batch) / len(batch)
        norm = math.sqrt(sum(sum(map(mul, row, row)) for row in gradients)) / len(batch)
        scale = min(1.0, clip / norm if norm > 0 else 1.0) / len(batch)
        for row, velocity, gradient in zip(self._rows(), self._momentum, gradients, strict=True):
            for i, g in enumerate(gradient):
                velocity[i] = momentum * velocity[i] + scale * g
                row[i] -= learning_rate * velocity[i]
        return loss, norm

    def _backward(self, context: tuple[int, ...], target: int, gradients: list[Vector]) -> float:
        """Add one example's gradient to `gradients` (in the order of `_rows`); its loss."""
        x, h, probabilities = self.predict(context)
        loss = -math.log(max(probabilities[target], 1e-30))
        letters = len(ALPHABET)
        hidden_at, output_at = letters, letters + HIDDEN + 1
        d_logits = probabilities
        d_logits[target] -= 1
        d_h = [0.0] * HIDDEN
        for k, d in enumerate(d_logits):
            if abs(d) < 1e-4:  # characters that are out of the question: most of them, and nothing to learn from
                continue
            gradients[output_at + k] = [g + d * v for g, v in zip(gradients[output_at + k], h, strict=True)]
            gradients[-1][k] += d
            d_h = [g + d * w for g, w in zip(d_h, self.output[k], strict=True)]
        d_x = [0.0] * len(x)
        for j, d in enumerate(d_h):
            d *= 1 - h[j] * h[j]
            gradients[hidden_at + j] = [g + d * v for g, v in zip(gradients[hidden_at + j], x, strict=True)]
            gradients[hidden_at + HIDDEN][j] += d
            d_x = [g + d * w for g, w in zip(d_x, self.hidden[j], strict=True)]
        for place, code in enumerate(context):
            part = d_x[place * EMBEDDING : (place + 1) * EMBEDDING]
            gradients[code] = [g + d for g, d in zip(gradients[code], part, strict=True)]
        return loss

    def tensors(self) -> dict[str, tuple[list[int], array[float]]]:
        """Name -> shape and values, row by row, as a checkpoint wants them."""
        matrices = {"embedding.weight": self.embedding, "hidden.weight": self.hidden, "output.weight": self.output}
        vectors = {"hidden.bias": self.hidden_bias, "output.bias": self.output_bias}
        found = {name: ([len(m), len(m[0])], array("f", [v for row in m for v in row])) for name, m in matrices.items()}
        return found | {name: ([len(v)], array("f", v)) for name, v in vectors.items()}
