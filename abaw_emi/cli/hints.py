"""What to type instead of a command line that the parser refuses."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_KEYS = {"lr": "learning_rate", "batch": "batch_size", "wd": "weight_decay", "dropout": "lstm_dropout"}
"""Other names of options of a run that other programs have."""


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
    lists = [word for word in arguments if "," in word and word.replace(",", "").isdigit()]
    if lists and "valid integer" in message:
        return f"values are separated by spaces: {lists[0].replace(',', ' ')}"
    if command == "predict" and "Missing option" in message:
        return "name the run with it, as in --ckpt runs/paper-seed1"
    if command == "ensemble" and "extra argument" in message:
        return "name the runs with --ckpts, and CSV files with --preds"
    return ""


def _find_key(name: str) -> str:
    """The key of a run's option that is called `name`, or nearly so; "" for none."""
    from abaw_emi.config.options import list_options
    from abaw_emi.core.suggest import find_close

    name = _KEYS.get(name, name)
    keys = {option.key.rpartition(".")[2]: option.key for option in reversed(list_options())}
    return keys.get(name) or keys.get(find_close(name, keys), "")
