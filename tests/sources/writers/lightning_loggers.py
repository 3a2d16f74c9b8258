"""Lightning: a tiny model, CSVLogger and TensorBoardLogger beside one another, an evaluation each epoch."""

import json
import sys

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

rows = []


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_loss", loss)
        rows.append([self.global_step, {"loss": loss.item()}])
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.layer(batch[0]).pow(2).mean())

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            rows.append([self.global_step - 1, {"eval_loss": self.trainer.callback_metrics["val_loss"].item()}])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


torch.manual_seed(0)
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 4)), batch_size=4)
trainer = lightning.Trainer(
    max_epochs=3, log_every_n_steps=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
    logger=[CSVLogger(sys.argv[1], "csv", flush_logs_every_n_steps=3), TensorBoardLogger(sys.argv[1], "tb")],
)  # fmt: skip
trainer.fit(Model(), data, data)
print(json.dumps(rows))
