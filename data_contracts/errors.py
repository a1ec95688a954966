"""The error tree: every failure a user can meet, each with what was found and what to do about it.

TsuzukiError
├── UsageError                 wrong command, key, type or name            (exit code 2)
│   ├── ConfigError            a value that the config tree refuses
│   └── MissingPackage         an engine, filter or backend that is not installed
├── ArtifactError              an artifact that cannot be used
│   ├── MissingArtifact        nothing sealed at that path
│   ├── WrongArtifact          another kind or contract version than asked for
│   └── DamagedArtifact        files missing, of another size or of another hash
├── DataError                  the input data breaks a promise
│   ├── ReconciliationError    documents or tokens in differ from those accounted for
│   └── QuarantineLimitError   too many unreadable lines
├── SourceError                a source that cannot be read or downloaded
│   └── TransientSourceError   the same for a reason that may pass           (retried)
├── ModelError                 a model that cannot be loaded or proved
│   └── UnprovenWeightsError   weights that look random, incomplete or different
├── StorageError               the store is full, read-only or not writable
└── WorkerError                a worker process failed
    ├── WorkerLost             it died without saying why                    (retried)
    └── TrainingDiverged       loss became NaN, infinite or exploded
"""

from __future__ import annotations

from typing import Any


class TsuzukiError(Exception):
    """A failure with a `hint`: `str(error)` is the message, then a line `hint: what to do`."""

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders; the default would hand `hint` over by position."""
        return _rebuilt, (type(self), self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


def _rebuilt(kind: type[TsuzukiError], message: str, hint: str) -> TsuzukiError:
    return kind(message, hint=hint)


class UsageError(TsuzukiError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class MissingPackage(UsageError):
    """`extra`: the optional dependencies of this project that hold the package."""

    @classmethod
    def of(cls, what: str, package: str, extra: str) -> MissingPackage:
        return cls(f"`{what}`: needs the package {package}, found none", hint=f"pip install 'tsuzuki[{extra}]'")


class ArtifactError(TsuzukiError):
    pass


class MissingArtifact(ArtifactError):
    pass


class WrongArtifact(ArtifactError):
    pass


class DamagedArtifact(ArtifactError):
    pass


class DataError(TsuzukiError):
    pass


class ReconciliationError(DataError):
    pass


class QuarantineLimitError(DataError):
    pass


class SourceError(TsuzukiError):
    pass


class TransientSourceError(SourceError):
    retryable = True


class ModelError(TsuzukiError):
    pass


class UnprovenWeightsError(ModelError):
    pass


class StorageError(TsuzukiError):
    pass


class WorkerError(TsuzukiError):
    pass


class WorkerLost(WorkerError):
    retryable = True


class TrainingDiverged(WorkerError):
    pass
