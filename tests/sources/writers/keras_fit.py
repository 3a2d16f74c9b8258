"""Keras: CSVLogger, and what fit prints."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", metrics=["mae"])
x, y = np.random.randn(32, 4), np.random.randn(32, 1)
history = model.fit(
    x, y, validation_split=0.25, epochs=5, callbacks=[keras.callbacks.CSVLogger(sys.argv[1] + "/log.csv")], verbose=1
)
rows = history.history
print("\n" + json.dumps([[i, {"loss": rows["loss"][i], "eval_loss": rows["val_loss"][i]}] for i in range(5)]))
