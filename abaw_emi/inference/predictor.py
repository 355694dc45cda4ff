"""Any audio or video files, waveforms and features to intensities: `load(run).predict(files)`.

Files are decoded, cut and normalised as `abaw-emi predict` does it, so the numbers are the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import polars as pl
import torch

from abaw_emi.audio.clips import Clip, Sound, make_sound, read_sound
from abaw_emi.batching.examples import Example, InputSpec
from abaw_emi.batching.texts import join_texts
from abaw_emi.config.pretrained import find_folder
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import FILENAME, SPLITS, OnBadClip, Precision, Split
from abaw_emi.core.errors import EmiError, Problem, RunError, UsageError, collect_errors, shorten_error
from abaw_emi.core.files import AnyPath, check_writable
from abaw_emi.core.progress import Reporter
from abaw_emi.core.suggest import check_choice
from abaw_emi.data.folder import DataFolder
from abaw_emi.ensembling.combine import write_ensemble
from abaw_emi.features.reader import FeatureClip
from abaw_emi.inference.arguments import Input, check_arguments, check_waveform, hold_features
from abaw_emi.inference.members import predict_runs
from abaw_emi.inference.predict import load_run, predict, read_spec, verify_weights
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.publish import PUBLISHED, stage_run
from abaw_emi.runs.run import Run, find_run


class Predictor:
    """A trained run, ready to predict.

    Pickled or copied, it is loaded again from the run's folder: what was changed in `model` is not kept.

    Attributes:
        model: in evaluation mode.
        config: of the run.
        runtime: the device and the arithmetic that it runs with.
        run: its folder.
    """

    def __init__(
        self, model: EmiModel, config: RunConfig, spec: InputSpec, runtime: Runtime, run: Run
    ) -> None:
        self.model = model
        self.run = run
        self.config = config
        self.runtime = runtime
        self._spec = spec

    def __reduce__(self) -> tuple[Callable[..., Predictor], tuple[str, str, Precision, bool]]:
        folder = str(self.run.folder.resolve())
        return _reload, (
            folder,
            str(self.runtime.device),
            self.runtime.precision,
            self.runtime.reporter.quiet,
        )

    def predict(
        self,
        inputs: Iterable[Input | None] = (),
        *,
        sample_rate: int | None = None,
        features: Mapping[str, Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """The intensities of each input, one row each, in the order given.

        Args:
            inputs: files of any format that FFmpeg reads, mono waveforms (T,), or None for an input that has
                features only; may be left out for a system that uses no sound.
            sample_rate: of the waveforms, in Hz.
            features: for systems that read features: by name, those of each input, as a file or an array
                (F, D), and for a text encoder the words, as a str; None where an input has none.

        Returns:
            `Filename` (the path as given, or the place of a waveform: "0", "1", ...) and the six emotions,
            float32, raw: they may lie outside [0, 1].

        Raises:
            EmiError: inputs that cannot be read, all together.
        """
        spec = self._spec
        given = dict(features or {})
        rows = check_arguments(spec, inputs, given, sample_rate)
        problems: list[Problem] = []
        examples = []
        for place, source in enumerate(rows):
            with collect_errors(problems):
                arrays = {name: values[place] for name, values in given.items() if values[place] is not None}
                examples.append(self._read(f"{place:09}", source, sample_rate, arrays, spec))
        if problems:
            raise EmiError(problems)
        names = [
            os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(place)
            for place, source in enumerate(rows)
        ]
        # Sorted by Filename, which is the place.
        table = predict(self.model, examples, self.runtime)
        return table.with_columns(pl.Series(FILENAME, names, pl.String))

    def predict_split(
        self,
        data: AnyPath,
        split: Split,
        *,
        features: AnyPath = "features",
        on_bad_clip: OnBadClip = "error",
        out: AnyPath | None = None,
    ) -> pl.DataFrame:
        """The intensities of each clip of a split, sorted by id, as the command `predict` makes them.

        The run's weights predict, not those of a `model` that was changed. What was predicted before is
        taken from the cache.

        Args:
            data: the data folder.
            split: "train", "valid" or "test".
            features: the folder of feature folders that `abaw-emi extract` made, for systems that read them.
            on_bad_clip: "skip" leaves out clips that cannot be read, with a warning each.
            out: a CSV to write, with the record beside it that says what the run was trained on, so that
                `score` of clips seen in training says so. A frame does not say it.

        Returns:
            `Filename` (ids such as "00042") and the six emotions, raw: they may lie outside [0, 1].

        Raises:
            EmiError: the data folder, a clip or the run is not what it should be, all together; or `out`
                cannot be written.
        """
        check_choice("split", split, SPLITS)
        check_choice("on_bad_clip", on_bad_clip, get_args(OnBadClip))
        if out is not None:
            check_writable(Path(out))
        folder = DataFolder(Path(data), Path(features))
        made = predict_runs([self.run], folder, split, self.runtime, on_bad=on_bad_clip)
        if out is not None:
            write_ensemble(made, Path(out), split=split, command="abaw-emi predict")
        return made.members[0].table

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        revision: str | None = None,
        commit_message: str = "A run of abaw_emi",
        token: str | None = None,
    ) -> str:
        """Uploads the run to the Hugging Face hub, where `load(repo_id)` finds it; the address of the commit.

        What is uploaded: the model, its config, card, preprocessor and tokenizer, `run.toml`, and of the
        record what is needed to load and to trust it, without paths on this machine
        (`abaw_emi.runs.publish`); no metrics, predictions or training state.

        Args:
            repo_id: "owner/name"; made where it is not there.
            private: whether a repository that is made is seen by its owner alone; of one that is there,
                nothing changes.
            revision: the branch; None for the main one.
            commit_message: of the commit.
            token: of the hub; None for the one that `hf auth login` stored.

        Raises:
            RunError: the run was changed since it was finished, has no card, or cannot be uploaded.
        """
        from huggingface_hub import HfApi

        verify_weights(self.run)
        hub = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            stage_run(self.run, Path(folder))
            try:
                hub.create_repo(repo_id, private=private, exist_ok=True)
                commit = hub.upload_folder(
                    repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
                )
            except Exception as error:  # of httpx or httpx2, as huggingface_hub's version has it, and others
                found = f"the run cannot be uploaded: {shorten_error(error)}"
                step = "see the id, the network and hf auth login"
                raise RunError(Problem(repo_id, found, next_step=step)) from error
        return str(commit.commit_url)

    def _read_sound(self, name: str, source: Input, sample_rate: int | None, max_seconds: float) -> Sound:
        if isinstance(source, (str, os.PathLike)):
            sound = read_sound(Path(source), max_seconds)
            self.runtime.reporter.warn(sound.warnings)
            return sound
        assert sample_rate is not None, "refused above"
        where = f"waveform {int(name)}"
        return make_sound(check_waveform(source, where), sample_rate, max_seconds, Path(where))

    def _read(
        self,
        name: str,
        source: Input | None,
        sample_rate: int | None,
        arrays: Mapping[str, Any],
        spec: InputSpec,
    ) -> Example:
        """An input as an example."""
        clip = None
        if source is not None and spec.uses_audio:
            clip = Clip(name, self._read_sound(name, source, sample_rate, spec.max_seconds))
        text = None
        if spec.text is not None and spec.text.name in arrays:
            words = arrays[spec.text.name]
            if not isinstance(words, str):
                raise UsageError(Problem(f"{spec.text.name}, input {int(name)}", repr(words)[:80], "a str"))
            text, _ = spec.text.read(name, words)
        held = {
            folder: hold_features(
                arrays[folder], f"{folder}, input {int(name)}", self.model.widths[folder], limits
            )
            for folder, limits in zip(spec.names, spec.limits, strict=True)
            if folder in spec.folders and folder in arrays
        }
        if clip is None and text is None and not held:
            found = f"nothing to predict from, of {' or '.join(spec.modalities)}"
            raise UsageError(Problem(f"input {int(name)}", found))
        read = {name: FeatureClip(name, held, "")} if held else {}
        joined = join_texts(read, {} if text is None else {name: text})
        return Example.join(name, clip, joined.get(name), uses_audio=spec.uses_audio)


def load(
    run: str | os.PathLike[str],
    *,
    revision: str = "main",
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    quiet: bool = False,
) -> Predictor:
    """A trained run, ready to predict audio and video files.

    Args:
        run: a run folder, or the id of one on the Hugging Face hub.
        revision: of a run on the hub: a branch, tag or commit.
        device: "auto", "cpu", "cuda", "cuda:1", ..., or torch's own.
        precision: "auto", "fp32", "bf16" or "fp16"; "auto" is fp32 on a CPU and bf16 on a GPU that has it.
        quiet: whether to show neither progress nor messages; warnings are always shown.

    Raises:
        EmiError: there is no such run, it is not finished, or its weights are not those that it recorded;
            or there is no such device or precision.
    """
    if not isinstance(run, (str, os.PathLike)):
        raise UsageError(
            Problem("run", f"a {type(run).__name__}", "a run folder, or the id of one on the hub")
        )
    check_choice("precision", precision, get_args(Precision))
    path = Path(run)
    # A mistyped "runs/paper-seed1" looks like a hub id: where its folder is, it is none.
    local = path.is_dir() or path.is_absolute() or (len(path.parts) > 1 and path.parent.is_dir())
    found = find_run(path if local else find_folder(str(run), revision, PUBLISHED, "load")[0])
    runtime = Runtime.for_prediction(str(device), precision, Reporter(quiet=quiet))
    model = load_run(found, runtime.device, runtime.precision)
    return Predictor(model, found.read_config(), read_spec(found), runtime, found)


def _reload(folder: str, device: str, precision: Precision, quiet: bool) -> Predictor:
    """What was pickled."""
    return load(folder, device=device, precision=precision, quiet=quiet)
