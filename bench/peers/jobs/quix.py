"""Quix Streams: a topic's next messages, to Parquet files a partition and commit.

python quix.py BOOTSTRAP_SERVERS TOPIC DIRECTORY MESSAGES
"""

import sys

from quixstreams import Application
from quixstreams.sinks.community.file.formats.parquet import ParquetFormat
from quixstreams.sinks.community.file.local import LocalFileSink

servers, topic, directory, messages = sys.argv[1:]

application = Application(
    servers, consumer_group=f"quix-{topic}", auto_offset_reset="earliest", loglevel="WARNING"
)
rows = application.dataframe(application.topic(topic, value_deserializer="json"))
rows.sink(LocalFileSink(directory=directory, format=ParquetFormat(compression="zstd")))
application.run(count=int(messages), collect=False)
