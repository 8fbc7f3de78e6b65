"""The commands, one module each; `emoverse.cli` puts them together.

Nothing heavy is imported at the top of these modules: `emoverse COMMAND --help` must answer in
under half a second.
"""
