"""Text logs: what trainers print, read without being told how; and patterns of the user's."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_monitor.sources.phrases import named_numbers
from smart_monitor.sources.text_log import TextLog
from smart_monitor.sources.user_patterns import BadPattern, UserPatterns, compiled
from tests.sources.cutting import at_once, ignored, in_pieces, read_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


def read(path: Path, text: str | bytes, *patterns: str) -> list[tuple[str, int | None, float | None, dict[str, float]]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found, _ = read_all(TextLog(path, "run", patterns=patterns), {})
    return [(r.by, r.step, r.epoch, dict(r.values)) for r in found]


MEGATRON = (
    " iteration      100/    5000 | consumed samples:    25600 | learning rate: 1.500E-04 | global batch size:   256 "
    "| lm loss: 2.305413E+00 | loss scale: 1.0 | grad norm: 1.234 | number of skipped iterations:   0 |"
)
LINES: list[tuple[str, str, int | None, dict[str, float]]] = [
    ("step 100 | loss 2.31 | lr 1e-4", "step", 100, {"loss": 2.31, "learning_rate": 1e-4}),
    ("iter 100: loss 2.3512, time 12.5ms, mfu 3.20%", "step", 100, {"loss": 2.3512, "mfu": 3.2, "time": 12.5}),
    ("step 250: train loss 2.4, val loss 2.5", "step", 250, {"loss": 2.4, "eval_loss": 2.5}),
    ("Epoch 3/10 … loss=0.3 acc=0.9", "epoch", 3, {"loss": 0.3, "accuracy": 0.9}),
    (
        MEGATRON,
        "step",
        100,
        {
            "loss": 2.305413, "learning_rate": 1.5e-4, "batch_size": 256, "grad_norm": 1.234, "consumed_samples": 25600,
            "loss_scale": 1.0, "number_of_skipped_iterations": 0,
        },
    ),
    ("[2025-11-12 14:30:22,123] INFO trainer: step: 7, loss: 0.5", "step", 7, {"loss": 0.5}),
    ("\x1b[32mEpoch [3/10], Step [100/600], Loss: 0.5\x1b[0m", "step", 100, {"loss": 0.5}),
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.3", "epoch", 1, {"loss": 2.3}),
    ("Epoch: [2]  [ 100/1251]  eta: 0:10:00  lr: 0.1  loss: 6.9 (6.95)", "epoch", 2, {"loss": 6.9, "learning_rate": 0.1}),
    ("iter: 19  total_loss: 3.2  loss_cls: 1.5  lr: 0.0002", "step", 19, {"loss": 3.2, "loss_cls": 1.5, "learning_rate": 2e-4}),
    ("Validation | step 200 | loss 2.2", "step", 200, {"eval_loss": 2.2}),
    ("{'loss': 0.5, 'grad_norm': 1.5, 'learning_rate': 2e-05, 'epoch': 2.0}", "epoch", 2,
     {"loss": 0.5, "grad_norm": 1.5, "learning_rate": 2e-5}),
    ("{'loss': '0.5', 'learning_rate': '2e-05', 'epoch': '2'}", "epoch", 2, {"loss": 0.5, "learning_rate": 2e-5}),
    (' 10%|█ | 1/10 [00:01<00:09]{"step": 3, "loss": 0.25}', "step", 3, {"loss": 0.25}),
    ("step 1,234 loss 0.5", "step", 1234, {"loss": 0.5}),
    ("step 1,234,000 | loss 2,345.6", "step", 1234000, {"loss": 2345.6}),
    ("Steps:   1%|  | 12/1000 [00:10<16:30,  1.00s/it, step_loss=0.3]", "step", 12, {"loss": 0.3}),
    ("  3%|▎ | 12/375 [00:13<08:00,  1.31s/it, loss=2.3]", "step", 12, {"loss": 2.3}),
    ("12it [00:13,  1.31it/s, loss=2.3]", "step", 12, {"loss": 2.3}),
    ("train: [=>   ] data=0000128/0000460 loss=3.02345±0.01234 acc=42.23±0.12% t=00:00:22", "step", 128,
     {"loss": 3.02345, "accuracy": 42.23, "data": 128}),
    ("completed step: 10, seconds: 0.512, loss: 10.2", "step", 10, {"loss": 10.2, "seconds": 0.512}),
    (" validation loss at iteration 1000 | lm loss value: 3.456789E+00 | lm loss PPL: 3.171389E+01 | ", "step", 1000,
     {"eval_loss": 3.456789, "eval/perplexity": 31.71389}),
    ("2021-03-04 10:12:23 | INFO | train_inner | epoch 001:    100 / 1102 loss=12.3, num_updates=100, gnorm=4.5", "step", 100,
     {"loss": 12.3, "grad_norm": 4.5}),
    ("2021-03-04 10:14:33 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 9.8 | num_updates 1102", "step", 1102,
     {"eval_loss": 9.8}),
    ("05/01/2020 10:11:12 - INFO - __main__ - Evaluation: step 5, loss 0.5", "step", 5, {"eval_loss": 0.5}),
    ("INFO:tensorflow:Saving dict for global step 100: accuracy = 0.9, loss = 0.3", "step", 100,
     {"eval_accuracy": 0.9, "eval_loss": 0.3}),
    ("[5,  2000] loss: 1.234", "epoch", 5, {"loss": 1.234}),
    ("Train: 3 [  50/1251 (  4%)]  Loss: 6.912 (6.95)  LR: 1.000e-06", "epoch", 3, {"loss": 6.912, "learning_rate": 1e-6}),
    ("2023/05/01 10:11:12 - mmengine - INFO - Epoch(train)  [2][  50/7330]  lr: 1e-03  loss: 2.1", "epoch", 2,
     {"loss": 2.1, "learning_rate": 1e-3}),
    ("mmengine - INFO - Iter(train) [   50/80000]  loss: 2.1", "step", 50, {"loss": 2.1}),
    ("mmengine - INFO - Epoch(val) [2][10/10]  loss: 2.1", "epoch", 2, {"eval_loss": 2.1}),
    ("step:2 - actor/grad_norm:np.float64(0.5) - loss:tensor(0.25, device='cuda:0')", "step", 2,
     {"actor/grad_norm": 0.5, "loss": 0.25}),
    ("{'loss': tensor(0.25), 'grad_norm': np.float64(1.5), 'epoch': 2}", "epoch", 2, {"loss": 0.25, "grad_norm": 1.5}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "by", "step", "values"), LINES, ids=[line[0][:30] for line in LINES])
def test_what_trainers_print_is_understood(path: Path, line: str, by: str, step: int | None, values: dict[str, float]) -> None:
    assert [(by, step, values)] == [(b, s, v) for b, s, _, v in read(path, line + "\n")]


@pytest.mark.parametrize(
    "line",
    [
        "loss 2.3", "the loss was 3 times higher", "loss atloss at 1402", "Loading checkpoint at step 100", "lr 1e-4 step 5",
        "torch 2.13.0 loss", "step 100", "loss: 0.5 at 3/10",
        "Map: 3%| | 3/100 [00:01<00:09, 9 examples/s]", "Epoch(val) [1][5/5] loss",
        "accuracy: 2025-11-12", "{'a': 1}", "{'learning_rate': 1e-4}", "step 3 eta: 0:10:00",
    ],
)  # fmt: skip
def test_prose_gives_no_row(path: Path, line: str) -> None:
    assert [] == read(path, line + "\n")


def test_nan_and_infinity_are_read_from_print(path: Path) -> None:
    text = "{'loss': 0.0, 'grad_norm': nan, 'epoch': 0.5}\nstep 3 loss nan\nstep 4: loss=-inf\n"
    first, second, third = read(path, text)
    assert math.isnan(first[3]["grad_norm"])
    assert math.isnan(second[3]["loss"])
    assert -math.inf == third[3]["loss"]


def test_the_last_summary_of_hugging_face_is_no_loss(path: Path) -> None:
    text = "{'train_runtime': 10.5, 'train_samples_per_second': 3.0, 'train_loss': 0.7, 'epoch': 3.0}\n"
    assert [] == [row for row in read(path, text) if "loss" in row[3]]


def test_progress_bars_with_carriage_returns_give_what_they_show_once(path: Path) -> None:
    bars = "".join(f"\rEpoch 3: {n}%|██ | {n}/100 [00:10<00:10, 9.5it/s, loss={0.5 - n // 10 / 100:.2f}]" for n in range(1, 30))
    assert [(3, 0.5), (3, 0.49), (3, 0.48)] == [(s, v["loss"]) for _, s, _, v in read(path, bars + "\n")]


def test_an_epoch_on_a_line_of_its_own_holds_for_the_lines_below(path: Path) -> None:
    text = (
        "Epoch 1/5\n  1/100 - loss: 0.9\r 100/100 [====] - 1s 3ms/step - loss: 0.5 - accuracy: 0.8 - val_loss: 0.6\nEpoch 2/5\n"
    )
    text += "100/100 [====] - 1s 3ms/step - loss: 0.4 - accuracy: 0.9 - val_loss: 0.5\n"
    assert [(1, 0.9), (1, 0.5), (2, 0.4)] == [(s, v["loss"]) for _, s, _, v in read(path, text)]


def test_an_epoch_beside_what_is_no_metric_holds_too_and_an_evaluation_is_of_it(path: Path) -> None:
    text = "Epoch: 07 | Time: 0m 20s\n\tTrain Loss: 0.25 | Train Acc: 91.2%\n\t Val. Loss: 0.5 |  Val. Acc: 90.1%\n"
    assert [
        ("epoch", 7, 7.0, {"loss": 0.25, "accuracy": 91.2}), ("epoch", 7, 7.0, {"eval_loss": 0.5, "eval_accuracy": 90.1})
    ] == read(path, text)  # fmt: skip


def test_an_evaluation_that_does_not_say_when_is_of_the_step_before_it(path: Path) -> None:
    text = "val loss 9.0\nstep 20 | loss 2.0\nval loss 2.25\nTest set: Average loss: 0.5, Accuracy: 9832/10000 (98%)\n"
    assert [
        (20, {"loss": 2.0}), (20, {"eval_loss": 2.25}), (20, {"eval_loss": 0.5, "eval_accuracy": 0.9832})
    ] == [(step, values) for _, step, _, values in read(path, text)]  # fmt: skip


def bars(numbers: range, of: int) -> str:
    return "".join(f"\r {n}%|█ | {n}/{of} [00:01<00:09, 9.9it/s, loss={2 + n / 1000}]" for n in numbers) + "\n"


def test_a_bar_for_each_epoch_counts_on_and_one_that_was_broken_off_begins_anew(path: Path) -> None:
    whole = read(path, bars(range(1, 11), 10) + bars(range(1, 11), 10))
    assert list(range(1, 21)) == [step for _, step, _, _ in whole]
    broken = read(path, bars(range(1, 6), 10) + bars(range(1, 4), 10))
    assert [1, 2, 3, 4, 5, 1, 2, 3] == [step for _, step, _, _ in broken]


@pytest.mark.parametrize(
    ("last", "steps"),
    [
        (b"\r 3%|  | 12/375 [00:13<08:00, 1.31s/it, loss=nan]  ", [12]),
        (b"{'loss': nan, 'step': 12}", [12]),
        (b"step 12 | loss 2.3", []),  # of 2.3456, perhaps
        (b"\r 3%|  | 12/375 [00:13<08:00, 1.31s/it, loss=2.3", []),
    ],
)
def test_the_bar_at_which_training_hangs_is_read_once_the_file_rests(path: Path, last: bytes, steps: list[int]) -> None:
    path.write_bytes(b"step 11 | loss 2.5\n" + last)
    log = TextLog(path, "run")
    first = log.read({}, 1e9, 100.0)
    rested = log.read(first.cursor, 1e9, 105.0)
    assert ([11], steps) == ([r.step for r in first.records], [r.step for r in rested.records])
    with path.open("ab") as file:
        file.write(b"\rstep 13 | loss 2.25\n")
    assert [13] == [r.step for r in log.read(rested.cursor, 1e9, 106.0).records][-1:]


def test_the_mean_over_an_epoch_is_no_loss_where_fairseq_tells_of_the_steps(path: Path) -> None:
    mean = "2021-03-04 10:14:34 | INFO | train | epoch 001 | loss 10.1 | num_updates 200 | train_wall 130\n"
    step = "2021-03-04 10:12:23 | INFO | train_inner | epoch 001:    100 / 200 loss=8.5, num_updates=100\n"
    as_json = '2021-03-04 10:14:34 | INFO | train | {"epoch": 1, "train_loss": "10.1", "train_num_updates": "200"}\n'
    assert [(100, 8.5)] == [(s, v["loss"]) for _, s, _, v in read(path, step + mean + as_json)]
    assert [(200, 10.1)] == [(s, v["loss"]) for _, s, _, v in read(path, mean)]


def test_the_time_stamp_of_a_line_is_its_time(path: Path) -> None:
    path.write_text("2025-11-12 14:30:22,250 step 7 loss 0.5\n")
    record = read_all(TextLog(path, "run"), {})[0][0]
    assert time.mktime((2025, 11, 12, 14, 30, 22, 0, 0, -1)) + 0.25 == record.time


def test_a_users_pattern_names_the_metrics(path: Path) -> None:
    pattern = r"\[it (?P<step>\d+)\] L=(?P<loss>\S+)(?: vl=(?P<val_loss>\S+))?"
    text = "[it 5] L=0.5\n[it 6] L=nan vl=0.7\nother\nstep 7 loss 0.1\n"
    found = read(path, text, pattern)
    assert [5, 6, 7] == [s for _, s, _, _ in found]
    assert 0.7 == found[1][3]["eval_loss"]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(?P<loss>(a+)+)$", "repeats a repeat"),
        (r"(?P<loss>(?:\d+|x)*)", "repeats a repeat"),
        (r"(?P<loss>(?:(?:a|b){1,99})*)", "repeats a repeat"),
        (r".*a.*b.*(?P<loss>\d)", "more than 2 times"),
        (r"(?P<loss>a+a+a+a+b)", "two in a row"),
        (r"loss (\d+)", "names nothing"),
        (r"(?P<loss>", "no regular expression"),
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused_in_a_sentence(path: Path, pattern: str, why: str) -> None:
    with pytest.raises(BadPattern, match=why):
        compiled(pattern)
    path.write_text("step 1 loss 0.5\n")
    seen = TextLog(path, "run", patterns=(pattern,)).read({}, 1e9, 1.0)
    assert why in seen.oddities[0]
    assert [1] == [r.step for r in seen.records]


def test_a_slow_pattern_is_given_up() -> None:
    patterns = UserPatterns((r"(?P<loss>.*a.*b)",), slow=1e-6)
    for _ in range(3):
        patterns.match("a" * 900)
    assert ["and is no longer asked." in sentence for sentence in patterns.troubles()] == [True]
    assert {} == patterns.match("aaab")


@settings(deadline=500, max_examples=40)
@given(
    st.sampled_from(
        [
            "a",
            "a ",
            "loss ",
            "loss:",
            "1",
            "1.",
            "(",
            "a1",
            "step 1/",
            "{'a",
            "nan ",
            "[",
            "1,111",
            "1/1 [0",
            "info | ",
            "data=1",
            "epoch(val) [1",
            "train: 1 [",
            "1,111.1,",
        ]
    )
)
def test_a_long_line_takes_time_in_proportion_to_its_length(part: str) -> None:
    named_numbers(part * (4096 // len(part)))


PART: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 50).map(lambda i: f"step {i} | loss {i / 7!r}".encode()),
    st.integers(0, 9).map(lambda i: f" {i}/9 [00:01<00:02, loss={i / 7!r}]".encode()),
    st.sampled_from([b"val loss 0.5", b"| INFO | train | epoch 1 | loss 2", b"| train_inner | step 9 loss 3"]),
    st.sampled_from([b"", b"Epoch 2/9", b"loss: 0.5", b"{'loss': 0.5, 'epoch': 1.5}", b"\x1b[0m", b"\xff", b"x" * 300]),
    st.binary(max_size=6),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(PART, max_size=12), st.lists(st.integers(0, 300), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cutting_into_appends_gives_the_records_of_one_reading(parts: list[bytes], cuts: list[int], end: bytes) -> None:
    content = end.join(parts)
    with tempfile.TemporaryDirectory() as directory:
        path, other = Path(directory) / "a" / "m.log", Path(directory) / "b" / "m.log"
        whole = at_once(lambda: TextLog(other, "run"), other, content)
        pieces = in_pieces(lambda: TextLog(path, "run"), path, content, cuts)
        assert [r._replace(ids={}) for r in whole] == [r._replace(ids={}) for r in pieces]
        assert [r._replace(seen=None) for r in whole] == list(TextLog(other, "run").whole(ignored))
