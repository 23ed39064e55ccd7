"""The command itself: its subcommands, its errors as one line, its exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from .. import NOTICE, __version__, interrupt
from ..errors import NO_MEMORY, InputError, NothingDone, missing_package, of_path, out_of_memory
from ..progress import Cancelled
from . import card, drawing, evaluating, listing, making, running
from .terminal import fail

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"See why a neural network said so, on medical volumes. [bold]{NOTICE}.[/bold]\n\n"
    "Start with [cyan]medxai demo[/cyan], then [cyan]medxai info FILE[/cyan] and "
    "[cyan]medxai explain FILE --model CARD -o OUT --snapshot out.png[/cyan].",
)
card_app = typer.Typer(no_args_is_help=True, help="Bring your own network: draft its card, then check it.")
app.add_typer(card_app, name="card")
app.command()(listing.info)
running.add_to(app)
evaluating.add_to(app)
app.command()(drawing.draw)
app.command()(listing.methods)
app.command()(listing.layers)
app.command()(listing.models)
app.command()(making.train)
app.command()(making.demo)
card_app.command("new")(card.card_new)
card_app.command("check")(card.card_check)


def version(wanted: bool) -> None:
    """Print the version, where it is asked for."""
    if wanted:
        print(f"medxai {__version__}. {NOTICE}.")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of no command."""


def main() -> None:
    """Entry point."""
    if not sys.warnoptions:  # what libraries say to their programmers; python -W shows it
        warnings.simplefilter("ignore")
    interrupt.watch()
    code = run(sys.argv[1:])
    if code == interrupt.EXIT_CODE:
        os._exit(code)  # while the interpreter winds down, another Ctrl-C would kill it with the signal's own code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; gives the exit code. Errors of the user's are one line and 2; Ctrl-C is 130."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
    try:
        app(arguments, prog_name="medxai")
    except SystemExit as end:
        return int(end.code or 0)
    except NothingDone as error:
        return fail(" ".join(str(error).split()), 1)
    except InputError as error:
        return fail(" ".join(str(error).split()), 2)
    except ModuleNotFoundError as error:
        return fail(missing_package(error), 1)
    except OSError as error:
        return fail(str(of_path(error)), 2)
    except (KeyboardInterrupt, Cancelled):
        return fail("Stopped; nothing half-written was left.", interrupt.EXIT_CODE)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return fail(NO_MEMORY, 1)
    return 0
