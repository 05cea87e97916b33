"""The defaults of `Settings` are those of the predict commands."""

from common import cli
from conversion import command
from conversion.converter import Settings


def test_without_flags_the_commands_use_the_default_settings():
    parser = cli.Parser("predict")
    command.add_arguments(parser)
    assert command.read_settings(parser.parse_args(["--model", "m.h5"])) == Settings()
    command.add_hum_arguments(parser)
    arguments = parser.parse_args(["--model", "m.h5"])
    assert command.read_settings(arguments, command.read_hum_settings(arguments)) == Settings()
