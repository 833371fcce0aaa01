"""The command line of the experiments; each lives in a module of its own."""

import argparse
from importlib import import_module

from skcoteach.benchmarks.options import OptionError

#: Modules beside this one.
EXPERIMENTS = (
    "accuracy", "confident_learning", "demo", "digits", "distributed", "noise", "parquet", "reliability", "rows",
    "speed", "table", "tables",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m skcoteach.benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="EXPERIMENT")
    for name in EXPERIMENTS:
        experiment = import_module(f"skcoteach.benchmarks.{name}")
        summary = (experiment.__doc__ or "").partition("\n")[0].replace("%", "%%")
        command = commands.add_parser(name, help=summary, description=experiment.__doc__)
        experiment.add_arguments(command)
        command.set_defaults(run=experiment.run, command=command)
    options = parser.parse_args(arguments)
    command, run = options.command, options.run
    del options.command, options.run  # what is left goes to other processes, too
    try:
        run(options)
    except OptionError as error:
        command.error(str(error))


if __name__ == "__main__":
    main()
