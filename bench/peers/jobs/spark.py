"""Spark Structured Streaming: what a topic holds now, to Parquet by the minute.

spark-submit spark.py BOOTSTRAP_SERVERS TOPIC DIRECTORY
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, date_format, from_json

FIELDS = "id BIGINT, sensor STRING, value DOUBLE, count BIGINT, status STRING, place STRING"
servers, topic, directory = sys.argv[1:]

spark = SparkSession.builder.getOrCreate()
messages = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", servers)
    .option("subscribe", topic)
    .option("startingOffsets", "earliest")
    .load()
)
row = from_json(col("value").cast("string"), FIELDS).alias("row")
minute = date_format("timestamp", "yyyyMMdd'T'HHmm").alias("minute")
query = (
    messages.select(row, minute)
    .select("row.*", "minute")
    .writeStream.format("parquet")
    .option("path", f"{directory}/data")
    .option("checkpointLocation", f"{directory}/checkpoints")
    .option("compression", "zstd")
    .partitionBy("minute")
    .trigger(availableNow=True)
    .start()
)
query.awaitTermination()
