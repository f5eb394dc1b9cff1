"""Errors for users. Each message says what is wrong, where, what is allowed and what to do."""

from __future__ import annotations


class HebmError(Exception):
    """Any error that a user can fix. Commands print it without a traceback and exit with `exit_status`."""

    exit_status = 1


class ConfigError(HebmError):
    """A configuration that cannot run: unknown keys, wrong types, components that do not fit each other."""

    exit_status = 2


class NeedsModelError(ConfigError):
    """A metric or an option needs a trained model, but only images were given."""


class PluginError(HebmError):
    """A plugin that is missing, broken, ambiguous or of the wrong kind."""

    exit_status = 2


class DataError(HebmError):
    """Images that cannot be read or do not have the expected shape, channels or range."""


class HebmWarning(UserWarning):
    """Any warning of hebm. Commands print it as a note."""


class DataWarning(HebmWarning):
    """Images that are ignored or may be misinterpreted."""


class ConfigWarning(HebmWarning):
    """Keys that apply to another component than the one they were written for."""


class CheckpointError(HebmError):
    """A run folder or checkpoint that is damaged, locked, or belongs to another experiment."""


class NonFiniteError(HebmError):
    """A loss, gradient or sample is NaN or infinite and does not recover."""
