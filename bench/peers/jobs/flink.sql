-- Flink SQL: what a topic holds now, to Parquet by the minute.
SET 'execution.target' = 'local';
SET 'execution.runtime-mode' = 'streaming';
SET 'execution.checkpointing.interval' = '10s';
SET 'parallelism.default' = '2';
SET 'table.dml-sync' = 'true';
CREATE TABLE messages (
  id BIGINT, sensor STRING, `value` DOUBLE, `count` BIGINT, status STRING, place STRING,
  stamp TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'
) WITH (
  'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{servers}',
  'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'json'
);
CREATE TABLE files (
  id BIGINT, sensor STRING, `value` DOUBLE, `count` BIGINT, status STRING, place STRING, minute_ STRING
) PARTITIONED BY (minute_) WITH (
  'connector' = 'filesystem', 'path' = 'file://{directory}', 'format' = 'parquet', 'parquet.compression' = 'ZSTD'
);
INSERT INTO files
  SELECT id, sensor, `value`, `count`, status, place, DATE_FORMAT(stamp, 'yyyyMMddHHmm') FROM messages;
