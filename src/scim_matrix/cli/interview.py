"""Asking somebody at a terminal, or taking what was given without one."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import click

from scim_matrix.cli.output import visible
from scim_matrix.cli.trying import Refusal, Trial

Check = Callable[[Trial, str], Coroutine[Any, Any, None]]


class Interview:
    """Asks where there is a terminal (`asks`); what was given is taken, and has to be right.

    What was answered before (`former`) is offered, and taken where nobody can be asked.
    """

    def __init__(self, asks: bool, former: Mapping[str, str]) -> None:
        self.asks = asks
        self.former = former

    def say(self, lines: Iterable[str]) -> None:
        """Show what was found."""
        for line in lines:
            click.echo(f"  {visible(line)}")

    def ask(
        self,
        name: str,
        question: str,
        given: str | None,
        check: Check | None,
        trial: Trial,
        default: str | None = None,
    ) -> None:
        """Put a setting into a trial once it is known to be right."""

        def put(answer: str) -> None:
            trial.settings[name] = answer
            if check is not None:
                asyncio.run(check(trial, answer))

        default = self.former.get(name, default)
        if given is None and not self.asks:
            if default is None:
                option = "--" + name.lower().replace("_", "-")
                raise click.UsageError(f"{option} (or {name}) is needed: {question.lower()}")
            given = default
        if given is not None:
            self.take(lambda: put(given))
            return
        hidden = name.endswith(("_TOKEN", "_SECRET"))
        if hidden and default:
            question += " (Enter keeps the one that is there)"
        while not self.again(lambda: put(self.prompt(question, default, hidden=hidden))):
            pass

    def prompt(self, question: str, default: str | None, *, hidden: bool = False) -> str:
        """Return what somebody types."""
        shown = bool(default)
        answer: str = click.prompt(
            question, default=default, show_default=shown, hide_input=hidden, type=str
        )
        return answer.strip()

    def confirm(self, question: str, given: bool | None, default: bool) -> bool:
        """Return whether somebody agrees; the default where nobody can be asked."""
        if given is not None or not self.asks:
            return default if given is None else given
        return click.confirm(question, default=default)

    def choose(self, question: str, given: str | None, among: Mapping[str, object]) -> str:
        """Return one of several words; the last one where nobody can be asked."""
        if given is not None or not self.asks:
            return given or [*among][-1]
        answer: str = click.prompt(question, type=click.Choice([*among]), default=[*among][-1])
        return answer

    def take(self, step: Callable[[], None]) -> None:
        """Take a step that has to be right."""
        if not self.again(step):
            sys.exit(1)

    def again(self, step: Callable[[], None]) -> bool:
        """Take a step; where it is refused say why and what to do, and return False."""
        try:
            step()
        except Refusal as refusal:
            click.echo(f"  no: {visible(refusal.found)}", err=True)
            click.echo(f"    → {visible(refusal.cure)}", err=True)
            return False
        return True
