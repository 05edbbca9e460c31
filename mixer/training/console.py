"""The terminal of a training: log lines, with a progress bar below them."""

import sys

import tqdm

from mixer import output


class Console:
    """Prints log lines, with a progress bar below them on a terminal.

    If nobody can read the output any more, the run continues.
    """

    def __init__(self, total: int, start: int):
        self._bar = None
        if sys.stdout.isatty():
            self._bar = tqdm.tqdm(
                total=total, initial=start, unit="step", dynamic_ncols=True, file=sys.stdout
            )

    def line(self, text: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        with output.tolerate_closed():
            if self._bar is not None:
                self._bar.write(text, file=sys.stdout)
            else:
                print(text, flush=True)

    def tick(self, step: int, metrics: dict[str, float]) -> None:
        """Moves the progress bar to `step`; `metrics` may be empty."""
        if self._bar is not None:
            with output.tolerate_closed():
                self._bar.update(step - self._bar.n)
            if metrics:
                self._bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)

    def close(self) -> None:
        """Removes the progress bar."""
        if self._bar is not None:
            with output.tolerate_closed():
                self._bar.close()


def format_duration(seconds: float) -> str:
    """Formats seconds as 1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
