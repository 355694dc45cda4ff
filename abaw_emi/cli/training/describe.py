"""Commands that describe what can be trained: presets and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abaw_emi.cli.next_step import PLACES, keep, print_next
from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_FEATURES, Data, Features
from abaw_emi.cli.output import print_result, print_text

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder

PRESETS_EXAMPLES = "Example: abaw-emi presets --data official/"

OPTIONS_EXAMPLES = "Example: abaw-emi options --json | jq -r '.options[].key'"


def presets(data: Data = DEFAULT_DATA, features: Features = DEFAULT_FEATURES) -> None:
    """List the presets: what each is, what it reads, and what of that is missing here."""
    from abaw_emi.config.presets import PRESETS, SUMMARIES
    from abaw_emi.data.folder import DataFolder

    folder = DataFolder(data, features) if data.is_dir() else None
    listed = [
        {"preset": name, "summary": SUMMARIES[name], **_describe_inputs(name, folder)} for name in PRESETS
    ]

    def show() -> None:
        for each in listed:
            missing = each["missing"]
            reads = [f"{name} (missing here)" if name in missing else name for name in each["reads"]]
            print_text(f"{each['preset']}\n    {each['summary']}\n    reads {', '.join(reads)}")
        if folder is None:
            print_text(f"\n{data}: no such folder, so what is missing of the data is not known")
        print_next("train", "--preset", "NAME", *keep(*PLACES))

    print_result({"presets": listed}, show)


def options() -> None:
    """List every option of a run: key for --set, type, default, meaning, and the default's source."""
    from dataclasses import asdict

    from abaw_emi.config.options import list_options

    found = list_options()
    lines = [f"{each.key} = {each.default}    ({each.type})\n    {each.description}" for each in found]
    note = "PAPER and CODE: the paper and its released code; defaults are those of the preset paper."

    def show() -> None:
        print_text("\n".join([*lines, "", note]))
        print_next("train", "--set", "KEY=VALUE")

    print_result({"options": [asdict(each) for each in found]}, show)


def _describe_inputs(preset: str, data: DataFolder | None) -> dict[str, Any]:
    """What a preset reads, and what of it is neither in the data folder nor on this machine."""
    from abaw_emi.config.presets import PRESETS
    from abaw_emi.config.pretrained import is_here, list_encoders
    from abaw_emi.reproduction.requirements import find_missing

    config = PRESETS[preset]
    missing = [] if data is None else list(find_missing(config, data))
    encoders = {encoder.name: is_here(encoder.name, encoder.revision) for encoder in list_encoders(config)}
    missing += [name for name, here in encoders.items() if not here]
    return {"reads": [*config.model.reads, *encoders], "missing": missing}
