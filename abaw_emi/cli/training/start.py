"""What `train` looks at before anything slow is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from abaw_emi.core.errors import EmiError, Problem, collect_errors

if TYPE_CHECKING:
    from abaw_emi.config.run import RunConfig
    from abaw_emi.runs.run import Run


def check_start(config: RunConfig, new: Iterable[Run], *, resumes: bool) -> None:
    """Passes if the weights to start from and the run folders are as they should be.

    Args:
        config: of the runs.
        new: runs that are to be made, where none may be there.
        resumes: whether runs may be there that need nothing to start from.

    Raises:
        EmiError: they are not; all problems together.
    """
    from abaw_emi.config.pretrained import check_encoders
    from abaw_emi.data.shard import Shard
    from abaw_emi.runs.lock import find_holder
    from abaw_emi.runs.run import find_run, refuse_there

    problems: list[Problem] = []
    if not resumes:
        for folder in filter(None, (config.training.init_from, *config.training.init_branches)):
            with collect_errors(problems):
                find_run(Path(folder))
    if Shard.read(None).is_whole:  # of several processes, another may have made it by now
        problems += [refuse_there(run) for run in new if run.folder.exists() and not find_holder(run)]
    if problems:
        raise EmiError(problems)
    if not resumes:
        check_encoders(config)  # last: it may have to ask the hub
