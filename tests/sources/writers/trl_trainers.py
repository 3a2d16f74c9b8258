"""TRL's trainers on a model of a few thousand parameters, made from a configuration: sft, dpo, reward or grpo."""

import json
import sys

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast

directory, kind = sys.argv[1:3]
words = ["[PAD]", "[EOS]", "[UNK]", *"abcdefgh"]
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
raw.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]")
config = GPT2Config(
    vocab_size=len(words), n_embd=16, n_layer=1, n_head=2, n_positions=64, pad_token_id=0, eos_token_id=1, bos_token_id=1
)
# TRL loads reference models by name, so the model has to lie somewhere.
GPT2LMHeadModel(config).save_pretrained(f"{directory}/base")
model = GPT2LMHeadModel.from_pretrained(f"{directory}/base")
texts = [f"{a} {b} {a} {b}" for a in "abcdefgh" for b in "abcdefgh"]
common = {
    "output_dir": directory, "max_steps": 6, "logging_steps": 2, "save_steps": 3, "per_device_train_batch_size": 2,
    "report_to": [], "use_cpu": True, "bf16": False,
}  # fmt: skip
if kind == "sft":
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_dict({"text": texts})
    trainer = SFTTrainer(model, SFTConfig(**common, max_length=16), train_dataset=data, processing_class=tokenizer)
elif kind == "dpo":
    from trl import DPOConfig, DPOTrainer

    data = Dataset.from_dict({"prompt": texts, "chosen": [" a b"] * 64, "rejected": [" c d"] * 64})
    trainer = DPOTrainer(model, args=DPOConfig(**common, max_length=32), train_dataset=data, processing_class=tokenizer)
elif kind == "reward":
    from trl import RewardConfig, RewardTrainer

    config.num_labels = 1
    data = Dataset.from_dict({"chosen": [t + " a b" for t in texts], "rejected": [t + " c d" for t in texts]})
    trainer = RewardTrainer(
        GPT2ForSequenceClassification(config), RewardConfig(**common, max_length=32), train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
else:
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model, reward_funcs=lambda completions, **_: [float(c.count("a")) for c in completions],
        args=GRPOConfig(**common, num_generations=2, max_completion_length=8),
        train_dataset=Dataset.from_dict({"prompt": texts}), processing_class=tokenizer,
    )  # fmt: skip
trainer.train()
trainer.save_state()
print("\n" + json.dumps(trainer.state.log_history))
