"""Keras, interrupted and taken up by BackupAndRestore, its CSVLogger appending."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np

directory = sys.argv[1]
rows = []


class Row(keras.callbacks.Callback):
    """Remembers each epoch; the first fit is interrupted behind the third."""

    interrupts = True

    def on_epoch_end(self, epoch, logs=None):
        rows.append([epoch, {"loss": float(logs["loss"]), "eval_loss": float(logs["val_loss"])}])

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3 and Row.interrupts:
            raise KeyboardInterrupt


def fit():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    backup = keras.callbacks.BackupAndRestore(f"{directory}/backup")
    logger = keras.callbacks.CSVLogger(f"{directory}/log.csv", append=True)
    model.fit(x, y, validation_split=0.25, epochs=6, verbose=0, callbacks=[backup, logger, Row()])


x, y = np.random.randn(32, 4), np.random.randn(32, 1)
try:
    fit()
except KeyboardInterrupt:
    Row.interrupts = False
fit()
print("\n" + json.dumps(rows))
