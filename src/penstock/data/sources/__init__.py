"""Where events come from beside HTTP: files, Redis Streams and Kafka, each named by an address."""

import os
import socket
from urllib.parse import parse_qsl, urlsplit

from penstock.data.sources.protocol import Source
from penstock.errors import SettingsError
from penstock.settings import SourceSettings

FORMS = (
    "files:FOLDER or files:s3://BUCKET/FOLDER, redis://HOST:PORT/DB?stream=NAME, kafka://HOST:PORT/TOPIC; "
    "redis and kafka take &group=NAME"
)


def open_source(address: str, settings: SourceSettings) -> Source:
    """The source that an address names.

    Raises:
        SettingsError: not an address of a source.
        DependencyMissing: its package is not installed.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "files" and rest:
        from penstock.data.sources.files import FileSource

        return FileSource(rest)
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query))
    group = options.pop("group", settings.group)
    if scheme in ("redis", "rediss") and parts.netloc and set(options) == {"stream"}:
        from penstock.data.sources.redis_streams import RedisSource

        consumer = f"{socket.gethostname()}:{os.getpid()}"
        return RedisSource(
            f"{scheme}://{parts.netloc}{parts.path}", options["stream"], group, consumer, settings.claim_idle_s
        )
    if scheme == "kafka" and parts.netloc and parts.path.strip("/") and not options:
        from penstock.data.sources.kafka import KafkaSource

        return KafkaSource(parts.netloc, parts.path.strip("/"), group)
    raise SettingsError(f"{address!r} is no address of a source, expected {FORMS}")
