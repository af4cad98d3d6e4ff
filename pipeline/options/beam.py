"""Beam's own parser of its flags: all that its options classes declare."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from pipeline.options.flags import Parser

__all__ = ["BeamParser"]


class BeamParser(Parser, _BeamArgumentParser):
    """Mistakes are ``CollectionError``s."""

    def __init__(self) -> None:
        """Ask each class for its flags."""
        super().__init__(add_help=False)
        for options in {str(each): each for each in PipelineOptions.__subclasses__()}.values():
            options._add_argparse_args(self)  # noqa: SLF001 - as get_all_options does
