"""Order, schedules, retries and pauses; the work itself is in penstock.

Importing this package sets environment variables, the one import side effect in the project: Prefect reads its
settings when it is first imported, so nothing later could keep it from looking for its makers' servers.
A value that is already set wins.
"""

import os

for _name, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Our tasks log through the standard logger; without a running server the API copy would only be thrown away.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # A round must not depend on how long the temporary server of a server-less run takes on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}.items():
    os.environ.setdefault(_name, _value)
