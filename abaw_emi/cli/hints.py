"""What to type instead of a command line that the parser refuses."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_KEYS = {"lr": "learning_rate", "batch": "batch_size", "wd": "weight_decay", "dropout": "lstm_dropout"}
"""Other names of options of a run that other programs have."""


_SPAN = re.compile(r"\d+(,\d+)+|\d+-\d+")
"""Several integers, as they are not written here: "1,2,3", "1-3"."""

_LONGEST = 20
"""The longest span that is written out."""

_RUNS_FIRST = "combine runs with abaw-emi ensemble --ckpts RUN..., and name the CSV with --preds"
_NO_OPTION = "predictions come first, then labels, without an option: PREDS LABELS"
_COMPARED = "systems come first, and the label file last, without an option: PREDS PREDS LABELS"
_PRESETS = "name presets with --presets"
_ARGUMENT = ""

_MEANT = {
    ("train", _ARGUMENT): "name a preset with --preset",
    ("sweep", _ARGUMENT): _PRESETS,
    ("pipeline", _ARGUMENT): _PRESETS,
    ("prepare", _ARGUMENT): _PRESETS,
    ("audit", _ARGUMENT): "name the data folder with --data",
    ("ensemble", _ARGUMENT): "name the runs with --ckpts, and CSV files with --preds",
    ("ensemble", "--runs"): "name the runs with --ckpts, as in --ckpts runs/*",
    ("runs", "--runs"): "name the folder alone: abaw-emi runs FOLDER",
    ("score", _ARGUMENT): "name rivals with --against, or use abaw-emi compare PREDS PREDS LABELS",
    ("score", "--preds"): _NO_OPTION,
    ("score", "--labels"): _NO_OPTION,
    ("score", "--ckpt"): _NO_OPTION,
    ("score", "--ckpts"): _NO_OPTION,
    ("compare", "--labels"): _COMPARED,
    ("compare", "--preds"): _COMPARED,
    ("compare", "--ckpts"): _COMPARED,
    ("submit", _ARGUMENT): "name the predictions with --preds",
    ("submit", "--ckpt"): _RUNS_FIRST,
    ("submit", "--ckpts"): _RUNS_FIRST,
    ("set", _ARGUMENT): "enter the score with --test-score",
}
"""What is meant by a word too many, or an option that a command does not have, by command and option."""


def find_hint(command: str, message: str, arguments: Sequence[str], options: Collection[str]) -> str:
    """What was probably meant; "" where nothing is known.

    Args:
        command: its name.
        message: of the parser.
        arguments: of the command.
        options: that it has.
    """
    if "--set" in options and "No such option" in message:
        wanted = next((word for word in arguments if word.startswith("--") and word in message), "")
        key = _find_key(wanted.partition("=")[0].removeprefix("--").replace("-", "_"))
        return f"options of a run are set with --set {key}=VALUE" if key and not key.endswith(".seed") else ""
    for word in arguments:
        if "valid integer" in message and _SPAN.fullmatch(word):
            return f"values are separated by spaces: {_spell_out(word)}"
        if "valid number" in message and re.fullmatch(r"-?\d*,\d+", word):
            return f"with a decimal point: {word.replace(',', '.')}"
    if command == "predict" and "Missing option" in message:
        return "name the run with it, as in --ckpt runs/paper-seed1"
    if "extra argument" in message:
        return _MEANT.get((command, _ARGUMENT), "")
    unknown = re.search(r"No such option: (--[\w-]+)", message)
    return _MEANT.get((command, unknown[1]), "") if unknown else ""


def _spell_out(text: str) -> str:
    """The integers of a list or a span, with spaces between.

    >>> _spell_out("1,2"), _spell_out("1-3")
    ('1 2', '1 2 3')
    """
    first, dash, last = text.partition("-")
    if not dash or int(first) >= int(last):
        return re.sub("[,-]", " ", text)
    numbers = range(int(first), int(last) + 1)
    return " ".join(map(str, numbers)) if len(numbers) <= _LONGEST else f"$(seq {first} {last})"


def _find_key(name: str) -> str:
    """The key of a run's option that is called `name`, or nearly so; "" for none."""
    from abaw_emi.config.options import list_options
    from abaw_emi.core.suggest import find_close

    name = _KEYS.get(name, name)
    keys = {option.key.rpartition(".")[2]: option.key for option in reversed(list_options())}
    return keys.get(name) or keys.get(find_close(name, keys), "")
