"""Every error penstock raises on purpose.

PenstockError
├── SettingsError      params.yaml or an override cannot be used
├── DataError          input that cannot be accepted
│   ├── SchemaError    a file, column or type is not what the contract says
│   ├── EmptyWindow    a window without a single usable event
│   └── SnapshotRefused  a snapshot failed validation and was quarantined
├── SourceError        a source of events cannot be read; trying again may work
├── StateError         the state database says no
│   ├── LeaseHeld      somebody else holds the lease
│   └── LeaseLost      this worker's fencing token is stale
├── TrainingError      learning produced something that may not be kept (non-finite, spiking)
├── BundleError        a bundle is incomplete, altered or does not fit
├── ExportError        the exported graphs do not reproduce the model
├── GateError          a gate could not be measured (never a pass)
├── RegistryError      a version or alias is not there, or not in the state asked for
│   └── ApprovalError  the decision does not bind: stale, foreign, repeated or unauthorised
├── AccessError        who asks is not known, or may not do this
└── DependencyMissing  an optional package or file is not on this machine

A gate that refuses is a value, not an error.
"""


class PenstockError(Exception):
    """Base of all. The message says what happened, what was observed and expected, where, and the next step."""


class SettingsError(PenstockError):
    """params.yaml or an override cannot be used."""


class DataError(PenstockError):
    """Input that cannot be accepted."""


class SchemaError(DataError):
    """A file, column or type is not what the contract says."""


class EmptyWindow(DataError):
    """A window without a single usable event."""


class SnapshotRefused(DataError):
    """A snapshot failed validation and was quarantined."""


class SourceError(PenstockError):
    """A source of events cannot be read; trying again may work."""


class StateError(PenstockError):
    """The state database says no."""


class LeaseHeld(StateError):
    """Somebody else holds the lease."""


class LeaseLost(StateError):
    """This worker's fencing token is stale."""


class TrainingError(PenstockError):
    """Learning produced something that may not be kept."""


class BundleError(PenstockError):
    """A bundle is incomplete, altered or does not fit."""


class ExportError(PenstockError):
    """The exported graphs do not reproduce the model."""


class GateError(PenstockError):
    """A gate could not be measured; that is never a pass."""


class RegistryError(PenstockError):
    """A version or alias is not there, or not in the state asked for."""


class ApprovalError(RegistryError):
    """The decision does not bind."""


class AccessError(PenstockError):
    """Who asks is not known, or may not do this."""


class DependencyMissing(PenstockError):
    """An optional package or file is not on this machine."""
