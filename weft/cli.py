"""The command line: a table of commands, each imported when it is called, so that a client need not load the server."""

from __future__ import annotations

import importlib

import click

#: Command -> where it is defined, and what ``weft --help`` says of it.
COMMANDS = {
    "serve": ("weft.commands.server:serve", "Serve the API and run jobs, in one process."),
    "api": ("weft.commands.server:api", "Serve the API alone; `weft work` runs the jobs."),
    "work": ("weft.commands.server:work", "Run jobs of the same database that `weft api` fills."),
    "check": ("weft.commands.server:check", "Print what is in force, what is reachable, and what to do."),
    "node": ("weft.commands.node:node", "Join a hub, or look after the nodes of this one."),
    "release": ("weft.commands.release:release", "Review what jobs of a hub made here before it leaves."),
    "db": ("weft.commands.db:db", "Back up, restore, check and migrate the database."),
    "policy": ("weft.commands.policy:policy", "Check the site's policy, and ask it why."),
    "audit": ("weft.commands.audit:audit", "Verify, read and export the audit record."),
    "token": ("weft.commands.token:token", "Give out, list and revoke tokens of people."),
    "task": ("weft.commands.task:task", "Run single tasks on any TES server."),
    "run": ("weft.commands.run:run", "Run workflows on any WES server."),
}


class Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="weft")
def main() -> None:
    """Serve, run and use GA4GH WES and TES.

    Settings come from flags, then from the environment (WEFT_*), then from weft.toml.
    """


if __name__ == "__main__":
    main()
