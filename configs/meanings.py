"""The meaning of each key, from the comments in common.py and groups.py, and its aliases."""

import ast
import difflib
import functools
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from configs import groups
from mixer.models import fields

# Names that other code uses for our keys. One that begins with "--" is a flag.
OTHER_NAMES = {
    "schedule.base": "lr learning_rate base_lr base_learning_rate peak_lr init_lr max_lr rate",
    "schedule.decay": "lr_schedule lr_scheduler scheduler sched lr_decay decay_type",
    "schedule.end": "min_lr end_lr final_lr linear_end",
    "schedule.warmup": "warmup_steps warmup_epochs num_warmup_steps warm_up",
    "total": "epochs num_epochs max_epochs steps num_steps max_steps train_steps total_steps "
    "num_train_epochs num_train_steps training_steps total_epochs num_training_epochs "
    "total_examples iterations duration",
    "batch_size": "batch bs train_batch_size global_batch_size",
    "micro_batches": "accum accum_steps grad_accum grad_accum_steps gradient_accumulation_steps",
    "optimizer.name": "opt optim optimizer_name momentum betas beta1 beta2 b1 b2 optax optax_name "
    "mu_dtype momentum_dtype optim_dtype",
    "optimizer.weight_decay": "wd decay l2 l2_decay_factor",
    "optimizer.clip_norm": "clip clip_grad grad_clip max_grad_norm grad_clip_norm",
    "optimizer.multipliers": "freeze frozen lr_mult",
    "optimizer.layer_decay": "lr_layer_decay layerwise_lr_decay layer_wise_lr_decay llrd",
    "probe.l2": "linear_probe linprobe linear_eval",
    "patience": "early_stopping early_stop stop_early early_stopping_patience "
    "early_stopping_rounds es_patience patience_epochs",
    "best": "metric_for_best_model monitor eval_metric save_best save_best_only",
    "distill.teacher": "teacher teacher_model teacher_path distillation_teacher distill_from",
    "distill.kind": "distillation_type distillation",
    "distill.weight": "distillation_alpha distill_alpha",
    "distill.temperature": "distillation_tau tau kd_temperature temperature",
    "sam.rho": "sam sharpness_aware rho_max gsam",
    "ema_decay": "ema model_ema model_ema_decay polyak",
    "seed": "rng_seed random_seed",
    "label_smoothing": "smoothing",
    "class_weights": "class_weight pos_weight reweight",
    "mixup": "mixup_alpha mixup_p",
    "cutmix": "cutmix_alpha cutmix_p",
    "mixup_switch_prob": "switch_prob mixup_switch_probability cutmix_prob",
    "loss": "criterion loss_fn",
    "image_size": "size resolution res img_size input_size crop_size height width",
    "input.transform": "augment augmentation augmentations aug aa randaug randaugment auto_augment "
    "transforms pp pp_train preprocess preprocessing autoaugment color_jitter random_erasing "
    "reprob remode",
    "input.split": "train_split",
    "input.sampling": "sampler oversample oversampling weighted_sampler class_balanced balanced",
    "input.mixture": "mix mix_weights datasets data_mixture",
    "input.shuffle": "shuffle_buffer shuffle_buffer_size",
    "dataset": "data dataset_name data_path data_root train_dir train_data_dir root",
    "runtime.data_dir": "tfds_data_dir",
    "runtime.workers": "num_workers n_workers",
    "runtime.threads": "num_threads",
    "runtime.strategy": "sharding_strategy sharding",
    "runtime.mesh": "devices gpus num_gpus n_gpus",
    "runtime.log_every": "log_interval log_steps log_every_steps print_freq logging_steps "
    "log_training_steps log_summary_steps",
    "runtime.checkpoint_every": "save_every save_interval save_steps checkpoint_steps ckpt_every "
    "ckpt_steps",
    "runtime.keep_checkpoints": "max_to_keep keep_ckpts save_total_limit",
    "init_from": "pretrained weights checkpoint ckpt init_checkpoint resume finetune load "
    "model_init restore_from",
    "model.name": "arch architecture variant model_name backbone",
    "model.num_classes": "classes nclasses n_classes",
    "model.head_bias_init": "init_head_bias head_bias",
    "model.num_blocks": "depth depths layers num_layers n_layers",
    "model.hidden_dim": "dim embed_dim hidden_size",
    "model.patch_size": "patch patches",
    "model.stochastic_depth": "stoch_depth drop_path drop_path_rate droppath survival_prob",
    "model.dropout": "drop drop_rate dropout_rate",
    "model.dtype": "dtype_mm model_dtype_str precision fp16 bf16 amp half_precision compute_dtype",
    "sweep.grid": "rates lrs learning_rates search_space",
    "writers": "logger loggers log_to report_to log_wandb use_wandb wandb tensorboard trackio "
    "mlflow trackers tracker",
    "evaluators": "eval evals evaluator val_split",
    "every": "eval_every eval_steps eval_interval log_eval_steps log_epochs",
    "--workdir": "output_dir out_dir output outdir save_dir log_dir logdir work_dir model_dir",
}


def near(name: str, keys: Iterable[str]) -> list[str]:
    """Up to three keys or flags that `name` most likely means."""
    keys = sorted(keys, key=lambda key: key.count("."))  # stable; keys in groups come last
    if name in keys:  # the key is right, its flag is malformed
        return [name]
    found = called(name, keys)
    if not found:
        close = functools.partial(difflib.get_close_matches, n=1, cutoff=0.75)
        ends = close(_last(name), [key.rpartition(".")[2] for key in keys])
        found = [key for key in keys if _ends_with(key, *ends)] if ends else close(name, keys)
    return list(dict.fromkeys(found))[:3]


def called(name: str, keys: Iterable[str]) -> list[str]:
    """The keys and flags that end in `name`, or that other code calls so."""
    keys, last = list(keys), _last(name)
    found = [key for key in keys if _ends_with(key, last)]
    for other in (key for key, names in OTHER_NAMES.items() if last in names.split()):
        inside = [key for key in keys if key == other or _ends_with(key, other)]
        found += [other] if other.startswith("--") else inside or _within(other, keys)
    return found


def _last(name: str) -> str:
    return name.lower().replace("-", "_").rpartition(".")[2]


def _ends_with(key: str, last: str) -> bool:
    return key == last or key.endswith(f".{last}")


def _within(group: str, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key.startswith(f"{group}.")]


def shown(key: str, prefix: str = "") -> str:
    """Quotes a key for a message, with its meaning if that is short."""
    if key.startswith("--"):
        return f'"{key}"'
    meaning = of_common().get(key, "")
    return f'"{prefix}{key}"' + (f" ({meaning})" if 0 < len(meaning) < 60 else "")


def of(key: str, config: ConfigDict) -> str:
    """The meaning of a key "a.b" of this config, or of a group; "" if it has none.

    An evaluator's key is looked up by the type of its entry, a model's by the field.
    """
    group, *rest = key.split(".")
    if group == "evaluators" and len(rest) == 2:
        kind = config.evaluators[rest[0]].type
        return of_entry(kind if kind in ("fewshot", "knn") else "evaluator").get(rest[1], "")
    if group == "model" and rest and key not in of_common():
        own = f"a field of {config.model.name}, a model of your own"
        return fields.MEANINGS.get(rest[0], own)
    return of_common().get(key, "")


def common_keys() -> list[str]:
    """The keys that all recipes have, without those of models and evaluators."""
    groups = {key.rpartition(".")[0] for key in of_common()}
    return [key for key in of_common() if key not in groups]


@functools.cache
def of_common() -> dict[str, str]:
    """{key or group: its comment} from common.py and groups.py, in their order."""
    found = _of_keys(_COMMON, _COMMON.functions["base"])
    for group in groups.EVERY:
        found |= _of_keys(_GROUPS, _GROUPS.functions[group.__name__])
    return found


def _of_keys(file: "_File", function: ast.FunctionDef) -> dict[str, str]:
    """{key: its comment} for the keys that a function sets, in their order."""
    found = {}
    for statement in function.body:
        if not isinstance(statement, ast.Assign):
            continue
        key = ast.unparse(statement.targets[0])
        if key.startswith("config."):
            key, meaning = key.removeprefix("config."), file.comment_at(statement)
            found[key] = meaning
            for name in _items(statement):
                found[f"{key}.{name}"] = meaning
    return found


@functools.cache
def of_entry(function: str) -> dict[str, str]:
    """{key: its comment} from `common.evaluator`, `fewshot` or `knn`."""
    statements = _COMMON.functions[function].body
    (made,) = (part for part in statements if isinstance(part, ast.Return))
    return {name: _COMMON.comment_at(item) for name, item in _items(made).items()}


def _items(statement: ast.AST) -> dict[str, ast.expr]:
    """The keys and values of the first dict literal in a statement; {} if it has none."""
    for part in ast.walk(statement):
        if isinstance(part, ast.Dict):
            return {k.value: v for k, v in zip(part.keys, part.values, strict=True)}
    return {}


class _File:
    """A file of this folder: its functions, and its comments by line."""

    def __init__(self, name: str):
        code = Path(__file__).with_name(name).read_text(encoding="utf-8")
        parts = ast.parse(code).body
        self.functions = {part.name: part for part in parts if isinstance(part, ast.FunctionDef)}
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        comments = [token for token in tokens if token.type == tokenize.COMMENT]
        self._lines = {token.start[0]: token.string.lstrip("# ") for token in comments}
        self._alone = {c.start[0] for c in comments if not c.line[: c.start[1]].strip()}

    def comment_at(self, node: ast.AST) -> str:
        """The comments right above and beside it, as one text."""
        first = node.lineno
        while first - 1 in self._alone:
            first -= 1
        lines = range(first, node.end_lineno + 1)
        return " ".join(self._lines[line] for line in lines if line in self._lines)


_COMMON, _GROUPS = _File("common.py"), _File("groups.py")
