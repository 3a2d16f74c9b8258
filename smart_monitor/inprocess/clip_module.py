"""EnhancedLightningCLIPModule: contrastive training over any number of modalities, with all of the above switched on.

An example to start from as much as a module to train: one encoder a modality, a stable similarity of all of them,
cross-entropy along each axis of it, gradient monitoring and clipping.

    model = EnhancedLightningCLIPModule(input_dims=[512, 768, 128], learning_rate=1e-4, stable_loss_version=1)
    lightning.Trainer(max_epochs=3).fit(model, loader)      # the loader gives one tensor [B, d_n] a modality
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from smart_monitor.inprocess.mixin import EnhancedTrainingMixin
from smart_monitor.inprocess.options import positive
from smart_monitor.losses import ImprovedActivations, get_stable_loss_function

try:
    from lightning.pytorch import LightningModule
except ModuleNotFoundError as missing:
    if missing.name != "lightning":
        raise
    from pytorch_lightning import LightningModule

FIRST_SCALE = math.log(1 / 0.07)
MOST_SCALE = math.log(100.0)
"""As in CLIP (Radford et al. 2021): logits are scaled by a learnt factor, at most 100."""


class EnhancedLightningCLIPModule(EnhancedTrainingMixin, LightningModule):  # type: ignore[misc]  # Any without Lightning
    """Aligns N modalities: `forward(*inputs)` gives logits [B, …, B] (N times), the training step their loss.

    learning_rate: of AdamW. enable_gradient_monitoring: a GradientHealthMonitor, `self.grad_monitor`, looks at each step.
    use_stable_loss, stable_loss_version: one of the four stable similarities; without it a plain einsum of normalised
    features. gradient_clip_value: gradients are clipped to this norm; 0 = not. input_dims: features of each modality.
    encoders: modules that make [B, embed_dim] of each, in place of the two-layer ones. Further options go to
    `setup_gradient_monitoring`.

    Raises ValueError for fewer than two modalities.
    """

    def __init__(
        self,
        learning_rate: float = 1e-4,
        enable_gradient_monitoring: bool = True,
        use_stable_loss: bool = True,
        stable_loss_version: int = 1,
        gradient_clip_value: float = 1.0,
        input_dims: Sequence[int] = (512, 512),
        embed_dim: int = 128,
        encoders: Sequence[nn.Module] | None = None,
        **monitoring: Any,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate, embed_dim=embed_dim)
        number = len(encoders) if encoders is not None else len(input_dims)
        if number < 2:
            raise ValueError(f"at least 2 modalities are aligned, not {number}")
        self.clips = gradient_clip_value > 0
        self.setup_gradient_monitoring(
            enable_gradient_monitoring=enable_gradient_monitoring,
            gradient_clip_threshold=gradient_clip_value if self.clips else 1.0, **monitoring,
        )  # fmt: skip
        self.learning_rate = learning_rate
        self.encoders = nn.ModuleList(encoders if encoders is not None else [_encoder(d, embed_dim) for d in input_dims])
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.similarity = get_stable_loss_function(stable_loss_version) if use_stable_loss else plain_similarity

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits of every combination of samples, one axis a modality."""
        if len(inputs) != len(self.encoders):
            raise ValueError(f"{len(self.encoders)} modalities are needed, not {len(inputs)}")
        features = [encoder(x) for encoder, x in zip(self.encoders, inputs, strict=True)]
        return self.similarity(*features) * self.log_scale.clamp(max=MOST_SCALE).exp()

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        loss = contrastive_loss(self(*batch))
        self.log("train/loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        # Once a step, whatever is accumulated, and after mixed precision has unscaled the gradients.
        looked = self.check_and_log_gradients(step=self.global_step, apply_clipping=self.clips)
        if self.clips and not looked and self.grad_monitor is not None:
            self.grad_monitor.apply_gradient_clipping()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)


def contrastive_loss(logits: Tensor) -> Tensor:
    """Cross-entropy along each axis of logits [B]*N, all other indices at the sample's own; the mean over the axes.

    For N = 2 this is CLIP's symmetric loss.
    """
    size, number = logits.shape[0], logits.dim()
    own = torch.arange(size, device=logits.device)
    losses = []
    for axis in range(number):
        rows = logits.movedim(axis, -1)[(own,) * (number - 1)]
        losses.append(functional.cross_entropy(rows, own))
    return torch.stack(losses).mean()


def plain_similarity(*features: Tensor) -> Tensor:
    """The sum over dimensions of the product of normalised features, by one einsum, without any protection."""
    letters = "abcefghijklmnopqrstuvwxyz"[: len(features)]
    unit = [f / f.norm(dim=-1, keepdim=True) for f in features]
    return torch.einsum(",".join(f"{x}d" for x in letters) + f"->{letters}", *unit)


def _encoder(width: int, embed_dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, embed_dim), ImprovedActivations.gelu(), nn.Linear(embed_dim, embed_dim))
